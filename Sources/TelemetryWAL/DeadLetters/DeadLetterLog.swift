import WALFormat
import WALStorage

/// The log in a log's directory `dead-letters` with the records that receivers refused for good: a whole log of its own,
/// for its records outlive those they are of, and are read, retained and erased as others are. It is made with its
/// first record, and opened when it is asked for.
package final class DeadLetterLog<Storage: JournalStorage>: Sendable {
    /// Its directory below the log's root.
    package static var directory: String { "dead-letters" }
    /// The subscriber that keeps what was not sent again.
    package static var subscriber: TenantName { "redrive" }
    /// Size of its journal files, where its records fit: a few letters must not take what a whole log does.
    private static var leastFileSize: UInt64 { 4 << 20 }

    private let storage: Storage
    private let options: WriteAheadLogOptions
    private let queue = BlockingQueue(name: "wal-letters")
    private let lock = Lock()
    // Safe to share: touched under `lock` only.
    private nonisolated(unsafe) var log: WriteAheadLogEngine<Storage>?
    private nonisolated(unsafe) var isClosed = false

    init(of root: Storage, options: WriteAheadLogOptions) {
        storage = root.dedicated(at: Self.directory)
        var options = options
        options.journalFileSize = min(options.journalFileSize, Self.leastFileSize)
        options.journalLimit = max(options.journalLimit, options.journalFileSize * UInt64(options.spareFiles + 2))
        options.compactionThreshold = min(options.compactionThreshold, 4 * options.journalFileSize)
        options.descriptorLimit = ReaderFiles.leastLimit(spareFiles: options.spareFiles)
        options.retention = RetentionPolicy()
        options.tenantRetention = [:]
        options.dedicatedJournalLimit = 0
        self.options = options
    }

    /// Whether there is, or was, a dead letter. Throws `.storage`.
    package func exists() throws(WALError) -> Bool {
        do throws(StorageError) { return try storage.exists("FORMAT") } catch { throw .storage(error) }
    }

    /// The log, with room for a record of a length; blocks while it is opened. Throws as opening does, and `.closed`.
    package func openBlocking(fitting length: Int = 0) throws(WALError) -> WriteAheadLogEngine<Storage> {
        try lock.withLock { () throws(WALError) in
            if unsafe isClosed { throw .closed }
            var options = self.options
            while options.maximumBatchLength < length + RecordHeader.length,
                options.journalFileSize < UInt64(4 * FormatLimits.maximumFrameRawLength)
            {
                options.journalFileSize *= 2
            }
            options.journalLimit = max(options.journalLimit, options.journalFileSize * UInt64(options.spareFiles + 2))
            if let open = unsafe log {
                let hasFailed = open.core.lock.withLock { open.core.refusal != nil }
                if !hasFailed, open.core.options.journalFileSize >= options.journalFileSize { return open }
                unsafe log = nil
                do throws(WALError) { try open.closeBlocking() } catch { if !hasFailed { throw error } }
            }
            let opened = try WriteAheadLogEngine.open(storage: storage, options: options)
            // From the first one on: it holds them until they were sent again.
            do throws(WALError) { try opened.register(subscriber: Self.subscriber) } catch {
                opened.journals.abandon()
                throw error
            }
            unsafe log = opened
            return opened
        }
    }

    /// The same on a thread of its own.
    package func open(fitting length: Int = 0) async throws(WALError) -> WriteAheadLogEngine<Storage> {
        let result = await queue.run { [self] () -> Result<WriteAheadLogEngine<Storage>, WALError> in
            do throws(WALError) { return .success(try openBlocking(fitting: length)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Erases a tenant's dead letters. Nil where there are none.
    func erase(_ tenant: TenantName) throws(WALError) -> (report: ErasureReport, directory: String)? {
        guard try exists() else { return nil }
        do throws(WALError) {
            return (try openBlocking().journals.erase(tenant), Self.directory)
        } catch {
            if case .unknownTenant = error { return nil }
            throw error
        }
    }

    func close() throws(WALError) {
        let open = lock.withLock {
            unsafe isClosed = true
            defer { unsafe log = nil }
            return unsafe log
        }
        try open?.closeBlocking()
    }
}
