import ArgumentParser
import Foundation
import WALSimulation

/// Runs histories one after the other in this process and says on standard output how each ended, for the process that
/// started it: a trap in the engine ends this process, and the other one knows which seed it was.
struct WorkCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "work", shouldDisplay: false)

    @Option var seed: UInt64
    @Option var histories: UInt64
    @Option(help: "Seeds lie this far apart.") var stride: UInt64 = 1
    @Flag var trace = false
    @Flag(help: "Go on behind a history that failed.") var goOn = false
    @OptionGroup var history: HistoryArguments

    func run() throws {
        guard Bug.activate(history.bug) else { throw ValidationError("no bug is called \(history.bug ?? "")") }
        let thread = HistoryThread()
        let output = FileHandle.standardOutput
        func say(_ line: WorkerLine) throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = .sortedKeys
            output.write(try encoder.encode(line) + Data("\n".utf8))
        }
        var tally = Tally()
        for number in 0..<histories {
            let seed = seed + number * stride
            try say(.begins(seed))
            guard let result = History.run(history.options(seed: seed, traces: trace), pool: thread) else {
                throw ValidationError("built without the trait Simulation: use tools/walsim")
            }
            if trace { for line in result.trace { output.write(Data((line + "\n").utf8)) } }
            tally.add(result)
            if let failure = result.failure { try say(.failed(seed, failure)) }
            if result.isStuck || (result.failure != nil && !goOn) { break }
            // A trap later on must not take with it what was counted.
            if number % 64 == 63 {
                try say(.counted(tally))
                tally = Tally()
            }
        }
        try say(.counted(tally))
        try say(.ended)
    }
}

/// What a worker says.
enum WorkerLine: Codable, Sendable {
    case begins(UInt64)
    case failed(UInt64, String)
    /// What has been counted since it was last said.
    case counted(Tally)
    case ended
}

/// Counts of many histories.
struct Tally: Codable, Sendable {
    var histories = 0
    var opens = 0
    var recordsAppended = 0
    var recordsChecked = 0
    var recordsLostByTheDisk = 0
    var threadSwitches = 0
    var faults: [String: Int] = [:]
    /// Of all histories in the order of their seeds: two runs of the same give the same.
    var fingerprint: UInt64 = 0

    mutating func add(_ result: HistoryResult) {
        histories += 1
        opens += result.opens
        recordsAppended += result.recordsAppended
        recordsChecked += result.recordsChecked
        recordsLostByTheDisk += result.recordsLost
        threadSwitches += result.steps
        for (kind, count) in result.faults where count > 0 { faults[kind.rawValue, default: 0] += count }
        fingerprint ^= result.fingerprint &* (result.seed | 1)
    }

    mutating func add(_ other: Tally) {
        histories += other.histories
        opens += other.opens
        recordsAppended += other.recordsAppended
        recordsChecked += other.recordsChecked
        recordsLostByTheDisk += other.recordsLostByTheDisk
        threadSwitches += other.threadSwitches
        faults.merge(other.faults) { $0 + $1 }
        fingerprint ^= other.fingerprint
    }
}
