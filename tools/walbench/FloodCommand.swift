import ArgumentParser
import Foundation
import Logging
import Synchronization
import TelemetryWAL
import WALFormat

/// `walbench flood`: what a tenant that appends a little waits for while others enqueue more than the device takes, and
/// how those share it.
struct FloodCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flood", abstract: "Append a little beside tenants that flood the log, and measure both.",
        discussion: """
            Three times: the quiet tenant alone; beside the flood, by append; beside the flood, by enqueue and a barrier,
            which waits for all that is enqueued, as an append would that cannot go before it.
            """)

    @Option(help: "The log's directory.") var directory: String
    @Option(help: "Seconds of each of the three.") var seconds = 5.0
    @Option(help: "Bytes a record of the flood.") var floodSize = 4096
    @Option(help: "Bytes a record of the quiet tenant.") var recordSize = 512
    @Option(help: "Weights of the tenants that flood, one thread each.") var weights: [Int] = [100, 300]
    @Option(help: "Journal files held ready.") var spareFiles = 2
    @Option(help: "Microseconds between the quiet tenant's records.") var interval: UInt32 = 1000

    struct Answer: Encodable {
        struct Part: Encodable {
            var how: String
            /// Nanoseconds.
            var records, p50, p99, max: UInt64
            /// Bytes a second of each tenant that floods.
            var floods: [Double]
            /// The same, of the first, divided by its weight; 1 would be exact.
            var sharesPerWeight: [Double]
        }

        var driver = "telemetry-wal"
        var operation = "flood"
        var weights: [Int]
        var parts: [Part]
        var passingAppends: UInt64
    }

    func run() async throws {
        guard weights.count >= 1, floodSize >= 16, recordSize >= 16, seconds > 0 else {
            throw ValidationError("give at least one weight, sizes from 16 on, and some seconds")
        }
        var options = WriteAheadLogOptions()
        options.compression = .never
        options.spareFiles = spareFiles
        let flooders = try weights.indices.map { try TenantName("flooder-\($0)") }
        for (tenant, weight) in zip(flooders, weights) { options.tenantWeights[tenant] = weight }
        options.logger = Logger(label: "walbench") { _ in SwiftLogNoOpLogHandler() }
        let wal = try WriteAheadLog.openBlocking(at: directory, options: options)
        // Everything is delivered at once, so that files are used again and not made.
        try wal.register(subscriber: "collector")
        let ends = Flag()
        let collector = Thread {
            while !ends.isSet {
                for tenant in wal.tenants {
                    wal.acknowledge(through: tenant.nextSequence - 1, of: tenant.name, subscriber: "collector")
                }
                usleep(10_000)
            }
        }
        collector.start()
        var parts = [try await part("alone", wal, flooders: [])]
        parts.append(try await part("append", wal, flooders: flooders))
        parts.append(try await part("enqueue and barrier", wal, flooders: flooders))
        ends.set()
        while !collector.isFinished { usleep(1000) }
        try wal.closeBlocking()
        try printLine(Answer(weights: weights, parts: parts, passingAppends: wal.statistics.passingAppends))
    }

    private func part(_ how: String, _ wal: WriteAheadLog, flooders: [TenantName]) async throws -> Answer.Part {
        let ends = Flag()
        let payload = [UInt8](repeating: 7, count: floodSize)
        let threads = flooders.map { tenant in
            Thread {
                let record = TelemetryRecord(kind: .opaque, payload: payload)
                while !ends.isSet {
                    do { _ = try wal.enqueue(record, tenant: tenant) } catch { usleep(50) }
                }
            }
        }
        for thread in threads { thread.start() }
        // Until the line is as long as it gets.
        if !flooders.isEmpty { try await Task.sleep(for: .milliseconds(500)) }
        func taken() -> [UInt64] {
            flooders.map { tenant in wal.tenants.first { $0.name == tenant }?.nextSequence ?? 1 }
        }
        let (before, start) = (taken(), now())
        var histogram = Histogram()
        let record = TelemetryRecord(kind: .opaque, payload: [UInt8](repeating: 8, count: recordSize))
        while Double(now() - start) / 1e9 < seconds {
            let begun = now()
            if how == "enqueue and barrier" {
                try wal.durableBlocking(through: try enqueue(record, "quiet", to: wal))
            } else {
                try wal.appendBlocking(record, tenant: "quiet")
            }
            histogram.add(now() - begun)
            usleep(interval)
        }
        let duration = Double(now() - start) / 1e9
        let floods = zip(taken(), before).map { Double(($0 - $1) * UInt64(floodSize)) / duration }
        ends.set()
        while threads.contains(where: { !$0.isFinished }) { usleep(1000) }
        let shares = zip(floods, weights).map { $0 / floods[0] * Double(weights[0]) / Double($1) }
        return Answer.Part(
            how: how, records: histogram.count, p50: histogram.quantile(0.5), p99: histogram.quantile(0.99),
            max: histogram.maximum, floods: floods, sharesPerWeight: shares)
    }

    /// Enqueues where there is room, and waits until there is.
    private func enqueue(_ record: TelemetryRecord, _ tenant: TenantName, to wal: WriteAheadLog) throws -> Ticket {
        while true {
            do throws(WALError) { return try wal.enqueue(record, tenant: tenant) } catch {
                switch error {
                case .stagingFull, .journalFull: usleep(50)
                default: throw error
                }
            }
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic<Bool>(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}
