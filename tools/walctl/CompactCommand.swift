import ArgumentParser
import TelemetryWAL

/// `walctl compact`: moves what is undelivered out of the journal, now.
struct CompactCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compact", abstract: "Move undelivered records from the journal into tenant segments.",
        discussion: """
            A writer does this by itself when more waits than its threshold. Here all of it moves, whatever the
            threshold: what is left in the journal is delivered, and its files are free for use. Takes the log's lock. Ends
            with 1 if records were lost, or a merge failed.

            EXAMPLES
              walctl compact wal
              walctl compact wal --format json
            """)

    @OptionGroup var root: RootArgument
    @OptionGroup var writer: WriterOptions
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var filesCompacted: UInt64
        var recordsMoved: UInt64
        /// Those of them that moved as they were, encrypted, since their keys were not to be had.
        var recordsCarried: UInt64
        var recordsLost: UInt64
        /// Records whose key was forgotten: they leave with the journal file, or with the segment that is merged.
        var recordsForgotten: UInt64
        var segmentsWritten: UInt64
        var segmentsMerged: UInt64
        var segmentsRemoved: UInt64
        /// Removals that failed: what nobody needs stays until the log is opened again.
        var failedRemovals: UInt64
        /// Compactions and merges that failed.
        var failures: UInt64
        /// Merges for which the file system had too little space.
        var mergesPostponed: UInt64
        var bytesWritten: UInt64
        /// What there is now.
        var segments: Int
        var segmentBytes: UInt64
    }

    func run() throws {
        guard writer.segmentLimitMib > 0 else {
            throw CommandFailure("--segment-limit-mib 0: there is nowhere to move to", .usage)
        }
        let log = try writer.open(root.root)
        let statistics = try failing { () throws(WALError) in try log.compactBlocking() }
        let line = Line(
            filesCompacted: statistics.filesCompacted, recordsMoved: statistics.records,
            recordsCarried: statistics.recordsCarried, recordsLost: statistics.recordsLost,
            recordsForgotten: statistics.recordsForgotten,
            segmentsWritten: statistics.segmentsWritten,
            segmentsMerged: statistics.segmentsMerged, segmentsRemoved: statistics.segmentsRemoved,
            failedRemovals: statistics.failedRemovals, failures: statistics.failures,
            mergesPostponed: statistics.mergesPostponed,
            bytesWritten: statistics.bytesWritten, segments: log.segmentCount, segmentBytes: log.segmentLength)
        try failing { () throws(WALError) in try log.closeBlocking() }
        if output.format == .json {
            try printJSON(line)
        } else {
            print(
                "\(line.recordsMoved) records of \(line.filesCompacted) journal files moved into "
                    + "\(line.segmentsWritten) segments, \(line.segmentsMerged) merged, "
                    + "\(line.segmentsRemoved) removed, \(readable(bytes: line.bytesWritten)) written; now "
                    + "\(line.segments) segments, \(readable(bytes: line.segmentBytes))")
            if line.failedRemovals > 0 { print("\(line.failedRemovals) removals of segments failed") }
            if line.failures > 0 { print("\(line.failures) compactions or merges failed; see the messages above") }
            if line.mergesPostponed > 0 {
                print("\(line.mergesPostponed) merges were put off: too little free space, or nobody says how much")
            }
            if line.recordsCarried > 0 {
                print("\(line.recordsCarried) of the records moved encrypted as they are: their keys are not to be had")
            }
            if line.recordsForgotten > 0 {
                print("\(line.recordsForgotten) records left the log: their keys were forgotten")
            }
            if line.recordsLost > 0 { print("\(line.recordsLost) records were lost in the journal") }
        }
        if line.recordsLost > 0 || line.failures > 0 { throw ExitStatus.findings }
    }
}
