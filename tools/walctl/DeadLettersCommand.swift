import ArgumentParser
import Foundation
import TelemetryReplay
import TelemetryWAL
import WALFormat
import WALStorage

/// `walctl dead-letters`: lists what receivers refused for good.
struct DeadLettersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters", abstract: "List the records that receivers refused for good.",
        discussion: """
            Changes nothing, and works beside a living writer. The letters are a log of their own in ROOT/dead-letters, which
            the other commands take as well; walctl redrive sends them again. Ends with 1 where there are any.

            EXAMPLES
              walctl dead-letters wal
              walctl dead-letters wal --tenant acme --format json
            """)

    @OptionGroup var root: RootArgument
    @Option(help: "Only this tenant's; all tenants' unless told.")
    var tenant: String?
    @OptionGroup var keys: KeyOptions
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var tenant: String
        var sequence: UInt64
        var subscriber: String
        var kind: String
        var bytes: Int
        var refused: String
        var attempts: Int
        var reason: String
    }

    func run() throws {
        let name = try tenant.map { try tenantName($0, option: "--tenant") }
        let directory = root.root + "/dead-letters"
        var lines: [Line] = []
        var isIncomplete = false
        if FileManager.default.fileExists(atPath: directory + "/FORMAT") {
            (lines, isIncomplete) = try letters(in: directory, of: name)
        } else {
            // Whether there is a log at all.
            _ = try failing { () throws(WALError) in try WriteAheadLogReader(at: root.root) }
        }
        if output.format == .json {
            try printJSON(lines)
        } else {
            var table = Table(
                headers: ["tenant", "sequence", "subscriber", "kind", "bytes", "refused", "attempts", "reason"],
                numeric: [1, 4, 6])
            table.rows = lines.map {
                [
                    $0.tenant, "\($0.sequence)", $0.subscriber, $0.kind, "\($0.bytes)", $0.refused, "\($0.attempts)",
                    $0.reason,
                ]
            }
            table.print()
        }
        if !lines.isEmpty || isIncomplete { throw ExitStatus.findings }
    }

    /// Those that were not sent again with success, in their order, and whether there are more that cannot be read.
    private func letters(in directory: String, of name: TenantName?) throws -> ([Line], Bool) {
        let provider = try keys.provider()
        let view = try failing { () throws(WALError) in try WriteAheadLogReader(at: directory, keyProvider: provider) }
        let done = Dictionary(
            uniqueKeysWithValues: view.tenants.map { ($0.name, $0.acknowledgedThrough["redrive"] ?? 0) })
        var lines: [Line] = []
        var records = view.records(of: name)
        var isIncomplete = view.hasLoss
        while true {
            let batch: RecordBatch?
            do throws(WALError) { batch = try records.next() } catch {
                switch error {
                case .damaged, .keyUnavailable, .keyForgotten, .journalUnavailable: Terminal.complain("\(error)")
                default: throw CommandFailure(error)
                }
                isIncomplete = true
                continue
            }
            guard let batch else { return (lines, isIncomplete) }
            for record in batch.records where record.sequence > done[batch.tenant] ?? 0 {
                guard let letter = DeadLetter(record, of: batch.tenant) else {
                    Terminal.complain(
                        "record \(record.sequence) of tenant \(readable(name: batch.tenant)) is no dead letter")
                    isIncomplete = true
                    continue
                }
                lines.append(
                    Line(
                        tenant: readable(name: letter.tenant), sequence: letter.sequence,
                        subscriber: readable(name: letter.subscriber), kind: "\(letter.kind)",
                        bytes: letter.payload.count,
                        refused: Date(timeIntervalSince1970: Double(letter.refused) / 1e9).formatted(.iso8601),
                        attempts: letter.attempts,
                        reason: letter.reason.split(whereSeparator: \.isNewline).joined(separator: " ")))
            }
        }
    }
}

/// `walctl redrive`: sends dead letters again.
struct RedriveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "redrive", abstract: "Send the records again that receivers refused for good.",
        discussion: """
            Takes the writer's lock. Each letter that is there is sent once: what is taken is no dead letter any more, what is
            refused again stays one, with what the receiver said now.

            EXAMPLES
              walctl redrive wal --to otlp-http://127.0.0.1:4318
              walctl redrive wal --to otlp-http://127.0.0.1:4318 --tenant acme --subscriber collector
            """)

    @OptionGroup var root: RootArgument
    @OptionGroup var destination: DestinationOptions
    @Option(help: "Only what this subscriber's receiver refused; everybody's unless told.")
    var subscriber: String?
    @OptionGroup(title: "Delivery") var delivery: DeliveryOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var writer: WriterOptions

    func run() async throws {
        let name = try subscriber.map { try tenantName($0, option: "--subscriber") }
        try await run(name, try destination.exporter(), try delivery.options())
    }

    private func run(_ name: TenantName?, _ exporter: some TelemetryExporter, _ options: ReplayOptions) async throws {
        let log = try writer.openToDeliver(root.root)
        let progress = DeliveryProgress(total: nil)
        let redrive = DeadLetterRedrive(log: log, exporter: exporter, subscriber: name, options: options)
        let (report, summary, closing) = try await deliver(from: log, to: exporter, progress) {
            try await redrive.run { progress.update($0, $1) }
        }
        if destination.isStandardOutput { report.complain() } else { try report.print(output.format) }
        try failing { () throws(WALError) in try closing.get() }
        if summary.givenUpRecords > 0, summary.deadLetters == 0 { throw ExitStatus.io }
        if !summary.isComplete { throw ExitStatus.findings }
    }
}
