import ArgumentParser
import Foundation
import TelemetryWAL
import WALFormat

/// `walctl tenants`: who is in the log, with how much undelivered.
struct TenantsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tenants", abstract: "List tenants with sequence numbers, cursors, backlog and its age.",
        discussion: """
            Changes nothing, and works beside a living writer. Budgets are the writer's options, and no part of the log: give
            them as to the writer to see who has used how much. Ends with 1 if the log has lost anything, or the journal of
            some tenant cannot be read.

            EXAMPLES
              walctl tenants wal
              walctl tenants wal --tenant-budget-mib 512 --tenant-policy acme:2048,drop-oldest
              walctl tenants wal --format json | jq '.[] | select(.backlog > 0)'
            """)

    @OptionGroup var root: RootArgument
    @OptionGroup var retention: RetentionOptions
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var tenant: String
        /// Records ever appended.
        var appended: UInt64
        /// Sequence numbers that the journal still holds.
        var firstHeld: UInt64?
        var lastHeld: UInt64?
        /// Records that some subscriber has not acknowledged and that were not dropped; all held where there is no
        /// subscriber.
        var backlog: UInt64
        /// Their bytes, headers included, uncompressed.
        var backlogBytes: UInt64
        /// Most bytes that may wait, by the options given; absent where these have no bound.
        var budgetBytes: UInt64?
        /// About when the log received the first of them, nanoseconds since 1970 (UTC).
        var oldestReceived: UInt64?
        /// Records dropped, or not taken, since the log began.
        var dropped: UInt64
        /// The last record that was erased; absent where none was.
        var erasedThrough: UInt64?
        /// False: nobody is shown the records any more, and bytes of them may still be there. The next writer goes on.
        var isErasureComplete: Bool?
        var acknowledgedThrough: [String: UInt64]
    }

    func run() throws {
        let (standard, own) = (try retention.standard(), try retention.own())
        let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        let lines = reader.tenants.sorted { $0.name < $1.name }.map { tenant in
            Line(
                tenant: readable(name: tenant.name), appended: tenant.nextSequence - 1,
                firstHeld: tenant.held?.lowerBound, lastHeld: tenant.held?.upperBound,
                backlog: tenant.backlog, backlogBytes: tenant.backlogLength,
                budgetBytes: (own[tenant.name] ?? standard).budget, oldestReceived: tenant.oldestReceived,
                dropped: tenant.drops.values.reduce(0) { $0 + $1.records }, erasedThrough: tenant.erasure?.through,
                isErasureComplete: tenant.erasure?.isComplete,
                acknowledgedThrough: Dictionary(
                    uniqueKeysWithValues: tenant.acknowledgedThrough.map { ($0.key.description, $0.value) }))
        }
        if output.format == .json {
            try printJSON(lines)
        } else {
            let now = Date().timeIntervalSince1970 * 1e9
            var table = Table(
                headers: [
                    "tenant", "appended", "held", "backlog", "bytes", "budget", "age", "dropped", "acknowledged",
                ],
                numeric: [1, 3, 4, 5, 6, 7])
            for line in lines {
                let held = line.firstHeld.map { "\($0)-\(line.lastHeld ?? $0)" } ?? "-"
                let cursors = line.acknowledgedThrough.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }
                table.rows.append([
                    line.tenant, "\(line.appended)", held, "\(line.backlog)", readable(bytes: line.backlogBytes),
                    line.budgetBytes.map { readable(bytes: $0) } ?? "-",
                    line.oldestReceived.map { readable(seconds: (now - Double($0)) / 1e9) } ?? "-",
                    line.dropped == 0 ? "-" : "\(line.dropped)",
                    cursors.isEmpty ? "-" : cursors.joined(separator: " "),
                ])
            }
            table.print()
            for line in lines where line.isErasureComplete == false {
                print(
                    "\(line.tenant): an erasure through record \(line.erasedThrough ?? 0) is not complete; walctl erase"
                )
            }
        }
        if reader.complainOfLoss() { throw ExitStatus.findings }
    }
}
