import Foundation
import Synchronization
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// The replayer with exporters of the test's own.
@Suite struct ReplayerTests {
    let directory = TemporaryDirectory()

    /// Keeps what it is given; stalls for one tenant.
    private final class Recorder: TelemetryExporter {
        let destination = "test"
        let stalled: TenantName?
        private let taken = Mutex<[TenantName: [UInt64]]>([:])
        private let underWay = Mutex<(now: Int, most: Int)>((0, 0))
        var records: [TenantName: [UInt64]] { taken.withLock { $0 } }
        var mostUnderWay: Int { underWay.withLock { $0.most } }

        init(stalled: TenantName? = nil) { self.stalled = stalled }

        func export(_ batch: ExportBatch) async -> ExportResult {
            underWay.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
            defer { underWay.withLock { $0.now -= 1 } }
            try? await Task.sleep(for: .milliseconds(1))
            if batch.tenant == stalled { return .retry(reason: "stalled", after: nil) }
            taken.withLock { $0[batch.tenant, default: []] += batch.records.map(\.sequence) }
            return .delivered(rejected: 0, message: nil)
        }
    }

    private func log(tenants: Int, records: Int, length: Int) async throws -> WriteAheadLog {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 2 << 20))
        for start in stride(from: 1, through: records, by: 20) {
            let batch = (start..<min(start + 20, records + 1)).map { numberedRecord($0, length: length) }
            for tenant in 0..<tenants { try await log.append(contentsOf: batch, tenant: try TenantName("t\(tenant)")) }
        }
        return log
    }

    @Test func orderWithinATenantIsKeptAndRequestsAreBounded() async throws {
        let log = try await log(tenants: 10, records: 200, length: 300)
        var options = ReplayOptions()
        options.maximumBatchRecords = 13
        let recorder = Recorder()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: recorder, options: options).drain()
        #expect(summary.isComplete)
        for tenant in 0..<10 { #expect(recorder.records[try TenantName("t\(tenant)")] == Array(1...200)) }
        #expect(recorder.mostUnderWay <= options.maximumConcurrentRequests)
        try await log.close()
    }

    @Test func stalledTenantHoldsUpNobodyEvenWithASmallBuffer() async throws {
        let log = try await log(tenants: 6, records: 300, length: 1000)
        var options = ReplayOptions()
        options.maximumBufferedBytes = 200_000
        options.maximumBatchRecords = 20
        options.giveUpAfter = .milliseconds(300)
        let recorder = Recorder(stalled: "t0")
        let summary = try await Replayer(log: log, subscriber: "s", exporter: recorder, options: options).drain()
        #expect(recorder.records["t0"] == nil)
        for tenant in 1..<6 { #expect(recorder.records[try TenantName("t\(tenant)")] == Array(1...300)) }
        #expect(summary.givenUpRecords == 300)
        #expect(log.tenants.first { $0.name == "t0" }?.acknowledgedThrough["s"] == 0)
        try await log.close()
    }

    @Test func eachSubscriberGetsEverything() async throws {
        let log = try await log(tenants: 3, records: 50, length: 100)
        for subscriber in ["a", "b"] as [TenantName] {
            let recorder = Recorder()
            _ = try await Replayer(log: log, subscriber: subscriber, exporter: recorder).drain()
            #expect(recorder.records["t1"] == Array(1...50))
        }
        try await log.close()
    }
}
