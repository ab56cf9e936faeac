import ArgumentParser
import Foundation
import Logging
import Synchronization
import TelemetryWAL
import WALFormat

enum Mode: String, ExpressibleByArgument, CaseIterable {
    case blocking, async, enqueue
}

extension CompressionPolicy: ExpressibleByArgument {}

extension WritePath: ExpressibleByArgument {
    public init?(argument: String) {
        switch argument {
        case "auto": self = .automatic
        case "ring": self = .ring
        case "plain": self = .plain
        default: return nil
        }
    }
}

/// `walbench append`: durable appends for a while, latency by call.
struct AppendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "append", abstract: "Append records and wait for each call to be durable.")

    @Option(help: "The log's directory.") var directory: String
    @Option(help: "A file whose bytes become the records' payloads.") var corpus: String
    @Option(help: "Seconds to measure, after half a second of warm-up.") var seconds = 3.0
    @Option(help: "Appends on their way at a time.") var writers = 1
    @Option(help: "Records a call.") var batch = 1
    @Option(help: "Bytes a record.") var recordSize = 512
    @Option(help: "Tenants, taken in turns.") var tenants = 1
    @Option(help: "blocking: threads; async: tasks; enqueue: one producer that waits for nothing.")
    var mode = Mode.blocking
    @Option(help: "auto, ring (io_uring) or plain.") var io = WritePath.automatic
    @Option(help: "Bytes to append at most; the measurement ends there. 0: no limit.") var limit: UInt64 = 0
    @Option(help: "When commits are compressed: automatic, always, never.")
    var compression = CompressionPolicy.automatic
    @Flag(help: "Keep all records instead of acknowledging them while appending.") var keep = false
    @OptionGroup var encryption: EncryptionOption

    /// What a measurement says.
    struct Answer: Encodable {
        struct Latency: Encodable {
            var p50, p90, p99, p999, max: UInt64
        }

        var driver = "telemetry-wal"
        var version = "0.1.0"
        var operation = "append"
        var mode: String
        var io: String
        var isEncrypted: Bool
        var writers, batch, recordSize, tenants: Int
        var seconds: Double
        /// Only under `counting_malloc`.
        var allocationsPerAppend: Double?
        var deviceBytes: UInt64?
        var appends, records, payloadBytes, writtenBytes, journalBytes, flushes, commits, backPressure: UInt64
        var latency: Latency
        var histogram: [[UInt64]]
    }

    /// Brings the log to where it is after its first minutes: its files have been written once and are used again.
    private func prime(_ wal: WriteAheadLog) throws {
        guard !keep else { return }
        let record = TelemetryRecord(kind: .opaque, payload: [UInt8](repeating: 7, count: 1 << 20))
        for _ in 0..<8 {
            for _ in 0..<64 { try wal.appendBlocking(record, tenant: "prime") }
            usleep(100_000)
        }
    }

    func run() async throws {
        var options = WriteAheadLogOptions()
        options.writePath = io
        options.compression = compression
        options.journalLimit = 32 << 30
        // What is measured here is the journal.
        options.segmentLimit = 0
        options.keyProvider = try encryption.keyProvider
        options.logger = Logger(label: "walbench") { _ in SwiftLogNoOpLogHandler() }
        let wal = try await WriteAheadLog.open(at: directory, options: options)
        let load = try Load(corpus: corpus, recordSize: recordSize, batch: batch, tenants: tenants, writers: writers)
        let subscriber = keep ? nil : Acknowledger(wal)
        try prime(wal)
        let clock = Clock(seconds: seconds, limit: limit)
        let watch = Watch(wal, directory: directory, seconds: seconds)
        let results: [Writer.Result] =
            switch mode {
            case .blocking: Writer.blocking(wal, load, clock)
            case .async: try await Writer.async(wal, load, clock)
            case .enqueue: [try await Writer.enqueue(wal, load, clock)]
            }
        let ended = now()
        let (before, after) = watch.wait()
        subscriber?.stop()
        try await wal.close()
        var total = Histogram()
        for result in results { total.merge(result.latency) }
        let elapsed = Double(min(ended, clock.end) - clock.start) / 1e9
        try printLine(
            Answer(
                mode: mode.rawValue, io: wal.writePath.rawValue, isEncrypted: encryption.encrypt,
                writers: writers, batch: batch, recordSize: recordSize, tenants: tenants, seconds: elapsed,
                allocationsPerAppend: after.allocations.flatMap { end in
                    before.allocations.map { Double(end - $0) / Double(max(1, total.count)) }
                },
                deviceBytes: after.device.flatMap { end in before.device.map { end - $0 } }, appends: total.count,
                records: total.count * UInt64(batch), payloadBytes: total.count * UInt64(batch * recordSize),
                writtenBytes: after.written - before.written,
                journalBytes: after.statistics.bytesWritten - before.statistics.bytesWritten,
                flushes: after.statistics.writes - before.statistics.writes,
                commits: after.statistics.commits - before.statistics.commits,
                backPressure: after.statistics.backPressure - before.statistics.backPressure,
                latency: .init(
                    p50: total.quantile(0.5), p90: total.quantile(0.9), p99: total.quantile(0.99),
                    p999: total.quantile(0.999), max: total.maximum),
                histogram: total.buckets))
    }
}

