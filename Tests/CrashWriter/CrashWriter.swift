import ArgumentParser
import Foundation
import TelemetryWAL
import TestSupport
import WALFormat

/// The writer that crash tests kill, and the check of what it left.
@main struct CrashWriter: AsyncParsableCommand {
    static let configuration = CommandConfiguration(subcommands: [
        Write.self, Course.self, Drain.self, Check.self,
    ])
}

/// How each of the commands that write opens the log.
struct LogOptions: ParsableArguments {
    @Option(help: "automatic, ring or plain.") var path = "automatic"
    @Option(help: "Most bytes of all journal files, in MiB.") var limit: UInt64 = 256
    @Option(help: "Size of each journal file, in KiB.") var fileKib: UInt64 = 512
    @Option(help: "What waits beyond so many KiB moves into segments.") var thresholdKib: UInt64 = 1024

    var walOptions: WriteAheadLogOptions {
        var options = smallOptions(fileSize: fileKib << 10)
        if let path = WritePath(rawValue: path) { options.writePath = path }
        options.journalLimit = limit << 20
        options.compactionThreshold = thresholdKib << 10
        return options
    }
}

/// Several threads append in every way there is, and each prints a line for what was acknowledged, after it was.
///
/// Lines are `o` (the log is open), `a TENANT SEQUENCE NUMBER` (record NUMBER of this tenant is durable),
/// `c TENANT SEQUENCE` (the subscriber `crash` has acknowledged through SEQUENCE, durably), and `e ERROR`, after which
/// the writer ends with 3.
struct Write: ParsableCommand {
    @Argument var root: String
    @Argument(help: "The first record's number; a million above that of the writer before.") var first: Int
    @OptionGroup var options: LogOptions
    @Flag(help: "Without a subscriber: nothing is reclaimed.") var keep = false
    @Option(help: "End by closing the log after so many milliseconds.") var milliseconds: UInt32?

    func run() throws {
        do {
            let log = try WriteAheadLog.openBlocking(at: root, options: options.walOptions)
            if !keep { try log.register(subscriber: "crash") }
            say(["o"])
            for thread in 0..<4 {
                let tenant = try TenantName("tenant-\(thread)")
                Thread.detachNewThread { appendForEver(log, tenant: tenant, first: first) }
            }
            if !keep { Thread.detachNewThread { acknowledgeForEver(log) } }
            guard let milliseconds else { while true { sleep(60) } }
            usleep(milliseconds * 1000)
            try log.closeBlocking()
        } catch { end(error) }
    }
}

/// One write a call: lines of several threads never mix, and nothing waits in a buffer when the kill comes.
func say(_ lines: [String]) {
    let text = lines.map { $0 + "\n" }.joined()
    FileHandle.standardOutput.write(Data(text.utf8))
}

func end(_ error: any Error) -> Never {
    say(["e \(error)"])
    exit(3)
}

func appendForEver(_ log: WriteAheadLog, tenant: TenantName, first: Int) {
    var number = first
    do {
        while true {
            switch number % 3 {
            case 0:
                let count = 1 + number % 7
                let records = (number..<number + count).map(CrashLedger.record)
                let receipt = try log.appendBlocking(contentsOf: records, tenant: tenant)
                say((0..<count).map { "a \(tenant) \(receipt.sequences.lowerBound + UInt64($0)) \(number + $0)" })
                number += count
            default:
                let receipt = try log.appendBlocking(CrashLedger.record(number), tenant: tenant)
                say(["a \(tenant) \(receipt.sequence) \(number)"])
                number += 1
            }
        }
    } catch WALError.closed {
        return
    } catch { end(error) }
}

func acknowledgeForEver(_ log: WriteAheadLog) {
    Task {
        do {
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
        } catch WALError.closed {
            return
        } catch { end(error) }
    }
}

/// Holds a log against what its writers printed.
struct Check: ParsableCommand {
    @Argument var root: String
    @Argument(help: "What the writers printed, one behind the other.") var ledgers: [String]

    func run() throws {
        var ledger = CrashLedger()
        for path in ledgers { try ledger.take(String(contentsOfFile: path, encoding: .utf8)) }
        let verdict = try ledger.check(root)
        // For a script to read.
        print("\(ledger.recordCount) \(verdict.owed) \(verdict.recovered) \(verdict.lost) \(verdict.falseAlarms)")
        for problem in verdict.problems { print("problem: \(problem)") }
        if !verdict.problems.isEmpty { throw ExitCode(1) }
    }
}
