import ArgumentParser
import Foundation
import TelemetryWAL
import WALFormat

/// `walctl retention`: what is kept for subscribers that are behind, what was dropped, and what a policy would drop.
struct RetentionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retention", abstract: "Show what waits and what was dropped, and drop what a policy says.",
        discussion: """
            Policies are the writer's options, and no part of the log: give them to show and apply as to the writer.

            EXAMPLES
              walctl retention show wal
              walctl retention apply wal --tenant-age 7d --dry-run
              walctl retention apply wal --tenant-budget-mib 512 --when-full drop-oldest
              walctl retention apply wal --tenant-policy acme:100,drop-oldest
            """,
        subcommands: [Show.self, Apply.self], defaultSubcommand: Show.self)

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List what of each tenant waits and since when, and all that was ever dropped.",
            discussion: """
                Changes nothing, and works beside a living writer. Ends with 1 if records were dropped.

                EXAMPLES
                  walctl retention show wal
                  walctl retention show wal --format json | jq 'map(.dropped[].records) | add'
                """)

        @OptionGroup var root: RootArgument
        @OptionGroup var output: OutputOptions

        private struct Line: Encodable {
            struct Dropped: Encodable {
                var cause: String
                var records: UInt64
                var bytes: UInt64
                /// When the log had received them, nanoseconds since 1970 (UTC).
                var firstReceived: UInt64
                var lastReceived: UInt64
            }

            var tenant: String
            var backlog: UInt64
            var backlogBytes: UInt64
            /// When the log had received the oldest record that waits, nanoseconds since 1970 (UTC).
            var oldestReceived: UInt64?
            var droppedThrough: UInt64
            var dropped: [Dropped]
        }

        func run() throws {
            let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
            let lines = reader.tenants.sorted { $0.name < $1.name }.map { tenant in
                Line(
                    tenant: readable(name: tenant.name), backlog: tenant.backlog, backlogBytes: tenant.backlogLength,
                    oldestReceived: tenant.oldestReceived, droppedThrough: tenant.droppedThrough,
                    dropped: DropCause.allCases.compactMap { cause in
                        tenant.drops[cause].map {
                            .init(
                                cause: "\(cause)", records: $0.records, bytes: $0.length,
                                firstReceived: $0.firstReceived, lastReceived: $0.lastReceived)
                        }
                    })
            }
            if output.format == .json {
                try printJSON(lines)
            } else {
                var table = Table(
                    headers: ["tenant", "backlog", "bytes", "oldest", "dropped", "records", "bytes", "from", "to"],
                    numeric: [1, 2, 5, 6])
                for line in lines {
                    let waiting = [
                        line.tenant, "\(line.backlog)", readable(bytes: line.backlogBytes),
                        readable(time: line.oldestReceived ?? 0),
                    ]
                    if line.dropped.isEmpty { table.rows.append(waiting + ["-", "-", "-", "-", "-"]) }
                    for (number, dropped) in line.dropped.enumerated() {
                        table.rows.append(
                            (number == 0 ? waiting : ["", "", "", ""]) + [
                                dropped.cause, "\(dropped.records)", readable(bytes: dropped.bytes),
                                readable(time: dropped.firstReceived), readable(time: dropped.lastReceived),
                            ])
                    }
                }
                table.print()
            }
            if reader.complainOfLoss() || lines.contains(where: { !$0.dropped.isEmpty }) { throw ExitStatus.findings }
        }
    }

    struct Apply: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Drop what is too old or over a budget, now; --dry-run says what that would be.",
            discussion: """
                Takes the log's lock, unless with --dry-run, which works beside a living writer. Budgets have records go
                with --when-full drop-oldest only. What goes cannot be had back. Ends with 1 if records go, or would.

                EXAMPLES
                  walctl retention apply wal --tenant-age 7d --dry-run
                  walctl retention apply wal --tenant-budget-mib 512 --when-full drop-oldest
                """)

        @OptionGroup var root: RootArgument
        @OptionGroup var writer: WriterOptions
        @Flag(help: "Change nothing: say what would go.")
        var dryRun = false
        @OptionGroup var output: OutputOptions

        func validate() throws {
            guard writer.retention.areGiven else {
                throw ValidationError("no policy: give --tenant-age, --tenant-budget-mib or --tenant-policy")
            }
        }

        private struct Line: Encodable {
            var tenant: String
            var cause: String
            var first: UInt64
            var last: UInt64
            var records: Int
            var bytes: UInt64
            /// When the log had received them, nanoseconds since 1970 (UTC).
            var firstReceived: UInt64
            var lastReceived: UInt64
        }

        func run() throws {
            let drops: [RetentionDrop]
            var isIncomplete = false
            if dryRun {
                let (standard, own) = (try writer.retention.standard(), try writer.retention.own())
                let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
                let now = UInt64(max(0, Date().timeIntervalSince1970 * 1e9))
                drops = try failing { () throws(WALError) in try reader.retentionPlan(standard, own: own, at: now) }
                isIncomplete = reader.complainOfLoss()
            } else {
                let log = try writer.open(root.root) { $0.firstRetentionPass = .max / 4 }
                drops = try failing { () throws(WALError) in try log.applyRetentionBlocking() }
                try failing { () throws(WALError) in try log.closeBlocking() }
            }
            let lines = drops.map {
                Line(
                    tenant: readable(name: $0.tenant), cause: "\($0.cause)", first: $0.sequences.lowerBound,
                    last: $0.sequences.upperBound, records: $0.sequences.count, bytes: $0.length,
                    firstReceived: $0.received.lowerBound, lastReceived: $0.received.upperBound)
            }
            if output.format == .json {
                try printJSON(lines)
            } else {
                var table = Table(
                    headers: [
                        "tenant", dryRun ? "would go for" : "dropped for", "first", "last", "bytes", "from", "to",
                    ],
                    numeric: [2, 3, 4])
                for line in lines {
                    table.rows.append([
                        line.tenant, line.cause, "\(line.first)", "\(line.last)", readable(bytes: line.bytes),
                        readable(time: line.firstReceived), readable(time: line.lastReceived),
                    ])
                }
                table.print()
            }
            if !lines.isEmpty || isIncomplete { throw ExitStatus.findings }
        }
    }
}
