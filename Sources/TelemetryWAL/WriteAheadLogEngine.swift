import Logging
import SystemPackage
import WALFormat
import WALStorage

/// A crash-safe, multi-tenant write-ahead log for telemetry on files past the page cache.
public typealias WriteAheadLog = WriteAheadLogEngine<DirectStorage>

/// A crash-safe write-ahead log: what was acknowledged survives the end of the process and the loss of power.
///
/// Records of any number of tenants go into one journal, so that one device flush makes a whole group of appends
/// durable. All methods may be called from any thread or task. One process at a time writes a log; others may read it
/// with `WriteAheadLogReader`.
public final class WriteAheadLogEngine<Storage: JournalStorage>: Sendable {
    /// The journals of tenants' own, and the shared one.
    let journals: Journals<Storage>
    /// What opening found in the shared journal.
    public let recoveryReport: RecoveryReport
    /// The records of the log that receivers refused for good.
    package let deadLetters: DeadLetterLog<Storage>

    init(journals: Journals<Storage>, report: RecoveryReport) {
        self.journals = journals
        deadLetters = DeadLetterLog(of: journals.root.storage, options: journals.options)
        recoveryReport = report
    }

    /// The shared journal's engine.
    var core: LogCore<Storage> { journals.shared }

    /// A log that is let go without `close` stops as if its process had died: nothing acknowledged is lost.
    deinit { journals.abandon() }

    // MARK: - Appending

    /// Appends a record and returns when it is durable. Throws `.recordTooLarge`, `.tooManyTenants`, `.journalFull` and
    /// `.tenantFull` (back-pressure), `.dropped` (by the tenant's policy), `.keyUnavailable` where the tenant is to be
    /// encrypted, or the log is encrypted and has no key provider, `.failed`, `.closed`. Waits where staging is full.
    @discardableResult
    public func append(_ record: TelemetryRecord, tenant: TenantName) async throws(WALError) -> Receipt {
        let length = try core.checkedLength(record)
        let sequence = try await journals.appendSuspending(.record(record), tenant: tenant, length: length)
        return Receipt(tenant: tenant, sequence: sequence)
    }

    /// Appends a batch in one commit: all of it becomes durable or nothing. Throws like `append`, and
    /// `.batchTooLarge` for more than a quarter of a journal file or 16 MiB. An empty batch is refused as
    /// `.invalidOption`.
    @discardableResult
    public func append(
        contentsOf records: [TelemetryRecord], tenant: TenantName
    ) async throws(WALError) -> BatchReceipt {
        let length = try core.checkedLength(records)
        let first = try await journals.appendSuspending(.batch(records), tenant: tenant, length: length)
        return BatchReceipt(tenant: tenant, sequences: first...first + UInt64(records.count) - 1)
    }

    /// The same as `append` for callers outside Swift concurrency: blocks the calling thread, and writes on it when
    /// no other commit is under way, which saves a lone appender every hand-off.
    @discardableResult
    public func appendBlocking(_ record: TelemetryRecord, tenant: TenantName) throws(WALError) -> Receipt {
        let length = try core.checkedLength(record)
        let sequence = try journals.appending(to: tenant) { (core) throws(WALError) in
            try core.appendBlocking(.record(record), tenant: tenant, length: length)
        }
        return Receipt(tenant: tenant, sequence: sequence)
    }

    /// The same as `append(contentsOf:tenant:)`, blocking.
    @discardableResult
    public func appendBlocking(
        contentsOf records: [TelemetryRecord], tenant: TenantName
    ) throws(WALError) -> BatchReceipt {
        let length = try core.checkedLength(records)
        let first = try journals.appending(to: tenant) { (core) throws(WALError) in
            try core.appendBlocking(.batch(records), tenant: tenant, length: length)
        }
        return BatchReceipt(tenant: tenant, sequences: first...first + UInt64(records.count) - 1)
    }

    /// Hands a record over and returns at once; `durable(through:)` tells when it is durable. Throws `.stagingFull`,
    /// `.journalFull`, `.tenantFull` or `.placementChanging` where it would have to wait, `.dropped` by the tenant's policy,
    /// `.keyUnavailable`, `.journalUnavailable`.
    public func enqueue(_ record: TelemetryRecord, tenant: TenantName) throws(WALError) -> Ticket {
        let length = try core.checkedLength(record)
        return try journals.enqueue(record, tenant: tenant, length: length)
    }

