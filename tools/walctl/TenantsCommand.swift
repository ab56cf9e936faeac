import ArgumentParser
import TelemetryWAL
import WALFormat

/// `walctl tenants`: who is in the log, with how much undelivered.
struct TenantsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tenants", abstract: "List tenants with sequence numbers, cursors and backlog.",
        discussion: """
            Changes nothing, and works beside a living writer.

            EXAMPLES
              walctl tenants wal
              walctl tenants wal --format json | jq '.[] | select(.backlog > 0)'
            """)

    @OptionGroup var root: RootArgument
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var tenant: String
        /// Records ever appended.
        var appended: UInt64
        /// Sequence numbers that the journal still holds.
        var firstHeld: UInt64?
        var lastHeld: UInt64?
        /// Records that some subscriber has not acknowledged; all held where there is no subscriber.
        var backlog: UInt64
        var acknowledgedThrough: [String: UInt64]
    }

    func run() throws {
        let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        let lines = reader.tenants.sorted { $0.name < $1.name }.map { tenant in
            let acknowledged = tenant.acknowledgedThrough.values.min() ?? 0
            let unheld = tenant.held.map { $0.lowerBound - 1 } ?? tenant.nextSequence - 1
            return Line(
                tenant: readable(name: tenant.name), appended: tenant.nextSequence - 1,
                firstHeld: tenant.held?.lowerBound, lastHeld: tenant.held?.upperBound,
                backlog: tenant.nextSequence - 1 - min(tenant.nextSequence - 1, max(acknowledged, unheld)),
                acknowledgedThrough: Dictionary(
                    uniqueKeysWithValues: tenant.acknowledgedThrough.map { ($0.key.description, $0.value) }))
        }
        if output.format == .json {
            try printJSON(lines)
        } else {
            var table = Table(headers: ["tenant", "appended", "held", "backlog", "acknowledged"], numeric: [1, 3])
            for line in lines {
                let held = line.firstHeld.map { "\($0)-\(line.lastHeld ?? $0)" } ?? "-"
                let cursors = line.acknowledgedThrough.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }
                table.rows.append([
                    line.tenant, "\(line.appended)", held, "\(line.backlog)",
                    cursors.isEmpty ? "-" : cursors.joined(separator: " "),
                ])
            }
            table.print()
        }
        if reader.report.hasLoss { throw ExitStatus.findings }
    }
}
