import WALFormat
import WALStorage

/// What a subscriber has not acknowledged yet, as batches: of one tenant or of all, each tenant's in the order of their
/// numbers. It ends where the durable log ends; iterating again later goes on from the cursors.
///
/// Its reads run on the log's own reader thread. They keep nothing from being reclaimed: what a subscriber has not
/// acknowledged stays all the same, unless the tenant's `RetentionPolicy` has it dropped. What is dropped is passed over
/// without an error; `TenantStatus.drops` counts it.
public struct SubscriberRecords<Storage: JournalStorage>: AsyncSequence, Sendable {
    public typealias Element = RecordBatch
    public typealias Failure = WALError

    let journals: Journals<Storage>
    let tenant: TenantName?
    let subscriber: TenantName

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(walk: JoinedWalk(journals: journals, tenant: tenant, subscriber: subscriber))
    }

    /// The same for callers outside Swift concurrency: reads on the calling thread. One thread at a time.
    public func makeBlockingIterator() -> BlockingIterator {
        BlockingIterator(walk: JoinedWalk(journals: journals, tenant: tenant, subscriber: subscriber))
    }

    public struct BlockingIterator {
        let walk: JoinedWalk<Storage>

        /// The next batch, nil at the durable end. Throws as `AsyncIterator.next` does.
        public mutating func next() throws(WALError) -> RecordBatch? { try walk.next() }
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let walk: JoinedWalk<Storage>

        /// The next batch, nil at the durable end. Throws `.damaged` once for each place whose bytes fail their
        /// checks and `.keyForgotten` for each row of records whose key is no more, and goes on behind it with the next
        /// call. Throws `.keyUnavailable` once for each tenant whose key is not to be had, and `.journalUnavailable` for
        /// each whose own journal is not, and goes on with the other tenants: iterate anew for that one's records.
        public mutating func next() async throws(WALError) -> RecordBatch? { try await Self.advance(walk) }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(WALError) -> RecordBatch? {
            try await Self.advance(walk)
        }

        private static func advance(_ walk: JoinedWalk<Storage>) async throws(WALError) -> RecordBatch? {
            let result = await walk.journals.shared.readQueue.run { () -> Result<RecordBatch?, WALError> in
                do throws(WALError) { return .success(try walk.next()) } catch { return .failure(error) }
            }
            return try result.get()
        }
    }
}

/// The walk through one journal.
///
/// Safe to share although unchecked: its variables are touched by its one iterator only, on the log's reader thread or
/// on the thread of a blocking iterator.
final class SubscriberWalk<Storage: JournalStorage>: @unchecked Sendable {
    let core: LogCore<Storage>
    private let walk: RecordWalk<Storage>
    /// Why there is nothing to read.
    private var refusal: WALError?
    /// It may keep its files open between two batches.
    private var hasPlace = false

    init(
        core: LogCore<Storage>, tenant: TenantName?, subscriber: TenantName, registers: Bool = true,
        wants: ((TenantName, UInt64) -> Bool)? = nil, boundaries: @escaping (TenantName) -> [UInt64] = { _ in [] }
    ) {
        self.core = core
        var source = core.walkSource(of: tenant, for: subscriber)
        source.wants = wants
        source.boundaries = boundaries
        walk = RecordWalk(
            storage: core.storage, format: core.format, keys: FrameKeys(core.options.keyProvider), tenant: tenant,
            source: source)
        guard registers else { return }
        do throws(WALError) {
            try core.lock.withLock { () throws(WALError) in try core.register(subscriber) }
        } catch { refusal = error }
    }

    /// A walk that somebody lays out who has registered the subscriber.
    init(core: LogCore<Storage>, tenant: TenantName?, source: WalkSource<Storage>) {
        self.core = core
        walk = RecordWalk(
            storage: core.storage, format: core.format, keys: FrameKeys(core.options.keyProvider), tenant: tenant,
            source: source)
    }

    func given(of tenant: TenantName) -> UInt64 { walk.given(of: tenant) }

    func readmit(_ tenant: TenantName) { walk.readmit(tenant) }

    deinit {
        guard hasPlace else { return }
        walk.closeFiles()
        core.readerFiles.givePlaceBack()
    }