/// Reads the counters at both ends of the measured time, on a thread of its own: pinned to one processor, Swift's pool
/// has one thread, and the writers have that.
final class Watch: @unchecked Sendable {
    struct Counters {
        var written: UInt64
        var statistics: CommitStatistics
        var allocations: UInt64?
        var device: UInt64?
    }

    private let ended = DispatchSemaphore(value: 0)
    // Written by the thread, read after `ended`.
    private var ends: (Counters, Counters)?

    init(_ wal: WriteAheadLog, directory: String, seconds: Double) {
        Thread.detachNewThread { [self] in
            func counters() -> Counters {
                Counters(
                    written: writtenBytes(), statistics: wal.statistics, allocations: allocations(),
                    device: deviceBytes(directory))
            }
            Thread.sleep(forTimeInterval: 0.5)
            let start = counters()
            Thread.sleep(forTimeInterval: seconds)
            ends = (start, counters())
            ended.signal()
        }
    }

    func wait() -> (Counters, Counters) {
        ended.wait()
        return ends!
    }
}

/// When counting begins and ends.
final class Clock: Sendable {
    let start: UInt64
    let end: UInt64
    private let left: Atomic<Int>

    init(seconds: Double, limit: UInt64) {
        start = now() + 500_000_000
        end = start + UInt64(seconds * 1e9)
        left = Atomic(limit == 0 ? .max : Int(limit))
    }

    /// Whether another append is due at a moment.
    func allows(_ moment: UInt64, bytes: Int) -> Bool {
        moment < end && left.wrappingSubtract(bytes, ordering: .relaxed).newValue > 0
    }
}

/// What writers append: slices of the corpus, made beforehand so that making them is not measured.
struct Load: Sendable {
    let batches: [[TelemetryRecord]]
    let tenants: [TenantName]
    let writers: Int
    let bytes: Int

    init(corpus: String, recordSize: Int, batch: Int, tenants: Int, writers: Int) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: corpus)))
        guard !bytes.isEmpty else { throw ValidationError("\(corpus) is empty") }
        let count = max(1, min(64 << 20, bytes.count) / (recordSize * batch))
        var offset = 0
        batches = (0..<min(count, 4096)).map { _ in
            (0..<batch).map { _ in
                var payload: [UInt8] = []
                payload.reserveCapacity(recordSize)
                while payload.count < recordSize {
                    if offset == bytes.count { offset = 0 }
                    let part = bytes[offset..<min(bytes.count, offset + recordSize - payload.count)]
                    payload += part
                    offset = part.endIndex
                }
                return TelemetryRecord(kind: .span, timestamp: 1_766_000_000_000_000_000, payload: payload)
            }
        }
        self.tenants = try (0..<tenants).map { try TenantName("tenant-\($0)") }
        self.writers = writers
        self.bytes = recordSize * batch
    }

    func batch(_ writer: Int, _ number: Int) -> [TelemetryRecord] {
        batches[(writer &+ number &* writers) % batches.count]
    }
    func tenant(_ writer: Int, _ number: Int) -> TenantName { tenants[(writer &+ number &* writers) % tenants.count] }
}

/// Acknowledges what was appended, as a collector that keeps up does: the journal's files are used again and again.
final class Acknowledger: Sendable {
    private let isStopped = Atomic<Bool>(false)
    private let wal: WriteAheadLog

    init(_ wal: WriteAheadLog) {
        self.wal = wal
        try? wal.register(subscriber: "collector")
        Thread.detachNewThread { [self] in
            while !isStopped.load(ordering: .relaxed) {
                usleep(50_000)
                for tenant in wal.tenants where tenant.nextSequence > 1 {
                    wal.acknowledge(through: tenant.nextSequence - 1, of: tenant.name, subscriber: "collector")
                }
            }
        }
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }
}
