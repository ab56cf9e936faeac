import ArgumentParser
import TelemetryWAL
import WALFormat
import WALStorage

/// `walctl repair`: brings a damaged log back to where nothing in it is amiss.
struct RepairCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "repair",
        abstract: "Move damage to quarantine/, and keep what can be read; a dry run unless --apply.",
        discussion: """
            Reads the whole log as verify does, and says what it would do about each finding and which records would be
            given up: those that cannot be read. With --apply it does so:

              moveToSegments   What can be read of a damaged journal file, and of those before it, moves into
                               segments; the file goes to quarantine/.
              rewriteSegment   What can be read of a segment is written anew in its place; a copy of the segment as it
                               was goes to quarantine/, unless all its bytes are whole.
              setAside         A file that is no part of the log, or of which nothing can be told, goes to
                               quarantine/.
              giveUp           A journal file is gone, and what it held with it.
              rewriteFormat    FORMAT is written anew.

            No record that can be read and somebody lacks is given up, and nothing damaged is deleted without a copy of what
            can be read of it: look through quarantine/ before you empty it. Subscribers are told of what is given up once,
            where it stood; verify lists it from then on and has no finding. A device that fails to read may read again: copy
            such a disk first.

            --apply takes the log's lock and moves undelivered records, for which the disk needs room. A crash on the way
            loses nothing; run it again. Ends with 1 where there is something to repair, and after --apply where something
            is left; with the failure's own status where it ends half-way, having said what it did until then.

            EXAMPLES
              walctl repair wal
              walctl repair wal --apply
              walctl repair wal --format json | jq '.steps[].path'
            """)

    @OptionGroup var root: RootArgument
    @Flag(help: "Do it; without, nothing is changed.")
    var apply = false
    @Flag(help: "Go on although damage may have swallowed that a subscriber came: it will miss what others have.")
    var forgetSubscribers = false
    @OptionGroup var writer: WriterOptions
    @OptionGroup var output: OutputOptions

    private struct Loss: Encodable {
        var tenant: String
        var first: UInt64
        var last: UInt64
    }

    private struct Step: Encodable {
        var action: String
        var path: String
        var reasons: [String]
        /// Records that cannot be read, where that is known.
        var recordsLost: UInt64?
        /// Of these, records whose tenants cannot be told.
        var unnamedRecords: UInt64
        var losses: [Loss]

        init(_ step: RepairPlan.Step, below prefix: String) {
            (action, path, reasons) = (step.action.rawValue, prefix + step.path, step.reasons)
            (recordsLost, unnamedRecords) = (step.recordsLost, step.unnamedRecords)
            losses = step.losses.map {
                Loss(
                    tenant: readable(name: $0.tenant), first: $0.sequences.lowerBound, last: $0.sequences.upperBound)
            }
        }
    }

    private struct Unavailable: Encodable {
        var path: String
        var reason: String
    }

    private struct Line: Encodable {
        var isApplied: Bool
        var steps: [Step] = []
        /// Files that went to quarantine, or copies of them; paths below ROOT, and whole ones in tenants' own journals.
        var setAside: [String] = []
        var recordsMoved: UInt64 = 0
        var segmentsRewritten = 0
        var recordsGivenUp: UInt64 = 0
        /// What would have to be done still; not looked for where it ended half-way.
        var remaining: [Step]? = []
        /// A subscriber may be missing; nothing left the journal for that.
        var mayLackSubscribers = false
        /// Tenants' own journals that cannot be looked at.
        var unavailable: [Unavailable] = []
        /// Why it ended half-way; what it did until then is above.
        var error: String?

        mutating func add(_ report: RepairReport, below prefix: String) {
            steps += report.plan.steps.map { Step($0, below: prefix) }
            setAside += report.setAside.map { prefix + $0 }
            recordsMoved += report.recordsMoved
            segmentsRewritten += report.segmentsRewritten
            recordsGivenUp += report.recordsGivenUp
            remaining? += report.remaining.steps.map { Step($0, below: prefix) }
            mayLackSubscribers = mayLackSubscribers || report.mayLackSubscribers
        }
    }

    func run() throws {
        let bar = ProgressBar(apply ? "repairing" : "looking")
        let repair = LogRepair(at: root.root, options: try writer.options())
        var line = Line(isApplied: apply)
        var failure: WALError?
        let others = try failing { () throws(WALError) in try repair.ownJournals() }
        for (path, found) in [(nil, .success(repair))] + others.map({ ($0.path, $0.repair) }) {
            let prefix = path.map { $0 + "/" } ?? ""
            let repair: LogRepair<DirectStorage>
            switch found {
            case .success(let found): repair = found
            case .failure(let error):
                line.unavailable.append(Unavailable(path: path ?? root.root, reason: "\(error)"))
                continue
            }
            if apply {
                var report = RepairReport()
                do throws(WALError) {
                    try repair.run(&report, forgetsSubscribers: forgetSubscribers) { bar.update($0, of: $1) }
                } catch { failure = error }
                line.add(report, below: prefix)
                if let failure {
                    line.error = "\(failure)"
                    line.remaining = nil
                    break
                }
            } else {
                let plan = try failing { () throws(WALError) in try repair.plan { bar.update($0, of: $1) } }
                line.steps += plan.steps.map { Step($0, below: prefix) }
            }
        }
        bar.finish()
        if output.format == .json { try printJSON(line) } else { print(line) }
        if let failure { throw CommandFailure(failure) }
        if !(apply ? line.remaining ?? [] : line.steps).isEmpty || !line.unavailable.isEmpty {
            throw ExitStatus.findings
        }
    }

    private func print(_ line: Line) {
        for journal in line.unavailable {
            Swift.print(Terminal.coloured("cannot be repaired", good: false) + ": \(journal.path): \(journal.reason)")
        }
        if line.steps.isEmpty, !line.unavailable.isEmpty || line.error != nil { return }
        guard !line.steps.isEmpty else {
            Swift.print(Terminal.coloured("clean", good: true) + ": there is nothing to repair")
            return
        }
        for step in line.steps { print(step) }
        guard line.isApplied else {
            Swift.print("\(line.steps.count) things to repair; nothing was changed: give --apply")
            return
        }
        for path in line.setAside { Swift.print("now in \(path)") }
        Swift.print(
            (line.error == nil ? "repaired: " : "repaired until it failed: ")
                + "\(line.recordsMoved) records moved into segments, \(line.segmentsRewritten) segments written "
                + "anew, \(line.recordsGivenUp) records given up")
        if line.mayLackSubscribers {
            Swift.print(
                "damage may have swallowed that a subscriber came: have all that subscribe open the log and register, then run "
                    + "this again, or give --forget-subscribers")
        }
        guard let remaining = line.remaining, !remaining.isEmpty else { return }
        Swift.print(Terminal.coloured("left", good: false) + ": \(remaining.count) things; run it again")
        for step in remaining { print(step) }
    }

    private func print(_ step: Step) {
        Swift.print("\(step.action) \(step.path)")
        for reason in step.reasons { Swift.print("  \(reason)") }
        for loss in step.losses {
            Swift.print("  gives up tenant \(loss.tenant): records \(loss.first) to \(loss.last)")
        }
        if step.unnamedRecords > 0 {
            Swift.print("  gives up \(step.unnamedRecords) records of which it cannot be told whose they were")
        }
    }
}
