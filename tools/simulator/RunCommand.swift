import ArgumentParser
import Foundation
import WALSimulation

/// `walsim`: many histories, or one with all its steps.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run histories; the seeds of --seeds-file first.")

    @Option(help: "The first history's seed; drawn if not given.") var seed: UInt64?
    @Option(help: "How many histories.") var histories: UInt64 = 1
    @Option(help: "Processes at a time.") var jobs = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "A file of seeds that failed once, one a line; what follows # is a remark.") var seedsFile: String?
    @Flag(help: "Print every step. For one history.") var trace = false
    @Flag(help: "Go on behind failures and count them.") var goOn = false
    @Option(help: "text or json.") var format = OutputFormat.text
    @OptionGroup var history: HistoryArguments

    func run() throws {
        let first = seed ?? UInt64.random(in: 1...1 << 48)
        let workers = Workers(history: history, jobs: jobs)
        if trace {
            for step in try workers.trace(seed: first) { print(step) }
            if let what = try workers.failure(seed: first) { try fail([.init(seed: first, what: what)], traces: false) }
            return
        }
        let start = Date()
        var outcome = Workers.Outcome()
        for seed in try pastSeeds() {
            let one = try workers.run(seed: seed, histories: 1, goesOn: false)
            outcome.tally.add(one.tally)
            outcome.failures += one.failures
        }
        let past = outcome.tally.histories
        if outcome.failures.isEmpty || goOn {
            let bar = ProgressBar(total: histories)
            let many = try workers.run(seed: first, histories: histories, goesOn: goOn) { bar.update($0) }
            bar.clear()
            outcome.tally.add(many.tally)
            outcome.failures += many.failures
        }
        let seconds = Date().timeIntervalSince(start)
        switch format {
        case .json: try printJSON(outcome, seed: first, seconds: seconds)
        case .text: printText(outcome, seed: first, past: past, seconds: seconds)
        }
        if !outcome.failures.isEmpty { try fail(outcome.failures, traces: format == .text) }
    }

    private func pastSeeds() throws -> [UInt64] {
        guard let seedsFile else { return [] }
        guard let text = try? String(contentsOfFile: seedsFile, encoding: .utf8) else {
            throw ValidationError("\(seedsFile) cannot be read")
        }
        return try text.split(separator: "\n").enumerated().compactMap { number, line in
            let word = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespaces)
            if word.isEmpty { return nil }
            guard let seed = UInt64(word) else {
                throw ValidationError("\(seedsFile), line \(number + 1): \(word) is no seed")
            }
            return seed
        }
    }

    private func printText(_ outcome: Workers.Outcome, seed: UInt64, past: Int, seconds: Double) {
        let tally = outcome.tally
        print("seed \(seed), \(tally.histories) histories (\(past) of seeds that failed once), \(Int(seconds)) s")
        print(
            "log opened \(tally.opens) times, \(tally.recordsAppended) records appended, "
                + "\(tally.recordsChecked) read and compared, \(tally.threadSwitches) thread switches")
        for (kind, count) in tally.faults.sorted(by: { $0.key < $1.key }) { print("  \(kind): \(count)") }
        print("records lost by the disk, each told: \(tally.recordsLostByTheDisk)")
        print("failures: \(outcome.failures.count)")
    }

    private struct Report: Encodable {
        var seed: UInt64
        var seconds: Double
        var tally: Tally
        var failures: [Workers.Failure]
    }

    private func printJSON(_ outcome: Workers.Outcome, seed: UInt64, seconds: Double) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let report = Report(seed: seed, seconds: seconds, tally: outcome.tally, failures: outcome.failures)
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }

    /// Says what failed; of the first failure the shortest history that shows it.
    private func fail(_ failures: [Workers.Failure], traces: Bool) throws -> Never {
        for failure in failures.prefix(20) { warn("seed \(failure.seed): \(failure.what)") }
        if traces, let first = failures.first {
            var shrinker = Shrinker(seed: first.seed, history)
            try shrinker.shrink()
            let words = (["--seed", "\(first.seed)"] + shrinker.history.words).joined(separator: " ")
            warn("\nthe shortest that still fails: tools/walsim \(words) --trace\n")
            for step in try Workers(history: shrinker.history, jobs: 1).trace(seed: first.seed).suffix(120) {
                warn(step)
            }
        }
        throw ExitCode(1)
    }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable { case text, json }

func warn(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// How far a long run is, on a terminal.
final class ProgressBar: Sendable {
    private let total: UInt64
    private let isShown = isatty(STDERR_FILENO) == 1

    init(total: UInt64) { self.total = total }

    func update(_ done: UInt64) {
        guard isShown, done % 64 == 0 || done == total else { return }
        let width = 40
        let filled = Int(done * UInt64(width) / max(1, total))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        FileHandle.standardError.write(Data("\r[\(bar)] \(done)/\(total)".utf8))
    }

    func clear() { if isShown { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) } }
}
