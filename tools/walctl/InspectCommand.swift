import ArgumentParser
import TelemetryWAL
import WALFormat
import WALStorage

/// `walctl inspect`: the log's structure, from the root down to a frame.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show the log's structure: root, file, commit, frame.",
        discussion: """
            Changes nothing, and works beside a living writer. Tenants' own journals are inspected by their own roots.

            EXAMPLES
              walctl inspect wal
              walctl inspect wal/dedicated/acme
              walctl inspect wal --file 00000000.journal
              walctl inspect wal --file 00000000.journal --commit 12
              walctl inspect wal --file 00000000.journal --commit 12 --frame 0 --format json
            """)

    @OptionGroup var root: RootArgument
    @Option(help: "Show the commits of this journal file.")
    var file: String?
    @Option(help: "Show the frames of the commit with this number.")
    var commit: UInt64?
    @Option(help: "Show one frame of the commit, counted from 0.")
    var frame: Int?
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if commit != nil, file == nil { throw ValidationError("--commit goes with --file") }
        if frame != nil, commit == nil { throw ValidationError("--frame goes with --commit") }
    }

    func run() throws {
        let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        guard let file else {
            try showRoot(reader)
            return
        }
        guard reader.journalFiles.contains(where: { $0.name == file }) else {
            let names = reader.journalFiles.map(\.name).joined(separator: ", ")
            throw CommandFailure("--file \(file): no live journal file; there are: \(names)", .usage)
        }
        let commits = try failing { () throws(WALError) in try reader.commits(inFileNamed: file) }
        guard let commit else {
            try show(commits.map(CommitView.init))
            return
        }
        guard let chosen = commits.first(where: { $0.header.commitNumber == commit }) else {
            throw CommandFailure("--commit \(commit): not in \(file)", .usage)
        }
        let frames = chosen.frames.enumerated().map { FrameView(index: $0.offset, frame: $0.element) }
        guard let frame else {
            try show(frames, control: chosen.control)
            return
        }
        guard frames.indices.contains(frame) else {
            throw CommandFailure("--frame \(frame): the commit has \(frames.count) frames", .usage)
        }
        try show([frames[frame]], control: [])
    }

    private func showRoot(_ reader: WriteAheadLogReader<DirectStorage>) throws {
        let view = RootView(root: root.root, reader: reader)
        if output.format == .json {
            try printJSON(view)
            return
        }
        print(
            "log \(view.log), created \(view.created), block size \(view.blockSize), writer: \(view.writer)"
                + (view.isMarkedEncrypted ?? false ? "; encrypted: appends need a key file" : ""))
        print(
            "last durable commit \(view.lastCommit); \(view.tenants) tenants; subscribers: "
                + (view.subscribers.isEmpty ? "none" : view.subscribers.joined(separator: ", ")))
        var table = Table(
            headers: ["file", "sequence", "epoch", "commits from", "used", "size", "tenants", "damage"],
            numeric: [1, 3, 4, 5, 6])
        for file in view.files {
            table.rows.append([
                file.file, "\(file.sequence)", file.epoch, "\(file.firstCommit)", readable(bytes: file.used),
                readable(bytes: file.size), "\(file.tenants)",
                file.damage.isEmpty ? "-" : file.damage.map { "\($0[0])-\($0[1])" }.joined(separator: " "),
            ])
        }
        table.print()
        for own in view.ownJournals {
            print("\(own.tenant)'s own journal: \(own.fault ?? "walctl inspect \(own.path)")")
        }
    }

    private func show(_ commits: [CommitView]) throws {
        if output.format == .json {
            try printJSON(commits)
            return
        }
        var table = Table(
            headers: ["commit", "offset", "length", "frames", "records", "durable through", "time", "flags"],
            numeric: [0, 1, 2, 3, 4, 5])
        for commit in commits {
            table.rows.append([
                "\(commit.commit)", "\(commit.offset)", "\(commit.length)", "\(commit.frames)", "\(commit.records)",
                "\(commit.durableThrough)", commit.time,
                commit.flags.isEmpty ? "-" : commit.flags.joined(separator: " "),
            ])
        }
        table.print()
    }

    private func show(_ frames: [FrameView], control: [ControlRecord]) throws {
        if output.format == .json {
            try printJSON(frames)
            return
        }
        var table = Table(
            headers: [
                "frame", "tenant", "kinds", "sequences", "records", "codec", "key", "stored", "raw", "from", "to",
                "whole",
            ],
            numeric: [0, 4, 6, 7, 8])
        for frame in frames {
            table.rows.append([
                "\(frame.frame)", frame.tenant ?? "(control)", frame.kinds.joined(separator: "+"),
                frame.firstSequence.map { "\($0)-\(frame.lastSequence ?? $0)" } ?? "-", "\(frame.records)", frame.codec,
                frame.key.map { "\($0)" } ?? "-",
                "\(frame.storedLength)", "\(frame.rawLength)", frame.lowestTime, frame.highestTime,
                frame.isIntact ? "yes" : "NO",
            ])
        }
        table.print()
        for record in control.prefix(50) { print("  \(record)") }
        if control.count > 50 { print("  and \(control.count - 50) more control records") }
    }
}