    func next() throws(WALError) -> RecordBatch? {
        if let refusal { throw refusal }
        if let batch = walk.nextRead() { return batch }
        if !hasPlace { hasPlace = core.readerFiles.takePlace() }
        walk.isGentle = !hasPlace
        if hasPlace {
            let batch = try told { () throws(WALError) in try walk.next() }
            if batch == nil {
                // It may be asked again in a second or a day.
                walk.closeFiles()
                core.readerFiles.givePlaceBack()
                hasPlace = false
            }
            return batch
        }
        return try told { () throws(WALError) in
            try core.readerFiles.asGuest { () throws(WALError) in
                defer { walk.closeFiles() }
                return try walk.next()
            }
        }
    }

    /// Reads on; what is met on the way the log is told of.
    private func told(_ read: () throws(WALError) -> RecordBatch?) throws(WALError) -> RecordBatch? {
        do throws(WALError) { return try read() } catch {
            // A log that has ended keeps nothing: the next writer may be at work on what looks damaged.
            if let reason = core.lock.withLock({ core.isStopped ? core.refusal : nil }) { throw reason }
            if case .damaged = error {
                if let file = walk.fileSequence {
                    core.examine(file)
                } else if let (tenant, name) = walk.damagedSegment {
                    core.lock.withLock { core.segments.markDamaged(name, of: tenant) }
                }
            }
            throw error
        }
    }
}

extension WriteAheadLogEngine {
    /// What a subscriber has not acknowledged yet of one tenant. Registers the subscriber: from then on the log keeps
    /// what it has not acknowledged; in tenants' own journals when the first batch is asked for.
    public func records(of tenant: TenantName, subscriber: TenantName) -> SubscriberRecords<Storage> {
        SubscriberRecords(journals: journals, tenant: tenant, subscriber: subscriber)
    }

    /// What a subscriber has not acknowledged yet of all tenants, each one's in order. Registers the subscriber.
    public func records(subscriber: TenantName) -> SubscriberRecords<Storage> {
        SubscriberRecords(journals: journals, tenant: nil, subscriber: subscriber)
    }

    /// Makes a subscriber known: from now on the log keeps what it has not acknowledged.
    /// Throws `.tooManySubscribers`; where tenants have journals of their own, it has to be durable first, and blocks, and
    /// throws `.journalFull`, `.failed`, `.closed` as well.
    public func register(subscriber: TenantName) throws(WALError) {
        try journals.register(subscriber)
    }

    /// Forgets a subscriber; what only it had not acknowledged may then be reclaimed.
    public func unregister(subscriber: TenantName) { journals.unregister(subscriber) }

    /// Notes that a subscriber has all of a tenant's records through the batch's last. Returns at once: the note
    /// rides on the next commit, or follows within `idleMilliseconds`. A crash before that means that records are read
    /// again, never that they are missed. Cursors never move back, nor past what is durable. Without effect for a
    /// subscriber that is not registered.
    public func acknowledge(_ batch: RecordBatch, subscriber: TenantName) {
        acknowledge(through: batch.sequences.upperBound, of: batch.tenant, subscriber: subscriber)
    }

    /// The same by sequence number.
    public func acknowledge(through sequence: UInt64, of tenant: TenantName, subscriber: TenantName) {
        // Whoever has a record has all before it, wherever they are.
        for core in journals.openCores(with: tenant) {
            core.lock.withLock { core.acknowledge(subscriber, tenant: tenant, through: sequence) }
        }
    }

    /// The same as `flushAcknowledgements`, blocking the calling thread.
    public func flushAcknowledgementsBlocking() throws(WALError) {
        try journals.flushAcknowledgements()
    }

    /// Returns when all acknowledgements given so far are durable. Throws `.failed`, `.closed`, `.journalFull`.
    public func flushAcknowledgements() async throws(WALError) {
        let journals = self.journals
        let result = await core.readQueue.run { () -> Result<Void, WALError> in
            do throws(WALError) { return .success(try journals.flushAcknowledgements()) } catch {
                return .failure(error)
            }
        }
        try result.get()
    }
}
