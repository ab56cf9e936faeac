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
    let core: LogCore<Storage>
    /// What opening found.
    public let recoveryReport: RecoveryReport

    init(core: LogCore<Storage>, report: RecoveryReport) {
        self.core = core
        recoveryReport = report
    }

    /// A log that is let go without `close` stops as if its process had died: nothing acknowledged is lost.
    deinit { core.abandon() }

    /// Opens the log in a storage, creating it where there is none, and recovers what a crash left. Blocks while it
    /// reads the journal. Throws `.storage` (with `.locked` for a second writer), `.notALog`, `.unsupportedFormat`,
    /// `.invalidOption`.
    public static func open(
        storage: Storage, options: WriteAheadLogOptions = WriteAheadLogOptions(),
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> WriteAheadLogEngine {
        try open(storage: storage, options: options, progress: progress) { (_, _) throws(WALError) in }
    }

    /// The same, with something to be done before the log's threads begin.
    static func open(
        storage: Storage, options: WriteAheadLogOptions, progress: (@Sendable (UInt64, UInt64) -> Void)?,
        beforeStart prepare: (LogCore<Storage>, RecoveryReport) throws(WALError) -> Void
    ) throws(WALError) -> WriteAheadLogEngine {
        let options = try options.checked()
        let (format, lock) = try LogRoot(storage: storage, logger: options.logger).openForWriting()
        let recovered = try Recovery(
            storage: storage, format: format, scope: options.recoveryScope, isForWriter: true, progress: progress
        ).run()
        if let numbers = recovered.exhaustedNumbers {
            throw .unsupportedFormat(
                path: storage.rootDescription, reason: "\(numbers) have come to the format's limit: it can only be read"
            )
        }
        let file: Storage.File?
        do throws(StorageError) {
            for name in try storage.entries(of: "journal") where name.hasSuffix(".tmp") {
                try storage.remove("journal/" + name)
            }
            // A segment's name may be seen and not durable yet, the process before having been killed. What it covers
            // must not leave the journal, nor a merge's outcome stand for what it was made of, before it is.
            try storage.synchronize(directories: recovered.segments.directories)
            // What lies about of a tenant that is being erased is overwritten first.
            let erased = recovered.state.tenants.indices.filter { recovered.state.isBeingErased(tenant: $0) }
                .map { SegmentName.directory(of: recovered.state.tenants[$0].name) + "/" }
            try storage.discard(
                (recovered.leftovers.superseded + recovered.leftovers.temporary).filter { path in
                    !erased.contains { path.hasPrefix($0) }
                })
            file = try recovered.machine.current.map { (current) throws(StorageError) in
                try storage.open("journal/" + current.name, forWriting: true)
            }
            // What is read as the log's end may lie in the device's cache only: durable before it is relied on, and
            // before the next file's header vouches for it.
            #if Simulation
                let skips = DeliberateBug.isActive(.skipSynchronizeAtOpening)
            #else
                let skips = false
            #endif
            if !skips, let last = recovered.files.last {
                let newest = try storage.open("journal/" + last.name, forWriting: true)
                try newest.synchronize()
            }
        } catch { throw .storage(error) }
        let core = LogCore(
            storage: storage, options: options, format: format, recovered: recovered, currentFile: file,
            storageLock: lock, queue: try queue(of: storage, options))
        if core.retention.policies.contains(where: { !$0.causes.isEmpty }), !core.checkpointFits(growingBy: 0) {
            throw .invalidOption(LogCore<Storage>.policiesDoNotFit)
        }
        report(recovered.report, to: options.logger)
        for path in recovered.leftovers.foreign {
            options.logger.error(
                "a segment is another log's, tenant's or range's than its place says: it is left alone",
                metadata: ["file": "\(storage.rootDescription)/\(path)"])
        }
        try prepare(core, recovered.report)
        core.lock.withLock { core.reclaim() }
        core.start()
        core.waitUntilReady()
        return WriteAheadLogEngine(core: core, report: recovered.report)
    }

    /// The queue that commits go through; nil for the plain path.
    private static func queue(of storage: Storage, _ options: WriteAheadLogOptions) throws(WALError) -> Storage.Queue? {
        if options.writePath == .plain || options.commitsUnderWay == 1 { return nil }
        do throws(StorageError) { return try storage.makeWriteQueue(depth: options.commitsUnderWay) } catch {
            if options.writePath == .ring { throw .storage(error) }
            options.logger.debug("no io_uring: commits go the plain path", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    static func report(_ report: RecoveryReport, to logger: Logger) {
        for finding in report.findings {
            logger.log(
                level: finding.what.isLoss ? .error : .warning, "recovery: \(finding.what.rawValue): \(finding.detail)",
                metadata: [
                    "file": "\(finding.file)", "bytes": "\(finding.byteRange)",
                    "recordsLost": "\(finding.recordsLost.map(String.init) ?? "unknown")",
                ])
        }
        if report.tornTailBytes > 0 {
            logger.info(
                "recovery: an unfinished commit at the log's end was dropped; it was never acknowledged",
                metadata: ["file": "\(report.tornTailFile ?? "")", "bytes": "\(report.tornTailBytes)"])
        }
    }

    // MARK: - Appending

    /// Appends a record and returns when it is durable. Throws `.recordTooLarge`, `.tooManyTenants`, `.journalFull` and
    /// `.tenantFull` (back-pressure), `.dropped` (by the tenant's policy), `.keyUnavailable` where the tenant is to be
    /// encrypted, `.failed`, `.closed`. Waits where staging is full.
    @discardableResult
    public func append(_ record: TelemetryRecord, tenant: TenantName) async throws(WALError) -> Receipt {
        let length = try core.checkedLength(record)
        let sequence = try await core.appendSuspending(.record(record), tenant: tenant, length: length)
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
        let first = try await core.appendSuspending(.batch(records), tenant: tenant, length: length)
        return BatchReceipt(tenant: tenant, sequences: first...first + UInt64(records.count) - 1)
    }

    /// The same as `append` for callers outside Swift concurrency: blocks the calling thread, and writes on it when
    /// no other commit is under way, which saves a lone appender every hand-off.
    @discardableResult
    public func appendBlocking(_ record: TelemetryRecord, tenant: TenantName) throws(WALError) -> Receipt {
        let length = try core.checkedLength(record)
        let sequence = try core.appendBlocking(.record(record), tenant: tenant, length: length)
        return Receipt(tenant: tenant, sequence: sequence)
    }

    /// The same as `append(contentsOf:tenant:)`, blocking.
    @discardableResult
    public func appendBlocking(
        contentsOf records: [TelemetryRecord], tenant: TenantName
    ) throws(WALError) -> BatchReceipt {
        let length = try core.checkedLength(records)
        let first = try core.appendBlocking(.batch(records), tenant: tenant, length: length)
        return BatchReceipt(tenant: tenant, sequences: first...first + UInt64(records.count) - 1)
    }

    /// Hands a record over and returns at once; `durable(through:)` tells when it is durable. Throws `.stagingFull`,
    /// `.journalFull` or `.tenantFull` where it would have to wait, `.dropped` by the tenant's policy, `.keyUnavailable`.
    public func enqueue(_ record: TelemetryRecord, tenant: TenantName) throws(WALError) -> Ticket {
        let length = try core.checkedLength(record)
        return Ticket(group: try core.enqueue(record, tenant: tenant, length: length))
    }

    /// Returns when the ticket's record, and all enqueued before it, are durable. Throws the error of the commit that
    /// failed; after such a failure no later commit succeeds. What others `append` meanwhile may be durable before.
    public func durable(through ticket: Ticket) async throws(WALError) { try await core.durable(through: ticket.group) }

    /// The same as `durable(through:)`, blocking the calling thread.
    public func durableBlocking(through ticket: Ticket) throws(WALError) {
        try core.durableBlocking(through: ticket.group)
    }

    /// Sets a tenant's weight (`WriteAheadLogOptions.tenantWeights`) until the log is closed. The tenant need not be in
    /// the log yet. Throws `.invalidOption`.
    public func setWeight(_ weight: Int, of tenant: TenantName) throws(WALError) {
        try TenantWeight.checked(weight)
        core.lock.withLock { core.setWeight(weight, of: tenant) }
    }

    // MARK: - Closing

    /// Makes everything enqueued and acknowledged durable, marks the log as closed, releases it to the next writer.
    /// Later appends throw `.closed`. A second call does nothing.
    public func close() async throws(WALError) {
        let core = self.core
        let result = await core.readQueue.run { () -> Result<Void, WALError> in
            do throws(WALError) { return .success(try core.close()) } catch { return .failure(error) }
        }
        try result.get()
    }

    /// The same as `close`, blocking the calling thread.
    public func closeBlocking() throws(WALError) { try core.close() }

    /// Moves all that some subscriber lacks out of the journal into tenant segments, and merges these, whatever
    /// `compactionThreshold` says; blocks the calling thread until that is done. Returns the counters since opening.
    /// Throws `.storage` where segments cannot be written, `.keyUnavailable` where encrypted records have to move and
    /// cannot be opened, `.closed`, `.failed`, `.journalFull`.
    @discardableResult
    public func compactBlocking() throws(WALError) -> CompactionStatistics {
        try core.compact()
        return compactionStatistics
    }

    // MARK: - State

    /// Counters since opening.
    public var statistics: CommitStatistics { core.lock.withLock { core.statistics } }
    /// How commits reach the device: `ring` or `plain`, as chosen when the log was opened.
    public var writePath: WritePath { core.queue == nil ? .plain : .ring }
    /// The log's UUID.
    public var identifier: LogIdentifier { core.format.logIdentifier }
    /// Counters of compaction since opening.
    public var compactionStatistics: CompactionStatistics { core.lock.withLock { core.compactionStatistics } }
    /// Whether records are on their way into segments at the moment, or segments are being merged or removed.
    public var isCompacting: Bool { core.lock.withLock { core.isCompacting } }
    /// Bytes of all tenant segments.
    public var segmentLength: UInt64 { core.lock.withLock { core.segments.length } }
    /// Number of tenant segments.
    public var segmentCount: Int { core.lock.withLock { core.segments.count } }
    /// Number of the last durable commit.
    public var durableCommit: UInt64 { core.lock.withLock { core.durableThrough } }
    /// Tenants in the order in which they came, with sequence numbers and cursors.
    public var tenants: [TenantStatus] {
        let (state, files, segments) = core.lock.withLock { (core.state, core.files, core.segments) }
        return TenantStatus.all(in: state, files: files, segments: segments)
    }
    /// Subscribers, by name.
    public var subscribers: [TenantName] { core.lock.withLock { core.state.subscribers } }
    /// Journal files that hold the log at the moment, spares not counted.
    public var liveFileCount: Int { core.lock.withLock { core.files.count } }
}

extension WriteAheadLogEngine where Storage == DirectStorage {
    /// Opens the log in a directory, creating both where there is none, and recovers what a crash left. Throws like
    /// `open(storage:options:progress:)`. The journal is read on a thread of its own.
    public static func open(
        at path: String, options: WriteAheadLogOptions = WriteAheadLogOptions()
    ) async throws(WALError) -> WriteAheadLog {
        let queue = BlockingQueue(name: "wal-open")
        let result = await queue.run { () -> Result<WriteAheadLog, WALError> in
            do throws(WALError) { return .success(try openBlocking(at: path, options: options)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The same as `open(at:options:)`, blocking the calling thread.
    public static func openBlocking(
        at path: String, options: WriteAheadLogOptions = WriteAheadLogOptions(),
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> WriteAheadLog {
        try open(
            storage: DirectStorage(root: FilePath(path), direct: options.directIO), options: options,
            progress: progress)
    }
}
