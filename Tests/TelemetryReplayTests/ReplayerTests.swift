import Foundation
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// The replayer with exporters of the test's own.
@Suite struct ReplayerTests {
    let directory = TemporaryDirectory()

    private func log(tenants: Int, records: Int, length: Int) async throws -> WriteAheadLog {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 2 << 20))
        try await append(1...records, to: log, tenants: tenants, length: length)
        return log
    }

    private func append(_ numbers: ClosedRange<Int>, to log: WriteAheadLog, tenants: Int, length: Int) async throws {
        for start in stride(from: numbers.lowerBound, through: numbers.upperBound, by: 20) {
            let batch = (start..<min(start + 20, numbers.upperBound + 1)).map { numberedRecord($0, length: length) }
            for tenant in 0..<tenants { try await log.append(contentsOf: batch, tenant: try TenantName("t\(tenant)")) }
        }
    }

    private func cursor(_ log: WriteAheadLog, _ tenant: TenantName, _ subscriber: TenantName = "s") -> UInt64? {
        log.tenants.first { $0.name == tenant }?.acknowledgedThrough[subscriber]
    }

    @Test func orderWithinATenantIsKeptAndRequestsAreBounded() async throws {
        let log = try await log(tenants: 10, records: 200, length: 300)
        var options = ReplayOptions()
        options.maximumBatchRecords = 13
        let exporter = TestExporter(deliversInOrder: true)
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && summary.deliveredRecords == 2000 && summary.deliveredTenants == 10, "\(summary)")
        for tenant in 0..<10 { #expect(exporter.sequences(try TenantName("t\(tenant)")) == Array(1...200)) }
        #expect(exporter.mostUnderWay <= options.maximumConcurrentRequests)
        #expect(exporter.mostOfOne == 1)
        #expect(exporter.batches.allSatisfy { $0.records.count <= 13 })
        try await log.close()
    }

    @Test func requestsOfOneTenantAreBoundedToo() async throws {
        let log = try await log(tenants: 1, records: 400, length: 100)
        var options = ReplayOptions()
        options.maximumBatchRecords = 10
        options.maximumRequestsPerTenant = 3
        let exporter = TestExporter()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && exporter.sequences("t0").sorted() == Array(1...400))
        #expect(exporter.mostOfOne == 3)
        try await log.close()
    }

    @Test(arguments: [false, true])
    func stalledTenantHoldsUpNobodyEvenWithASmallBuffer(isCompacted: Bool) async throws {
        let log = try await log(tenants: 6, records: 300, length: 1000)
        if isCompacted {
            try log.register(subscriber: "s")
            try log.compactBlocking()
        }
        var options = ReplayOptions()
        options.maximumBufferedBytes = 200_000
        options.maximumBatchRecords = 20
        options.giveUpAfter = .milliseconds(300)
        let exporter = TestExporter {
            $0.tenant == "t0" ? .retry(reason: "stalled", after: nil) : await TestExporter.takes($0)
        }
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(exporter.sequences("t0").isEmpty)
        for tenant in 1..<6 { #expect(exporter.sequences(try TenantName("t\(tenant)")).sorted() == Array(1...300)) }
        #expect(summary.givenUpRecords == 300 && !summary.isComplete)
        #expect(cursor(log, "t0") == 0)
        try await log.close()
    }

    @Test func eachSubscriberGetsEverything() async throws {
        let log = try await log(tenants: 3, records: 50, length: 100)
        for subscriber in ["a", "b"] as [TenantName] {
            let exporter = TestExporter()
            _ = try await Replayer(log: log, subscriber: subscriber, exporter: exporter).drain()
            #expect(exporter.sequences("t1").sorted() == Array(1...50))
        }
        try await log.close()
    }

    @Test func kindsOfOneTenantGoInRequestsOfTheirOwn() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        for number in 1...60 {
            try await log.append(numberedRecord(number, kind: RecordKind.allCases[number % 4]), tenant: "t")
        }
        let exporter = TestExporter()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter).drain()
        #expect(summary.isComplete && exporter.batches.count == 4)
        #expect(exporter.batches.allSatisfy { batch in batch.records.allSatisfy { $0.kind == batch.kind } })
        #expect(exporter.sequences("t").sorted() == Array(1...60))
        #expect(cursor(log, "t") == 60)
        try await log.close()
    }

    @Test func someTenantsOnly() async throws {
        let log = try await log(tenants: 4, records: 50, length: 100)
        var options = ReplayOptions()
        options.tenants = ["t1", "t3"]
        let exporter = TestExporter()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && summary.deliveredRecords == 100)
        #expect(exporter.sequences("t0").isEmpty && exporter.sequences("t3").count == 50)
        #expect(cursor(log, "t0") == 0 && cursor(log, "t1") == 50)
        try await log.close()
    }

    @Test func viewMovesNoCursor() async throws {
        let log = try await log(tenants: 2, records: 50, length: 100)
        try log.register(subscriber: "s")
        try await log.close()
        let exporter = TestExporter()
        let view = try WriteAheadLogReader(at: directory.path)
        let summary = try await Replayer.drain(view, from: 31, to: exporter)
        #expect(summary.isComplete && summary.deliveredRecords == 40)
        #expect(exporter.sequences("t1").sorted() == Array(31...50))
        let failing = TestExporter { _ in .retry(reason: "down", after: nil) }
        let failed = try await Replayer.drain(view, to: failing)
        #expect(failed.deliveredRecords == 0 && failed.givenUpRecords == 100)
        let refusing = TestExporter {
            $0.records.contains { $0.sequence == 7 } ? .refused(reason: "no") : await TestExporter.takes($0)
        }
        let refused = try await Replayer.drain(view, to: refusing)
        #expect(refused.deliveredRecords == 98 && refused.givenUpRecords == 2 && refused.deadLetters == 0)
        #expect(try WriteAheadLogReader(at: directory.path).tenants.allSatisfy { $0.acknowledgedThrough["s"] == 0 })
    }

    @Test func weightsShareWhatTheReceiverTakes() async throws {
        let log = try await log(tenants: 2, records: 400, length: 200)
        var options = ReplayOptions()
        options.maximumBatchRecords = 10
        options.maximumBatchBytes = 2000
        options.maximumConcurrentRequests = 1
        options.maximumRequestsPerTenant = 100
        options.tenantWeights = ["t1": 3]
        let exporter = TestExporter()
        #expect(try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain().isComplete)
        let first = exporter.batches.prefix(40)
        let ratio = Double(first.count { $0.tenant == "t1" }) / Double(first.count { $0.tenant == "t0" })
        #expect(ratio > 2.5 && ratio < 3.5, "three times the weight, \(ratio) times the requests")
        try await log.close()
    }

    @Test func ratesAreKept() async throws {
        let log = try await log(tenants: 3, records: 100, length: 100)
        var options = ReplayOptions()
        options.maximumBatchRecords = 10
        options.maximumRecordsPerSecond = 200
        let start = ContinuousClock.now
        let exporter = TestExporter()
        #expect(try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain().isComplete)
        // A second's worth at once, and the last batch may be ahead: 300 - 200 - 10 records take so long at least.
        #expect(ContinuousClock.now - start >= .milliseconds(440))
        try await log.close()
    }

    // MARK: - Newest first

    @Test func newIsSentBeforeOldAndOldIsNotForgotten() async throws {
        let log = try await log(tenants: 2, records: 300, length: 100)
        try log.register(subscriber: "s")
        var options = ReplayOptions()
        options.maximumBatchRecords = 10
        options.order = .newestFirst
        options.maximumBatchAge = .zero
        options.maximumConcurrentRequests = 1
        let exporter = TestExporter()
        let replayer = Replayer(log: log, subscriber: "s", exporter: exporter, options: options)
        // New records come while the old ones are on their way.
        let service = Task { try await replayer.run() }
        await patiently { exporter.batches.count >= 2 }
        try await append(301...340, to: log, tenants: 2, length: 100)
        await patiently { exporter.sequences("t0").count == 340 && exporter.sequences("t1").count == 340 }
        service.cancel()
        try await service.value
        let order = exporter.batches.filter { $0.tenant == "t1" }.map { $0.records[0].sequence }
        let lastNew = try #require(order.lastIndex { $0 > 300 })
        let lastOld = try #require(order.lastIndex { $0 <= 300 })
        #expect(lastNew < lastOld, "what was new waited for all that was old: \(order)")
        #expect(Set(exporter.sequences("t0")).count == 340)
        try await log.close()
    }

    @Test func accountOfWhatIsOldEndsWhereATenantWasErased() async throws {
        let log = try await log(tenants: 2, records: 50, length: 100)
        try log.register(subscriber: "s")
        try await log.erase("t0")
        var options = ReplayOptions()
        options.order = .newestFirst
        let exporter = TestExporter()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && exporter.sequences("t1").sorted() == Array(1...50))
        #expect(log.subscribers == ["s"])
        try await log.close()
    }

    @Test func newestFirstOfSomeTenantsLeavesTheOthersAlone() async throws {
        let log = try await log(tenants: 2, records: 50, length: 100)
        try log.register(subscriber: "s")
        var options = ReplayOptions()
        options.order = .newestFirst
        options.tenants = ["t0"]
        let exporter = TestExporter()
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && exporter.sequences("t0").sorted() == Array(1...50))
        #expect(cursor(log, "t0") == 50 && cursor(log, "t1") == 0 && log.subscribers == ["s"])
        try await log.close()
    }

    /// A tenant whose records were given up for others' room is waited for, not forgotten.
    @Test func runDoesNotEndBeforeWhoWasGivenNoRoom() async throws {
        let log = try await log(tenants: 4, records: 100, length: 1000)
        var options = ReplayOptions()
        options.maximumBufferedBytes = 60_000
        options.maximumBatchBytes = 10_000
        options.initialBackoff = .milliseconds(300)
        let failures = Shared(0)
        let exporter = TestExporter { batch in
            if batch.tenant == "t0", failures.value < 4 {
                failures.change { $0 += 1 }
                return .retry(reason: "busy", after: .milliseconds(400))
            }
            return await TestExporter.takes(batch)
        }
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete && summary.deliveredRecords == 400)
        #expect(exporter.sequences("t0").sorted() == Array(1...100))
        try await log.close()
    }

    @Test func oldIsGoneOnWithAfterAnInterruption() async throws {
        let log = try await log(tenants: 2, records: 100, length: 100)
        try log.register(subscriber: "s")
        var options = ReplayOptions()
        options.maximumBatchRecords = 10
        options.order = .newestFirst
        options.giveUpAfter = .zero
        let down = TestExporter { _ in .retry(reason: "down", after: nil) }
        _ = try await Replayer(log: log, subscriber: "s", exporter: down, options: options).drain()
        #expect(log.subscribers.contains("s~backfill"))
        try await append(101...120, to: log, tenants: 2, length: 100)
        try await log.close()

        let again = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 2 << 20))
        options.order = .oldestFirst
        let exporter = TestExporter()
        let summary = try await Replayer(log: again, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.isComplete)
        #expect(exporter.sequences("t0").sorted() == Array(1...120), "each once")
        #expect(again.subscribers == ["s"], "the account ends with the backlog")
        #expect(cursor(again, "t1") == 120)
        try await again.close()
    }
}

/// Waits until something holds, for so long that only a hang would not let it.
func patiently(_ condition: @Sendable () -> Bool) async {
    for _ in 0..<6000 where !condition() { try? await Task.sleep(for: .milliseconds(10)) }
}
