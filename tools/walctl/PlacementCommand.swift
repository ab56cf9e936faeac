import ArgumentParser
import TelemetryWAL
import WALFormat

/// `walctl placement`: which tenants have journals of their own, and moving them.
struct PlacementCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "placement", abstract: "Show who has a journal of its own, and move tenants between journals.",
        discussion: """
            A tenant with a journal of its own shares no file with others, and may be on another volume.

            EXAMPLES
              walctl placement show wal
              walctl placement set wal acme --dedicated
              walctl placement set wal acme --dedicated --directory /mnt/fast/acme-wal
              walctl placement set wal acme --shared
            """,
        subcommands: [Show.self, Set.self], defaultSubcommand: Show.self)

    private struct Line: Encodable {
        var tenant: String
        var placement: String
        var path: String
        var first: UInt64
        /// Nil where the tenant's records are appended now.
        var last: UInt64?
        /// Why the journal cannot be used.
        var fault: String?

        init(_ residence: TenantResidence) {
            tenant = readable(name: residence.tenant)
            placement = residence.placement == .shared ? "shared" : "dedicated"
            path = residence.path
            (first, last, fault) = (residence.firstSequence, residence.lastSequence, residence.fault)
        }

        static func print(_ residences: [TenantResidence], _ output: OutputOptions) throws {
            let lines = residences.map(Line.init)
            if output.format == .json { return try printJSON(lines) }
            var table = Table(headers: ["tenant", "placement", "records", "path", "fault"], numeric: [])
            for line in lines {
                table.rows.append([
                    line.tenant, line.placement, "\(line.first)-\(line.last.map { "\($0)" } ?? "")",
                    readable(text: line.path), readable(text: line.fault ?? "-"),
                ])
            }
            table.print()
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List where records of tenants are that have, or had, a journal of their own.",
            discussion: """
                A tenant that is not listed is in the shared journal. One that has moved is listed with each place where
                undelivered records of it may be, the present one last. Changes nothing, and works beside a living writer.
                Ends with 1 if a journal cannot be read.

                EXAMPLES
                  walctl placement show wal
                  walctl placement show wal --tenant acme --format json
                """)

        @OptionGroup var root: RootArgument
        @Option(help: "Show this tenant only.")
        var tenant: String?
        @OptionGroup var output: OutputOptions

        func run() throws {
            let name = try tenant.map { try tenantName($0, option: "--tenant") }
            let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
            let residences = reader.residences(of: name)
            try Line.print(residences, output)
            if residences.contains(where: { $0.fault != nil }) { throw ExitStatus.findings }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have a tenant's records appended to a journal of its own from now on, or to the shared one.",
            discussion: """
                Takes the log's lock: a service that writes the log moves tenants by WriteAheadLog.place. The tenant need
                not be in the log yet. Records stay where they are until every subscriber has them; a journal that has no
                tenant any more loses its files.

                EXAMPLES
                  walctl placement set wal acme --dedicated
                  walctl placement set wal acme --dedicated --directory /mnt/fast/acme-wal
                  walctl placement set wal acme --shared
                """)

        enum Where: String, EnumerableFlag { case dedicated, shared }

        @OptionGroup var root: RootArgument
        @Argument(help: "The tenant.")
        var tenant: String
        @Flag(help: "A journal of its own, or the one that tenants share.")
        var place: Where
        @Option(help: "Where its journal is to be: an absolute path. Without, below ROOT.")
        var directory: String?
        @OptionGroup var writer: WriterOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if directory != nil, place == .shared { throw ValidationError("--directory goes with --dedicated") }
        }

        func run() throws {
            let name = try tenantName(tenant, option: "TENANT")
            let placement: Placement = place == .shared ? .shared : .dedicated(directory: directory)
            let log = try writer.open(root.root)
            try failing { () throws(WALError) in try log.placeBlocking(name, placement) }
            let residences = log.residences(of: name)
            try failing { () throws(WALError) in try log.closeBlocking() }
            try Line.print(residences, output)
        }
    }
}
