import ArgumentParser
import Foundation
import WALSimulation

/// Runs the engine on a simulated disk, clock and scheduler, and judges what it does.
@main struct Walsim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walsim",
        abstract: "Try to break the write-ahead log on a simulated machine: crashes, faults, every order of threads.",
        discussion: """
            A history is one life of a log: opened, used by several threads, ended by a crash or a fault, read, judged, \
            opened again. Everything in it follows from its seed.

            EXAMPLES
              walsim --histories 10000          ten thousand histories, on all processors
              walsim --seed 42 --trace          one history, every step printed
              walsim prove                      switch each deliberate bug on and see that it is found
              walsim --bug ignoreEpochs         histories of an engine with a bug

            EXIT CODES
              0  the log kept its promises   1  it did not   2  usage   3  the simulation itself failed
            """,
        subcommands: [RunCommand.self, ProveCommand.self, WorkCommand.self], defaultSubcommand: RunCommand.self)

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let code as ExitCode {
            Foundation.exit(code.rawValue)
        } catch {
            // What ArgumentParser throws: help ends well, all else of its is usage.
            let code = exitCode(for: error)
            if code.isSuccess { print(fullMessage(for: error)) } else { warn(fullMessage(for: error)) }
            Foundation.exit(code.isSuccess ? 0 : code == .validationFailure ? 2 : 3)
        }
    }
}

/// What of a history is left out.
struct HistoryArguments: ParsableArguments {
    @Option(help: "Most times that the log is opened.") var rounds: Int?
    @Option(help: "Most calls of each thread.") var calls: Int?
    @Option(help: "Most producers, and most subscribers.") var actors: Int?
    @Option(help: ArgumentHelp("Faults that do not happen, with commas between.", valueName: "kinds"))
    var without: String?
    @Option(help: "A deliberate bug that is switched on; `walsim prove` lists them.") var bug: String?

    @Flag(help: "The simulator spoils a record in secret: histories must fail.") var canary = false

    @Option(help: "Put each log as its last round left it, and what the engine reads there, below this folder.")
    var export: String?

    func validate() throws {
        for name in names where FaultKind(rawValue: name) == nil {
            throw ValidationError(
                "no fault is called \(name); there are \(FaultKind.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        if let bug, !Bug.names.contains(bug) {
            throw ValidationError("no bug is called \(bug); there are \(Bug.names.joined(separator: ", "))")
        }
    }

    private var names: [String] { without?.split(separator: ",").map(String.init) ?? [] }

    func options(seed: UInt64, traces: Bool = false) -> HistoryOptions {
        var options = HistoryOptions(seed: seed)
        options.traces = traces
        options.mostRounds = rounds ?? .max
        options.mostCalls = calls ?? .max
        options.mostActors = actors ?? .max
        options.isCanary = canary
        options.exportFolder = export
        options.without = Set(names.compactMap(FaultKind.init))
        return options
    }

    /// The same as words on a command line.
    var words: [String] {
        var words: [String] = []
        if let rounds { words += ["--rounds", "\(rounds)"] }
        if let calls { words += ["--calls", "\(calls)"] }
        if let actors { words += ["--actors", "\(actors)"] }
        if let without, !without.isEmpty { words += ["--without", without] }
        if let bug { words += ["--bug", bug] }
        if canary { words.append("--canary") }
        if let export { words += ["--export", export] }
        return words
    }
}
