import ArgumentParser
import Foundation
import TelemetryReplay
import TelemetryWAL
import UnixSignals
import WALFormat
import WALStorage

/// `walctl replay`: delivers what a subscriber has not acknowledged yet.
struct ReplayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Deliver what a subscriber does not have yet.",
        discussion: """
            Takes the writer's lock, recovers what a crash left, sends each tenant's records, and moves the
            subscriber's cursors. What is interrupted goes on where it stopped: at least once, at most
            --requests-per-tenant batches of each tenant twice. What the receiver refuses for good goes to the dead
            letters (walctl dead-letters, walctl redrive).

            With --since, --until or --from-sequence it sends what the log holds of these times or from this number of each
            tenant on, whoever has it: it needs no lock, works beside a living writer, and moves no cursor.

            EXAMPLES
              walctl replay wal --to otlp-http://127.0.0.1:4318
              walctl replay wal --to otlp-https://otlp.example:443 --header authorization="Bearer KEY" --rate 20MiB
              walctl replay wal --to otlp-http://127.0.0.1:4318 --order newest-first --tenant acme --weight acme:3
              walctl replay wal --to otlp-http://127.0.0.1:4318 --follow
              walctl replay wal --to file:/srv/export --subscriber archive --dry-run
              walctl replay wal --to - --since 15m --tenant acme
            """)

    @OptionGroup var root: RootArgument
    @OptionGroup var destination: DestinationOptions
    @Option(help: "Whose cursors: each subscriber gets everything once.")
    var subscriber = "default"
    @Option(help: "What is sent first: oldest-first, newest-first (what is old fills in behind), interleaved.")
    var order = ReplayOptions.Order.oldestFirst
    @Flag(help: "Go on with what is appended, until SIGINT or SIGTERM.")
    var follow = false
    @Flag(help: "Send nothing: say what would be.")
    var dryRun = false
    @Option(help: "Send again from this number of each tenant on.")
    var fromSequence: UInt64?
    @Option(
        help:
            "Send again records whose own time is not before this one: 2026-11-28T09:30:00Z, 2026-11-28, or 15m, 2h, 7d ago."
    )
    var since: TimeArgument?
    @Option(help: "Send again records whose own time is before this one.")
    var until: TimeArgument?
    @OptionGroup(title: "Delivery") var delivery: DeliveryOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var writer: WriterOptions

    private var isView: Bool { fromSequence != nil || since != nil || until != nil }

    func validate() throws {
        guard !(isView && follow) else {
            throw ValidationError(
                "--follow goes on from cursors: it does not go with --since, --until, --from-sequence")
        }
        guard until.map({ $0.nanoseconds > since?.nanoseconds ?? 0 }) ?? true else {
            throw ValidationError("--until is not behind --since: no time is between them")
        }
    }

    func run() async throws {
        let name = try tenantName(subscriber, option: "--subscriber")
        var options = try delivery.options()
        options.order = order
        if dryRun {
            try printPlan(name, options)
        } else {
            try await run(name, try destination.exporter(), options)
        }
    }

    private func run(_ name: TenantName, _ exporter: some TelemetryExporter, _ options: ReplayOptions) async throws {
        if isView { return try await send(to: exporter, options) }
        let log = try writer.openToDeliver(root.root)
        let backlog = log.tenants.filter { options.tenants?.contains($0.name) ?? true }.reduce(UInt64(0)) {
            $0 + Self.backlog(of: $1, name)
        }
        var options = options
        if follow { options.giveUpAfter = nil }
        let replayer = Replayer(log: log, subscriber: name, exporter: exporter, options: options)
        let progress = DeliveryProgress(total: follow ? nil : backlog)
        let (report, summary, closing) = try await deliver(from: log, to: exporter, progress) {
            follow
                ? try await replayer.follow { progress.update($0, $1) }
                : try await replayer.drain { progress.update($0, $1) }
        }
        try print(report)
        try failing { () throws(WALError) in try closing.get() }
        try end(summary)
    }

    /// Sends what a view shows.
    private func send(to exporter: some TelemetryExporter, _ options: ReplayOptions) async throws {
        let view = try view()
        let times: ClosedRange<UInt64>? =
            since == nil && until == nil ? nil : (since?.nanoseconds ?? 0)...((until?.nanoseconds ?? .max) - 1)
        let progress = DeliveryProgress(total: nil)
        let start = ContinuousClock.now
        let summary: ReplaySummary
        do {
            summary = try await untilSignalled { () async throws in
                try await Replayer.drain(
                    view, from: fromSequence ?? 1, during: times, to: exporter, options: options
                ) { progress.update($0, $1) }
            }
        } catch let error as WALError { throw CommandFailure(error) }
        progress.finish()
        await exporter.shutdown()
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        try print(DeliveryReport(summary, to: exporter.destination, seconds: seconds))
        try end(summary)
    }

    private func view() throws -> WriteAheadLogReader<DirectStorage> {
        let provider = try writer.keys.provider()
        let bar = ProgressBar("reading")
        let view = try failing { () throws(WALError) in
            try WriteAheadLogReader(at: root.root, keyProvider: provider) { bar.update($0, of: $1) }
        }
        bar.finish()
        if view.hasLoss { Terminal.complain("the log is damaged; run: walctl verify \(root.root)") }
        return view
    }

    private func end(_ summary: ReplaySummary) throws {
        if summary.givenUpRecords > 0, summary.deadLetters == 0 { throw ExitStatus.io }
        // Who follows is stopped in any case.
        var summary = summary
        if follow { summary.wasStopped = false }
        if !summary.isComplete { throw ExitStatus.findings }
    }

    private static func backlog(of tenant: TenantStatus, _ name: TenantName) -> UInt64 {
        guard let held = tenant.held else { return 0 }
        let from = max((tenant.acknowledgedThrough[name] ?? 0) + 1, held.lowerBound)
        return from > held.upperBound ? 0 : held.upperBound - from + 1
    }

    // MARK: - What it tells

    private struct Plan: Encodable {
        var tenant: String
        var from: UInt64
        var through: UInt64
        var records: UInt64
    }

    private func printPlan(_ name: TenantName, _ options: ReplayOptions) throws {
        guard !isView else { throw CommandFailure("--dry-run: walctl cat shows what these options select", .usage) }
        _ = try destination.exporter()
        let plans = try view().tenants.filter { options.tenants?.contains($0.name) ?? true }.compactMap { tenant in
            let records = Self.backlog(of: tenant, name)
            return tenant.held.flatMap { held in
                records == 0
                    ? nil
                    : Plan(
                        tenant: readable(name: tenant.name), from: held.upperBound - records + 1,
                        through: held.upperBound, records: records)
            }
        }
        if output.format == .json { return try printJSON(plans) }
        var table = Table(headers: ["tenant", "from", "through", "records"], numeric: [1, 2, 3])
        table.rows = plans.map { [$0.tenant, "\($0.from)", "\($0.through)", "\($0.records)"] }
        table.print()
    }

    private func print(_ report: DeliveryReport) throws {
        if destination.isStandardOutput {
            // Standard output belongs to the records.
            report.complain()
            Terminal.write("replayed \(report.records) records of \(report.tenants) tenants, \(report.bytes) bytes\n")
        } else {
            try report.print(output.format)
        }
    }
}

/// Runs something until it ends, or has it cancelled by SIGINT or SIGTERM: it ends in order then.
func untilSignalled<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
    let work = Task { try await body() }
    let watch = Task { for await _ in signals { work.cancel() } }
    defer { watch.cancel() }
    return try await work.value
}
