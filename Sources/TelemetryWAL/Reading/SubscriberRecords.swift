import WALFormat
import WALStorage

/// What a subscriber has not acknowledged yet, as batches: of one tenant or of all, in the journal's order. It ends
/// where the durable log ends; iterating again later goes on from the cursors.
///
/// Its reads run on the log's own reader thread. A file that it is in is not used again until it has left it.
public struct SubscriberRecords<Storage: JournalStorage>: AsyncSequence, Sendable {
    public typealias Element = RecordBatch
    public typealias Failure = WALError

    let core: LogCore<Storage>
    let tenant: TenantName?
    let subscriber: TenantName

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(walk: SubscriberWalk(core: core, tenant: tenant, subscriber: subscriber))
    }

    /// The same for callers outside Swift concurrency: reads on the calling thread. One thread at a time.
    public func makeBlockingIterator() -> BlockingIterator {
        BlockingIterator(walk: SubscriberWalk(core: core, tenant: tenant, subscriber: subscriber))
    }

    public struct BlockingIterator {
        let walk: SubscriberWalk<Storage>

        /// The next batch, nil at the durable end. Throws as `AsyncIterator.next` does.
        public mutating func next() throws(WALError) -> RecordBatch? { try walk.next() }
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let walk: SubscriberWalk<Storage>

        /// The next batch, nil at the durable end. Throws `.damaged` once for each place whose bytes fail their
        /// checks, and goes on behind it with the next call.
        public mutating func next() async throws(WALError) -> RecordBatch? { try await Self.advance(walk) }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(WALError) -> RecordBatch? {
            try await Self.advance(walk)
        }

        private static func advance(_ walk: SubscriberWalk<Storage>) async throws(WALError) -> RecordBatch? {
            let result = await walk.core.readQueue.run { () -> Result<RecordBatch?, WALError> in
                do throws(WALError) { return .success(try walk.next()) } catch { return .failure(error) }
            }
            return try result.get()
        }
    }
}

/// The walk itself.
///
/// Safe to share although unchecked: its variables are touched by its one iterator only, on the log's reader thread or
/// on the thread of a blocking iterator, and by `deinit`.
final class SubscriberWalk<Storage: JournalStorage>: @unchecked Sendable {
    let core: LogCore<Storage>
    private let tenant: TenantName?
    private let subscriber: TenantName
    private var cursor: JournalCursor<Storage>
    private var pinned: [UInt64] = []
    private var pending: [RecordBatch] = []
    /// Why there is nothing to read.
    private var refusal: WALError?
    /// What was acknowledged when the walk began, or has been given since, by tenant. A commit whose write failed may
    /// be there as well as its repetition in the next file, if damage took the seal that rules it out.
    private var start: [TenantName: UInt64] = [:]

    init(core: LogCore<Storage>, tenant: TenantName?, subscriber: TenantName) {
        self.core = core
        self.tenant = tenant
        self.subscriber = subscriber
        cursor = JournalCursor(
            storage: core.storage, format: core.format, files: [], throughCommit: 0,
            filesArePinned: true)
        do throws(WALError) {
            try core.lock.withLock { () throws(WALError) in try core.register(subscriber) }
            extend(behind: nil)
        } catch { refusal = error }
    }

    deinit { core.lock.withLock { core.pin(pinned, by: -1) } }

    /// Takes what the log holds now, behind a place. Returns whether there is anything.
    @discardableResult
    private func extend(behind position: (fileSequence: UInt64, offset: UInt64)?) -> Bool {
        core.lock.withLock {
            var index: Int?
            var from: UInt64 = 1
            if let tenant {
                index = core.state.index(of: tenant)
                guard let index else { return false }
                from = core.state.acknowledgedThrough(subscriber, tenant: index) + 1
            }
            let files = core.readableFiles(tenantIndex: index, from: from, behind: position)
            let sequences = files.map(\.header.fileSequence)
            core.pin(sequences, by: 1)
            core.pin(pinned, by: -1)
            pinned = sequences
            if let position, files.first?.header.fileSequence != position.fileSequence {
                cursor = JournalCursor(
                    storage: core.storage, format: core.format, files: files,
                    throughCommit: core.durableThrough, filesArePinned: true)
            } else if position == nil {
                cursor = JournalCursor(
                    storage: core.storage, format: core.format, files: files,
                    throughCommit: core.durableThrough, filesArePinned: true)
            } else {
                cursor.extend(files, throughCommit: core.durableThrough)
            }
            return !files.isEmpty
        }
    }

