import ArgumentParser
import Foundation
import Logging
import Synchronization
import TelemetryWAL
import WALFormat

/// `walbench outage`: a receiver is down while many tenants append; then it comes back and takes everything.
struct OutageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "outage", abstract: "Append while nobody takes anything, then deliver all of it, and count.",
        discussion: """
            Latencies are kept apart: of appends while nothing moved out of the journal, and of those while something
            did. Each record has its number, which is held against what is delivered.
            """)

    @Option(help: "The log's directory.") var directory: String
    @Option(help: "A file whose bytes become the records' payloads.") var corpus: String
    @Option(help: "Records in all.") var records = 10_000_000
    @Option(help: "Bytes a record.") var recordSize = 512
    @Option(help: "Tenants.") var tenants = 1000
    @Option(help: "Appends on their way at a time, by tasks.") var writers = 64
    @Option(help: "Records a call.") var batch = 8
    @Option(help: "Calls a second in all; 0: as many as go.") var rate = 0
    @Flag(help: "Close the log and open it again before anything is delivered.") var reopen = false
    @Option(help: "Bytes of the journal that wait before any move, in MiB.") var thresholdMib: UInt64 = 1024
    @OptionGroup var encryption: EncryptionOption

    struct Answer: Encodable {
        struct Latency: Encodable {
            var appends, p50, p99, p999, max: UInt64

            init(_ histogram: Histogram) {
                appends = histogram.count
                p50 = histogram.quantile(0.5)
                p99 = histogram.quantile(0.99)
                p999 = histogram.quantile(0.999)
                max = histogram.maximum
            }
        }

        var driver = "telemetry-wal"
        var operation = "outage"
        var records, tenants, recordSize, batch, writers: Int
        var appendSeconds, deliverSeconds, reopenSeconds: Double
        var payloadBytes, writtenBytes, journalBytes, segmentBytesWritten, segmentBytes: UInt64
        var writtenPerPayloadByte: Double
        var segments: Int
        var filesCompacted, segmentsMerged, recordsMoved: UInt64
        /// Of this process, at most: while appending, and in all.
        var residentBytesAppending, residentBytes: UInt64
        var descriptors: Int
        /// Nanoseconds.
        var atRest, whileCompacting: Latency
        var delivered, missing, doubled, wrong: UInt64
        var backPressure: UInt64
    }

    func run() async throws {
        var options = WriteAheadLogOptions()
        options.journalLimit = 8 << 30
        options.compactionThreshold = thresholdMib << 20
        options.keyProvider = try encryption.keyProvider
        options.logger = Logger(label: "walbench") { _ in SwiftLogNoOpLogHandler() }
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: corpus)))
        guard bytes.count >= recordSize, recordSize >= 16 else { throw ValidationError("the corpus is too short") }
        var wal = try await WriteAheadLog.open(at: directory, options: options)
        try wal.register(subscriber: "collector")
        let watch = ProcessWatch()
        let written = writtenBytes()
        let start = now()
        let (atRest, whileCompacting) = try await append(to: wal, bytes)
        let appendSeconds = Double(now() - start) / 1e9
        let residentAppending = ProcessWatch.mostResidentBytes
        let statistics = wal.compactionStatistics
        let (commits, journal) = (wal.statistics, wal.statistics.bytesWritten)
        let (segments, segmentBytes) = (wal.segmentCount, wal.segmentLength)
        let total = writtenBytes() - written
        if reopen { try await wal.close() }
        let closed = now()
        if reopen { wal = try await WriteAheadLog.open(at: directory, options: options) }
        let opened = now()
        let found = try await deliver(wal)
        let delivered = now()
        try await wal.close()
        let (resident, descriptors) = watch.stop()
        let payload = UInt64(records) * UInt64(recordSize)
        try printLine(
            Answer(
                records: records, tenants: tenants, recordSize: recordSize, batch: batch, writers: writers,
                appendSeconds: appendSeconds, deliverSeconds: Double(delivered - opened) / 1e9,
                reopenSeconds: Double(opened - closed) / 1e9, payloadBytes: payload, writtenBytes: total,
                journalBytes: journal, segmentBytesWritten: statistics.bytesWritten, segmentBytes: segmentBytes,
                writtenPerPayloadByte: Double(total) / Double(payload), segments: segments,
                filesCompacted: statistics.filesCompacted, segmentsMerged: statistics.segmentsMerged,
                recordsMoved: statistics.records, residentBytesAppending: residentAppending, residentBytes: resident,
                descriptors: descriptors,
                atRest: .init(atRest), whileCompacting: .init(whileCompacting), delivered: found.delivered,
                missing: UInt64(records) - min(UInt64(records), found.delivered), doubled: found.doubled,
                wrong: found.wrong, backPressure: commits.backPressure))
    }

    /// Each writer has tenants of its own, so that their records' numbers are in order.
    private func append(to wal: WriteAheadLog, _ bytes: [UInt8]) async throws -> (Histogram, Histogram) {
        let calls = records / batch / writers
        return try await withThrowingTaskGroup(of: (Histogram, Histogram).self) { group in
            for writer in 0..<writers {
                group.addTask {
                    var (atRest, whileCompacting) = (Histogram(), Histogram())
                    let own = try stride(from: writer, to: max(tenants, writers), by: writers).map {
                        try TenantName("tenant-\($0 % tenants)")
                    }
                    var numbers = [UInt64](repeating: 0, count: own.count)
                    let begun = now()
                    for call in 0..<calls + (writer == 0 ? records / batch - calls * writers : 0) {
                        let place = call % own.count
                        let first = numbers[place]
                        numbers[place] += UInt64(batch)
                        let load = (0..<batch).map { record(first + UInt64($0), writer &+ call &* batch &+ $0, bytes) }
                        if rate > 0 {
                            let due = begun + UInt64(call) * UInt64(writers) * 1_000_000_000 / UInt64(rate)
                            let time = now()
                            if due > time { try await Task.sleep(nanoseconds: due - time) }
                        }
                        let isCompacting = wal.isCompacting
                        let before = now()
                        try await wal.append(contentsOf: load, tenant: own[place])
                        let after = now()
                        if isCompacting || wal.isCompacting {
                            whileCompacting.add(after - before)
                        } else {
                            atRest.add(after - before)
                        }
                    }
                    return (atRest, whileCompacting)
                }
            }
            var (atRest, whileCompacting) = (Histogram(), Histogram())
            for try await (one, other) in group {
                atRest.merge(one)
                whileCompacting.merge(other)
            }
            return (atRest, whileCompacting)
        }
    }

    private func record(_ number: UInt64, _ place: Int, _ bytes: [UInt8]) -> TelemetryRecord {
        let start = place &* 499 % (bytes.count - recordSize + 1)
        var payload = Array(bytes[start..<start + recordSize])
        for offset in 0..<8 { payload[offset] = UInt8(truncatingIfNeeded: number >> UInt64(8 * offset)) }
        return TelemetryRecord(kind: .opaque, timestamp: 1_766_000_000_000_000_000 + number, payload: payload)
    }

    private func deliver(_ wal: WriteAheadLog) async throws -> (delivered: UInt64, doubled: UInt64, wrong: UInt64) {
        var (delivered, doubled, wrong): (UInt64, UInt64, UInt64) = (0, 0, 0)
        var last: [TenantName: UInt64] = [:]
        for try await batch in wal.records(subscriber: "collector") {
            let before = last[batch.tenant] ?? 0
            if batch.sequences.lowerBound <= before { doubled += before - batch.sequences.lowerBound + 1 }
            last[batch.tenant] = batch.sequences.upperBound
            for record in batch.records {
                let number = record.payload.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                if number + 1 != record.sequence || record.payload.count != recordSize { wrong += 1 }
            }
            delivered += UInt64(batch.count)
            wal.acknowledge(batch, subscriber: "collector")
        }
        try await wal.flushAcknowledgements()
        return (delivered, doubled, wrong)
    }
}

/// The most memory and descriptors that this process takes, looked at every few milliseconds.
final class ProcessWatch: Sendable {
    private let isStopped = Atomic<Bool>(false)
    private let descriptors = Atomic<Int>(0)

    init() {
        Thread.detachNewThread { [self] in
            while !isStopped.load(ordering: .relaxed) {
                let count = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
                if count > descriptors.load(ordering: .relaxed) { descriptors.store(count, ordering: .relaxed) }
                usleep(5000)
            }
        }
    }

    func stop() -> (residentBytes: UInt64, descriptors: Int) {
        isStopped.store(true, ordering: .relaxed)
        return (Self.mostResidentBytes, descriptors.load(ordering: .relaxed))
    }

    static var mostResidentBytes: UInt64 {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        let kibibytes = line?.split(separator: " ").compactMap { UInt64($0) }.first ?? 0
        return kibibytes << 10
    }
}
