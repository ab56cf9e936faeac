import ArgumentParser
import TelemetryWAL
import WALFormat

/// `walctl segments`: what subscribers had not got when it left the journal, segment by segment.
struct SegmentsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "segments", abstract: "List tenant segments with their records, lengths and times.",
        discussion: """
            Reads each segment's summary and index. Changes nothing, and works beside a living writer. Ends with 1 if a segment
            is damaged, the log has lost anything, or the journal of some tenant cannot be read.

            EXAMPLES
              walctl segments wal
              walctl segments wal --tenant acme
              walctl segments wal --format json | jq 'map(.bytes) | add'
            """)

    @OptionGroup var root: RootArgument
    @Option(help: "Show this tenant's segments only.")
    var tenant: String?
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var tenant: String
        var first: UInt64
        var last: UInt64
        var records: UInt64
        var frames: Int
        /// Of the file, and of the records before compression.
        var bytes: UInt64
        var rawBytes: UInt64
        /// Nanoseconds since 1970 (UTC).
        var firstTime: UInt64?
        var lastTime: UInt64?
        /// Records that are lost.
        var lost: UInt64
        var path: String
    }

    func run() throws {
        let wanted = try tenant.map { name in
            do { return try TenantName(name) } catch { throw CommandFailure("--tenant: \(error)", .usage) }
        }
        let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        if let wanted, !reader.tenants.contains(where: { $0.name == wanted }) {
            throw CommandFailure("--tenant \(wanted): the log has no such tenant", .usage)
        }
        var lines: [Line] = []
        var isDamaged = false
        for (journal, reader, segment) in reader.allSegments(of: wanted) {
            let report = try failing { () throws(WALError) in try reader.report(on: segment, opensFrames: false) }
            guard let report else { continue }
            isDamaged = isDamaged || report.isDamaged
            lines.append(
                Line(
                    tenant: readable(name: segment.tenant), first: segment.covered.lowerBound,
                    last: segment.covered.upperBound, records: report.records, frames: report.frames,
                    bytes: report.length, rawBytes: report.rawLength, firstTime: report.timestamps?.lowerBound,
                    lastTime: report.timestamps?.upperBound,
                    lost: report.losses.reduce(0) { $0 + UInt64($1.sequences.count) },
                    path: journal.prefix + segment.path))
        }
        if output.format == .json {
            try printJSON(lines)
        } else {
            var table = Table(
                headers: ["tenant", "first", "last", "records", "bytes", "raw", "from", "to", "lost"],
                numeric: [1, 2, 3, 4, 5, 8])
            for line in lines {
                table.rows.append([
                    line.tenant, "\(line.first)", "\(line.last)", "\(line.records)", readable(bytes: line.bytes),
                    readable(bytes: line.rawBytes), readable(time: line.firstTime ?? 0),
                    readable(time: line.lastTime ?? 0), line.lost == 0 ? "-" : "\(line.lost)",
                ])
            }
            table.print()
        }
        if reader.complainOfLoss() || isDamaged { throw ExitStatus.findings }
    }
}