    func next() throws(WALError) -> RecordBatch? {
        if let refusal { throw refusal }
        while pending.isEmpty {
            let batches: [RecordBatch]?
            do throws(WALError) {
                batches = try cursor.next { name, sequences, _ in
                    guard tenant == nil || tenant == name else { return nil }
                    let through = acknowledged(name)
                    return sequences.upperBound > through ? through + 1 : nil
                }
            } catch {
                // A log that has ended keeps nothing: the next writer may be at work on what looks damaged.
                if let reason = core.lock.withLock({ core.isStopped ? core.refusal : nil }) { throw reason }
                if case .damaged = error, let file = cursor.files.first { core.examine(file.header.fileSequence) }
                throw error
            }
            unpinLeftFiles()
            if let batches {
                for batch in batches { start[batch.tenant] = batch.sequences.upperBound }
                pending = batches.reversed()
            } else {
                let position = cursor.position
                guard extend(behind: position.fileSequence == 0 ? nil : position) else { return nil }
            }
        }
        return pending.popLast()
    }

    private func acknowledged(_ name: TenantName) -> UInt64 {
        if let known = start[name] { return known }
        let through = core.lock.withLock { () -> UInt64 in
            core.state.index(of: name).map { core.state.acknowledgedThrough(subscriber, tenant: $0) } ?? 0
        }
        start[name] = through
        return through
    }

    private func unpinLeftFiles() {
        let current = Set(cursor.files.map(\.header.fileSequence))
        let left = pinned.filter { !current.contains($0) }
        guard !left.isEmpty else { return }
        pinned.removeAll { !current.contains($0) }
        core.lock.withLock { core.pin(left, by: -1) }
    }
}

extension WriteAheadLogEngine {
    /// What a subscriber has not acknowledged yet of one tenant. Registers the subscriber: from then on the log keeps
    /// what it has not acknowledged.
    public func records(of tenant: TenantName, subscriber: TenantName) -> SubscriberRecords<Storage> {
        SubscriberRecords(core: core, tenant: tenant, subscriber: subscriber)
    }

    /// What a subscriber has not acknowledged yet, all tenants in the journal's order. Registers the subscriber.
    public func records(subscriber: TenantName) -> SubscriberRecords<Storage> {
        SubscriberRecords(core: core, tenant: nil, subscriber: subscriber)
    }

    /// Makes a subscriber known: from now on the log keeps what it has not acknowledged.
    /// Throws `.tooManySubscribers`.
    public func register(subscriber: TenantName) throws(WALError) {
        try core.lock.withLock { () throws(WALError) in try core.register(subscriber) }
    }

    /// Forgets a subscriber; what only it had not acknowledged may then be reclaimed.
    public func unregister(subscriber: TenantName) { core.lock.withLock { core.unregister(subscriber) } }

    /// Notes that a subscriber has all of a tenant's records through the batch's last. Returns at once: the note
    /// rides on the next commit, or follows within `idleMilliseconds`. A crash before that means that records are read
    /// again, never that they are missed. Cursors never move back, nor past what is durable. Without effect for a
    /// subscriber that is not registered.
    public func acknowledge(_ batch: RecordBatch, subscriber: TenantName) {
        acknowledge(through: batch.sequences.upperBound, of: batch.tenant, subscriber: subscriber)
    }

    /// The same by sequence number.
    public func acknowledge(through sequence: UInt64, of tenant: TenantName, subscriber: TenantName) {
        core.lock.withLock { core.acknowledge(subscriber, tenant: tenant, through: sequence) }
    }

    /// The same as `flushAcknowledgements`, blocking the calling thread.
    public func flushAcknowledgementsBlocking() throws(WALError) { try core.flushAcknowledgements() }

    /// Returns when all acknowledgements given so far are durable. Throws `.failed`, `.closed`, `.journalFull`.
    public func flushAcknowledgements() async throws(WALError) {
        let core = self.core
        let result = await core.readQueue.run { () -> Result<Void, WALError> in
            do throws(WALError) { return .success(try core.flushAcknowledgements()) } catch { return .failure(error) }
        }
        try result.get()
    }
}
