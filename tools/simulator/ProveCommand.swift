import ArgumentParser
import Foundation
import WALSimulation

/// `walsim prove`: the judge is judged.
struct ProveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prove",
        abstract: "Switch each deliberate bug on, one at a time, and run histories until one fails.",
        discussion:
            "The first, canary, is no bug of the engine: the simulator itself spoils a record in secret. Ends with 1 if one is not found within --histories."
    )

    @Option(help: "Within so many histories each bug must be found.") var histories: UInt64 = 5000
    @Option(help: "The first history's seed; 1 for most bugs unless given.") var seed: UInt64?
    @Option(help: "Processes at a time.") var jobs = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "text or json.") var format = OutputFormat.text

    /// Bugs that few histories show, and a seed from which on one of the next does: looking for it takes minutes.
    private static let beginnings: [String: UInt64] = [
        "dropBeforeCommit": 1001, "showCommitsUnderWay": 2101, "forgetLossInSegments": 501, "dropChainCheck": 201,
        "vouchForCommitsUnderWay": 201, "skipSynchronizeAtOpening": 1101, "passOverMerged": 1401,
    ]

    private struct Finding: Encodable {
        var bug: String
        var seed: UInt64?
        /// Histories up to the one that failed, it included.
        var histories: UInt64?
        var what: String?
    }

    func run() throws {
        guard !Bug.names.isEmpty else {
            throw ValidationError("built without the trait Simulation: use tools/walsim")
        }
        var findings: [Finding] = []
        for bug in ["canary"] + Bug.names {
            var arguments = try HistoryArguments.parse([])
            if bug == "canary" { arguments.canary = true } else { arguments.bug = bug }
            let finding = try find(bug, Workers(history: arguments, jobs: jobs))
            findings.append(finding)
            if format == .text { show(finding) }
        }
        if format == .json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            print(String(decoding: try encoder.encode(findings), as: UTF8.self))
        }
        let missed = findings.filter { $0.seed == nil }
        if format == .text { print("\(findings.count - missed.count) of \(findings.count) found") }
        if !missed.isEmpty { throw ExitCode(1) }
    }

    private func find(_ bug: String, _ workers: Workers) throws -> Finding {
        // In growing portions: most show themselves soon.
        let seed = self.seed ?? Self.beginnings[bug] ?? 1
        var done: UInt64 = 0
        var portion: UInt64 = 20
        while done < histories {
            let count = min(portion, histories - done)
            let outcome = try workers.run(seed: seed + done, histories: count, goesOn: false)
            if let first = outcome.failures.min(by: { $0.seed < $1.seed }) {
                return Finding(bug: bug, seed: first.seed, histories: first.seed - seed + 1, what: first.what)
            }
            done += count
            portion *= 2
        }
        return Finding(bug: bug)
    }

    private func show(_ finding: Finding) {
        if let seed = finding.seed, let count = finding.histories, let what = finding.what {
            print("found after \(count): \(finding.bug): seed \(seed): \(what.prefix(120))")
        } else {
            print("NOT FOUND within \(histories): \(finding.bug)")
        }
    }
}
