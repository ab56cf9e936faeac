import ArgumentParser
import FileExporter
import Foundation
import OTLPExporter
import TelemetryReplay
import TelemetryWAL
import WALFormat

/// `walctl replay`: delivers what a subscriber has not acknowledged yet.
struct ReplayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Deliver what a subscriber does not have yet.",
        discussion: """
            Takes the writer's lock, recovers what a crash left, sends each tenant's records in order, and moves the
            subscriber's cursors. What is interrupted goes on where it stopped: at least once, at most the requests
            under way twice.

            EXAMPLES
              walctl replay wal --to otlp-http://127.0.0.1:4318
              walctl replay wal --to otlp-https://otlp.example:443 --header authorization="Bearer KEY"
              walctl replay wal --to file:/srv/export --subscriber archive
              walctl replay wal --to - --subscriber debug
            """)

    @OptionGroup var root: RootArgument
    @Option(help: "Where to: otlp-http://HOST:PORT, otlp-https://HOST:PORT, file:DIRECTORY, or - for standard output.")
    var to: String
    @Option(help: "Whose cursors: each subscriber gets everything once.")
    var subscriber = "default"
    @Option(name: .customLong("header"), help: "A header for each request, as NAME=VALUE; may be repeated.")
    var headers: [String] = []
    @Option(help: "Seconds after which a batch that the receiver does not take is left for another time.")
    var giveUpAfter: Double = 60
    @Option(help: "Most records in a request.")
    var batchRecords = 1000
    @Flag(help: "Send without gzip.")
    var uncompressed = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var writer: WriterOptions

    func validate() throws {
        guard (1...1_000_000).contains(batchRecords) else {
            throw ValidationError("--batch-records takes 1 to 1000000")
        }
        guard giveUpAfter >= 0, giveUpAfter <= 1e9 else { throw ValidationError("--give-up-after takes seconds") }
    }

    func run() async throws {
        let name = try tenantName(subscriber, option: "--subscriber")
        if to == "-" {
            try await run(name, StandardOutputExporter())
        } else if to.hasPrefix("file:"), to.count > 5 {
            try await run(name, FileExporter(directory: String(to.dropFirst(5))))
        } else if let endpoint = httpEndpoint {
            var options = OTLPExporterOptions(endpoint: endpoint)
            options.compresses = !uncompressed
            for header in headers {
                guard let separator = header.firstIndex(of: "="), separator != header.startIndex else {
                    throw CommandFailure("--header \(header): give NAME=VALUE", .usage)
                }
                options.headers.append(
                    (String(header[..<separator]), String(header[header.index(after: separator)...])))
            }
            try await run(name, OTLPExporter(options: options))
        } else {
            throw CommandFailure(
                "--to \(to): give otlp-http://HOST:PORT, otlp-https://HOST:PORT, file:DIRECTORY or -", .usage)
        }
    }

    private var httpEndpoint: String? {
        for scheme in ["http", "https"] where to.hasPrefix("otlp-\(scheme)://") {
            let endpoint = String(to.dropFirst("otlp-".count))
            return URL(string: endpoint)?.host() == nil ? nil : endpoint
        }
        return nil
    }

    private func run(_ name: TenantName, _ exporter: some TelemetryExporter) async throws {
        let log = try writer.open(root.root)
        var options = ReplayOptions()
        options.giveUpAfter = .seconds(giveUpAfter)
        options.maximumBatchRecords = batchRecords
        let backlog = log.tenants.reduce(UInt64(0)) { sum, tenant in
            guard let held = tenant.held else { return sum }
            let from = max((tenant.acknowledgedThrough[name] ?? 0) + 1, held.lowerBound)
            return from > held.upperBound ? sum : sum + held.upperBound - from + 1
        }
        let bar = ProgressBar("replaying")
        let replayer = Replayer(log: log, subscriber: name, exporter: exporter, options: options)
        let start = ContinuousClock.now
        let outcome: Result<ReplaySummary, WALError>
        do throws(WALError) {
            outcome = .success(
                try await replayer.drain { records, bytes in
                    bar.update(UInt64(records), of: backlog, detail: readable(bytes: UInt64(bytes)))
                })
        } catch { outcome = .failure(error) }
        bar.finish()
        await exporter.shutdown()
        let closing: Result<Void, WALError>
        do throws(WALError) { closing = .success(try log.closeBlocking()) } catch { closing = .failure(error) }
        let summary = try failing { () throws(WALError) in try outcome.get() }
        try report(summary, to: exporter.destination, seconds: (ContinuousClock.now - start) / .seconds(1))
        try failing { () throws(WALError) in try closing.get() }
        if summary.givenUpRecords > 0, summary.deadLetters == 0 { throw ExitStatus.io }
        if !summary.isComplete { throw ExitStatus.findings }
    }

    private struct Line: Encodable {
        var destination: String
        var records: Int
        var tenants: Int
        var bytes: Int
        var requests: Int
        var retries: Int
        var rejectedItems: Int
        var deadLetters: Int
        var undeliveredRecords: UInt64
        var unreadablePlaces: Int
        /// Records that are gone with keys that were forgotten.
        var forgottenRecords: UInt64
        /// Tenants whose keys were not given.
        var lockedTenants: Int
        var seconds: Double
        var problems: [String]
    }

    private func report(_ summary: ReplaySummary, to destination: String, seconds: Double) throws {
        for problem in summary.problems { Terminal.complain(problem) }
        if summary.furtherProblems > 0 { Terminal.complain("and \(summary.furtherProblems) more problems") }
        let line = Line(
            destination: destination, records: summary.deliveredRecords, tenants: summary.deliveredTenants,
            bytes: summary.deliveredBytes, requests: summary.requests, retries: summary.retries,
            rejectedItems: summary.rejectedItems, deadLetters: summary.deadLetters,
            undeliveredRecords: summary.givenUpRecords, unreadablePlaces: summary.unreadablePlaces,
            forgottenRecords: summary.forgottenRecords, lockedTenants: summary.lockedTenants,
            seconds: seconds, problems: summary.problems)
        if to == "-" {
            // Standard output belongs to the records.
            Terminal.write("replayed \(line.records) records of \(line.tenants) tenants, \(line.bytes) bytes\n")
        } else if output.format == .json {
            try printJSON(line)
        } else {
            var table = Table(
                headers: [
                    "delivered", "tenants", "bytes", "requests", "retries", "rejected", "dead letters", "undelivered",
                ],
                numeric: Set(0..<8))
            table.rows = [
                [
                    "\(line.records)", "\(line.tenants)", "\(line.bytes)", "\(line.requests)", "\(line.retries)",
                    "\(line.rejectedItems)", "\(line.deadLetters)", "\(line.undeliveredRecords)",
                ]
            ]
            table.print()
        }
    }
}
