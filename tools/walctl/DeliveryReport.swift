import Foundation
import TelemetryReplay
import TelemetryWAL

/// What a delivery came to, as `replay` and `redrive` print it.
struct DeliveryReport: Encodable {
    var destination: String
    var records: Int
    var tenants: Int
    var bytes: Int
    var requests: Int
    var retries: Int
    var rejectedItems: Int
    /// Records that the receiver refused for good, and that are among the dead letters.
    var deadLetters: Int
    var undeliveredRecords: UInt64
    var unreadablePlaces: Int
    /// Records that are gone with keys that were forgotten.
    var forgottenRecords: UInt64
    /// Tenants whose keys were not given.
    var lockedTenants: Int
    var wasStopped: Bool
    var seconds: Double
    var problems: [String]
    var furtherProblems: Int

    init(_ summary: ReplaySummary, to destination: String, seconds: Double) {
        self.destination = destination
        self.seconds = seconds
        (records, tenants, bytes) = (summary.deliveredRecords, summary.deliveredTenants, summary.deliveredBytes)
        (requests, retries, rejectedItems) = (summary.requests, summary.retries, summary.rejectedItems)
        (deadLetters, undeliveredRecords) = (summary.deadLetters, summary.givenUpRecords)
        (unreadablePlaces, forgottenRecords) = (summary.unreadablePlaces, summary.forgottenRecords)
        (lockedTenants, wasStopped) = (summary.lockedTenants, summary.wasStopped)
        (problems, furtherProblems) = (summary.problems, summary.furtherProblems)
    }

    /// Says on standard error what went wrong.
    func complain() {
        for problem in problems { Terminal.complain(problem) }
        if furtherProblems > 0 { Terminal.complain("and \(furtherProblems) more problems") }
    }

    func print(_ format: OutputFormat) throws {
        complain()
        if format == .json { return try printJSON(self) }
        var table = Table(
            headers: [
                "delivered", "tenants", "bytes", "requests", "retries", "rejected", "dead letters", "undelivered",
            ],
            numeric: Set(0..<8))
        table.rows = [
            [
                "\(records)", "\(tenants)", "\(bytes)", "\(requests)", "\(retries)", "\(rejectedItems)",
                "\(deadLetters)", "\(undeliveredRecords)",
            ]
        ]
        table.print()
    }
}

/// Delivers out of a log until it is through or a signal comes, and ends exporter and log, whatever came of it. `closing`:
/// how the log's end went, to be told behind the report.
func deliver(
    from log: WriteAheadLog, to exporter: some TelemetryExporter, _ progress: DeliveryProgress,
    _ body: @escaping @Sendable () async throws -> ReplaySummary
) async throws -> (report: DeliveryReport, summary: ReplaySummary, closing: Result<Void, WALError>) {
    let start = ContinuousClock.now
    let outcome: Result<ReplaySummary, any Error>
    do { outcome = .success(try await untilSignalled(body)) } catch { outcome = .failure(error) }
    progress.finish()
    await exporter.shutdown()
    let closing: Result<Void, WALError>
    do throws(WALError) { closing = .success(try log.closeBlocking()) } catch { closing = .failure(error) }
    let summary: ReplaySummary
    do { summary = try outcome.get() } catch let error as WALError { throw CommandFailure(error) }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    return (DeliveryReport(summary, to: exporter.destination, seconds: seconds), summary, closing)
}

/// A line that shows how far a delivery is, how fast it is, and what time is left.
struct DeliveryProgress: Sendable {
    private let bar = ProgressBar("delivering")
    private let start = ContinuousClock.now
    /// Records in all, where that is known.
    let total: UInt64?

    init(total: UInt64?) { self.total = total }

    func update(_ records: Int, _ bytes: Int) {
        let seconds = max(0.001, (ContinuousClock.now - start) / .seconds(1))
        var detail = "\(readable(bytes: UInt64(bytes))), \(readable(bytes: UInt64(Double(bytes) / seconds)))/s"
        if let total, records > 0, total > UInt64(records) {
            let left = Double(total - UInt64(records)) * seconds / Double(records)
            detail += ", \(Int(left.rounded(.up))) s left"
        }
        // Without an end it shows what there is.
        bar.update(UInt64(records), of: total ?? UInt64(records), detail: "\(records) records, \(detail)")
    }

    func finish() { bar.finish() }
}
