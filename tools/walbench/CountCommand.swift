import ArgumentParser
import Foundation
import Logging
import TelemetryWAL
import WALFormat

/// `walbench count`: so many appends, and what they cost in things that can be counted: the same on any machine, however
/// busy. `tools/counters` holds the numbers against thresholds; under callgrind it counts instructions.
struct CountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "count", abstract: "Count flushes, bytes and allocations of a number of appends.")

    @Option(help: "The log's directory.") var directory: String
    @Option(help: "Appends in all.") var appends = 10_000
    @Option(help: "Appenders.") var writers = 1
    @Option(help: "Records a call.") var batch = 1
    @Option(help: "Tenants, taken in turns.") var tenants = 1
    @Option(help: "blocking, async or enqueue.") var mode = Mode.blocking
    @Option(help: "auto, ring or plain.") var io = WritePath.automatic

    struct Answer: Encodable {
        var driver = "telemetry-wal"
        var operation = "count"
        var mode, io: String
        var appends: Int
        var flushes, journalBytes, payloadBytes: UInt64
        var allocations: UInt64?
        var peakResidentBytes: UInt64
    }

    func run() throws {
        var options = WriteAheadLogOptions()
        options.writePath = io
        // What is counted is the journal's: compaction has memory and writes of its own, see OutageCommand.
        options.segmentLimit = 0
        // Commits for being idle would count with those of the appends.
        options.idleMilliseconds = 3_600_000
        options.logger = Logger(label: "walbench") { _ in SwiftLogNoOpLogHandler() }
        let wal = try WriteAheadLog.openBlocking(at: directory, options: options)
        let names = try (0..<tenants).map { try TenantName("tenant-\($0)") }
        let payload = (0..<512).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        let record = TelemetryRecord(kind: .span, timestamp: 1, payload: payload)
        let records = Array(repeating: record, count: batch)
        // Every tenant is known, every pool filled, before counting begins.
        for name in names + names { try wal.appendBlocking(record, tenant: name) }
        try append(wal, names, records, each: max(1, appends / writers / 4))
        let before = (wal.statistics, allocations())
        try append(wal, names, records, each: appends / writers)
        let after = (wal.statistics, allocations())
        try wal.closeBlocking()
        let counted = appends / writers * writers
        try printLine(
            Answer(
                mode: mode.rawValue, io: wal.writePath.rawValue, appends: counted,
                flushes: after.0.writes - before.0.writes,
                journalBytes: after.0.bytesWritten - before.0.bytesWritten,
                payloadBytes: UInt64(counted * batch * 512),
                allocations: before.1.flatMap { start in after.1.map { $0 - start } },
                peakResidentBytes: peakResidentBytes()))
    }

    private func peakResidentBytes() -> UInt64 {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return UInt64(usage.ru_maxrss) * 1024
    }

    private func append(
        _ wal: WriteAheadLog, _ names: [TenantName], _ records: [TelemetryRecord], each count: Int
    ) throws {
        switch mode {
        case .blocking where writers == 1:
            for number in 0..<count {
                if records.count == 1 {
                    try wal.appendBlocking(records[0], tenant: names[number % names.count])
                } else {
                    try wal.appendBlocking(contentsOf: records, tenant: names[number % names.count])
                }
            }
        case .blocking:
            let threads = (0..<writers).map { writer in
                Thread {
                    for number in 0..<count {
                        try! wal.appendBlocking(records[0], tenant: names[(writer + number) % names.count])
                    }
                }
            }
            for thread in threads { thread.start() }
            while !threads.allSatisfy(\.isFinished) { usleep(1000) }
        case .async:
            let ended = DispatchSemaphore(value: 0)
            let writers = self.writers
            Task.detached {
                await withTaskGroup(of: Void.self) { group in
                    for writer in 0..<writers {
                        group.addTask {
                            for number in 0..<count {
                                _ = try! await wal.append(records[0], tenant: names[(writer + number) % names.count])
                            }
                        }
                    }
                }
                ended.signal()
            }
            ended.wait()
        case .enqueue:
            for number in 0..<count {
                while (try? wal.enqueue(records[0], tenant: names[number % names.count])) == nil { usleep(1000) }
            }
        }
    }
}