    /// Returns when the ticket's record, and all enqueued before it, are durable; all of the same journal, where tenants have
    /// journals of their own. Throws the error of the commit that failed; after such a failure no later commit succeeds.
    /// What others `append` meanwhile may be durable before.
    public func durable(through ticket: Ticket) async throws(WALError) { try await journals.durable(through: ticket) }

    /// The same as `durable(through:)`, blocking the calling thread.
    public func durableBlocking(through ticket: Ticket) throws(WALError) {
        try journals.durableBlocking(through: ticket)
    }

    /// Sets a tenant's weight (`WriteAheadLogOptions.tenantWeights`) until the log is closed. The tenant need not be in
    /// the log yet. Throws `.invalidOption`.
    public func setWeight(_ weight: Int, of tenant: TenantName) throws(WALError) {
        try TenantWeight.checked(weight)
        // In a journal of its own it shares with nobody.
        core.lock.withLock { core.setWeight(weight, of: tenant) }
    }

    // MARK: - Closing

    /// Makes everything enqueued and acknowledged durable, marks the log as closed, releases it to the next writer.
    /// Later appends throw `.closed`. A second call does nothing.
    public func close() async throws(WALError) {
        let (journals, deadLetters) = (self.journals, self.deadLetters)
        let result = await core.readQueue.run { () -> Result<Void, WALError> in
            do throws(WALError) { return .success(try Self.close(journals, deadLetters)) } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// The same as `close`, blocking the calling thread.
    public func closeBlocking() throws(WALError) { try Self.close(journals, deadLetters) }

    private static func close(
        _ journals: Journals<Storage>, _ deadLetters: DeadLetterLog<Storage>
    ) throws(WALError) {
        var failure: WALError?
        do throws(WALError) { try deadLetters.close() } catch { failure = error }
        try journals.close()
        if let failure { throw failure }
    }

    /// Moves all that some subscriber lacks out of the journal into tenant segments, and merges these, whatever
    /// `compactionThreshold` says; blocks the calling thread until that is done. Returns the counters since opening. What
    /// no key opens moves as it is. Throws `.storage` where segments cannot be written, `.closed`, `.failed`,
    /// `.journalFull`.
    @discardableResult
    public func compactBlocking() throws(WALError) -> CompactionStatistics {
        for core in journals.all { try core.compact() }
        return compactionStatistics
    }

    // MARK: - State

    /// Counters since opening, of all journals together.
    public var statistics: CommitStatistics {
        journals.all.map { core in core.lock.withLock { core.statistics } }.reduce(CommitStatistics()) { $0.adding($1) }
    }
    /// How commits reach the device: `ring` or `plain`, as chosen when the log was opened.
    public var writePath: WritePath { core.queue == nil ? .plain : .ring }
    /// The log's UUID.
    public var identifier: LogIdentifier { core.format.logIdentifier }
    /// Counters of compaction since opening, of all journals together.
    public var compactionStatistics: CompactionStatistics {
        journals.all.map { core in core.lock.withLock { core.compactionStatistics } }
            .reduce(CompactionStatistics()) { $0.adding($1) }
    }
    /// Whether records are on their way into segments at the moment, or segments are being merged or removed.
    public var isCompacting: Bool { journals.all.contains { core in core.lock.withLock { core.isCompacting } } }
    /// Bytes of all tenant segments.
    public var segmentLength: UInt64 { journals.sum { $0.segments.length } }
    /// Number of tenant segments.
    public var segmentCount: Int { journals.sum { $0.segments.count } }
    /// Number of the shared journal's last durable commit.
    public var durableCommit: UInt64 { core.lock.withLock { core.durableThrough } }
    /// Tenants in the order in which they came, with sequence numbers and cursors; those who came to a journal of their
    /// own behind the others.
    public var tenants: [TenantStatus] {
        let subscriptions = journals.subscriptions
        func status(_ core: LogCore<Storage>) -> [TenantStatus] {
            var (state, files, segments) = core.lock.withLock { (core.state, core.files, core.segments) }
            if core !== self.core { state.adopt(subscriptions) }
            return TenantStatus.all(in: state, files: files, segments: segments)
        }
        let residences = journals.residences
        return TenantStatus.joining(
            status(core), residences.map { ($0.residence, $0.core.map { $0 === core ? nil : status($0) } ?? nil) },
            journals.table.accounts)
    }
    /// Subscribers, by name.
    public var subscribers: [TenantName] { core.lock.withLock { core.state.subscribers } }
    /// Journal files that hold the log at the moment, spares not counted.
    public var liveFileCount: Int { journals.sum { $0.files.count } }
}
