import ArgumentParser
import Foundation
import TelemetryWAL
import WALFormat

/// `walctl erase`: removes every record of a tenant, and the bytes that they were.
struct EraseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "erase", abstract: "Erase all records of a tenant, delivered or not, and overwrite their bytes.",
        discussion: """
            Nobody is shown the records any more when the erasure is durable; then segments are overwritten and removed,
            and journal files, spares and what was set aside are overwritten where they hold something of the tenant.
            The command ends with 0 when none of its records' bytes is left in ROOT, and with 1 where there are
            files besides that say that they are another log's or tenant's, or nothing of themselves. A crash leaves it half done, and
            the next writer goes on. What goes cannot be had back. The tenant's name, how many records it had and that it
            was erased stay in the log.

            Takes the log's lock: where a service has it, have the service call eraseBlocking. Asks before it
            begins, unless with --yes; --dry-run only says what the log has of the tenant. Snapshots and backups
            of ROOT are out of its reach, and so is what flash memory keeps of bytes that were written anew.

            EXAMPLES
              walctl erase wal acme --dry-run
              walctl erase wal acme --yes --format json
            """)

    @OptionGroup var root: RootArgument
    @Argument(help: "The tenant.")
    var tenant: String
    @Flag(help: "Do not ask.")
    var yes = false
    @Flag(help: "Change nothing: say what would go.")
    var dryRun = false
    @OptionGroup var writer: WriterOptions
    @OptionGroup var output: OutputOptions

    private struct Plan: Encodable {
        var tenant: String
        /// Records ever appended.
        var appended: UInt64
        /// Of these, some subscriber lacks so many.
        var undelivered: UInt64
        var undeliveredBytes: UInt64
        var segments: Int
    }

    private struct Line: Encodable {
        struct File: Encodable {
            var path: String
            var bytesOverwritten: UInt64
            var isRemoved: Bool
        }

        var tenant: String
        var erasedThrough: UInt64
        var undelivered: UInt64
        var files: [File]
        /// Files of other logs or tenants that lie where this one's should.
        var leftAlone: [String]
        /// Files that were removed and that the device had failed to overwrite.
        var notOverwritten: [String]
    }

    func run() throws {
        let name = try tenantName(tenant, option: "TENANT")
        let (plan, isIncomplete) = try plan(for: name)
        if dryRun {
            try print(plan)
            if isIncomplete { throw ExitStatus.findings }
            return
        }
        try confirm(plan)
        let log = try writer.open(root.root)
        let report = try failing { () throws(WALError) in try log.eraseBlocking(name) }
        let line = Line(
            tenant: readable(name: name), erasedThrough: report.through, undelivered: report.undelivered,
            files: report.files.map {
                .init(path: $0.path, bytesOverwritten: $0.overwritten, isRemoved: $0.isRemoved)
            }, leftAlone: report.leftAlone, notOverwritten: report.notOverwritten)
        try print(line)
        try failing { () throws(WALError) in try log.closeBlocking() }
        if !line.leftAlone.isEmpty || !line.notOverwritten.isEmpty { throw ExitStatus.findings }
    }

    /// What there is of a tenant, and whether there may be more that cannot be read.
    private func plan(for name: TenantName) throws -> (Plan, isIncomplete: Bool) {
        let reader = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        guard let status = reader.tenants.first(where: { $0.name == name }) else {
            throw CommandFailure(.unknownTenant(name))
        }
        let plan = Plan(
            tenant: readable(name: name), appended: status.nextSequence - 1, undelivered: status.backlog,
            undeliveredBytes: status.backlogLength, segments: reader.allSegments(of: name).count)
        return (plan, reader.complainOfLoss())
    }

    private func print(_ plan: Plan) throws {
        if output.format == .json { return try printJSON(plan) }
        Swift.print(
            "\(plan.tenant): \(plan.appended) records were appended, of which \(plan.undelivered) "
                + "(\(readable(bytes: plan.undeliveredBytes))) are undelivered; \(plan.segments) segments")
    }

    private func confirm(_ plan: Plan) throws(CommandFailure) {
        if yes { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw CommandFailure("erasing cannot be undone: give --yes where nobody can be asked", .usage)
        }
        Terminal.write(
            "\(plan.tenant): \(plan.appended) records go for good, \(plan.undelivered) of them undelivered. "
                + "Type the tenant's name to go on: ")
        guard readLine() == tenant else { throw CommandFailure("nothing was erased", .usage) }
    }

    private func print(_ line: Line) throws {
        if output.format == .json { return try printJSON(line) }
        var table = Table(headers: ["file", "overwritten", "removed"], numeric: [1])
        for file in line.files {
            table.rows.append([file.path, readable(bytes: file.bytesOverwritten), file.isRemoved ? "yes" : "no"])
        }
        table.print()
        for path in line.leftAlone { Swift.print("left alone, another log's or tenant's: \(path)") }
        for path in line.notOverwritten { Swift.print("removed, but the device failed to overwrite it: \(path)") }
        Swift.print(
            "\(line.tenant): erased through record \(line.erasedThrough), \(line.undelivered) of which were undelivered"
        )
    }
}
