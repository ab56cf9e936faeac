import Foundation
import TelemetryWAL
import TestSupport
import WALFormat

/// The writer that crash tests kill: several threads append in every way there is, and each prints a line for what
/// was acknowledged, after it was.
///
///     CrashWriter ROOT FIRST-NUMBER
///
/// Lines are `a TENANT SEQUENCE NUMBER` (record NUMBER of this tenant is durable) and `c TENANT SEQUENCE` (the
/// subscriber `crash` has acknowledged through SEQUENCE, durably).
@main
struct CrashWriter {
    static func main() throws {
        let root = CommandLine.arguments[1]
        let first = Int(CommandLine.arguments[2])!
        let log = try WriteAheadLog.openBlocking(at: root, options: smallOptions(fileSize: 512 << 10))
        try log.register(subscriber: "crash")
        say(["o"])
        for thread in 0..<4 {
            let tenant = try TenantName("tenant-\(thread)")
            Thread.detachNewThread { appendForEver(log, tenant: tenant, thread: thread, first: first) }
        }
        Thread.detachNewThread { acknowledgeForEver(log) }
        while true { sleep(60) }
    }

    /// One write a call: lines of several threads never mix, and nothing waits in a buffer when the kill comes.
    static func say(_ lines: [String]) {
        let text = lines.map { $0 + "\n" }.joined()
        FileHandle.standardOutput.write(Data(text.utf8))
    }

    static func appendForEver(_ log: WriteAheadLog, tenant: TenantName, thread: Int, first: Int) {
        var number = first
        while true {
            switch number % 3 {
            case 0:
                let count = 1 + number % 7
                let records = (number..<number + count).map { numberedRecord($0, length: 100 + $0 % 3000) }
                let receipt = try! log.appendBlocking(contentsOf: records, tenant: tenant)
                say((0..<count).map { "a \(tenant) \(receipt.sequences.lowerBound + UInt64($0)) \(number + $0)" })
                number += count
            default:
                let record = numberedRecord(number, length: 100 + number % 3000)
                let receipt = try! log.appendBlocking(record, tenant: tenant)
                say(["a \(tenant) \(receipt.sequence) \(number)"])
                number += 1
            }
        }
    }

    static func acknowledgeForEver(_ log: WriteAheadLog) {
        Task {
            while true {
                var through: [TenantName: UInt64] = [:]
                var batches = 0
                for try await batch in log.records(subscriber: "crash") {
                    log.acknowledge(batch, subscriber: "crash")
                    through[batch.tenant] = batch.sequences.upperBound
                    batches += 1
                    if batches % 20 == 0 { break }
                }
                try await log.flushAcknowledgements()
                say(through.map { "c \($0.key) \($0.value)" })
                try await Task.sleep(for: .milliseconds(5))
            }
        }
    }
}
