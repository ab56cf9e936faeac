import WALFormat
import WALStorage

/// Has a log's `FORMAT` say that records are encrypted, before the first one is written. From then on who opens the log
/// without keys, by mistake more often than not, cannot append to it: records that their tenant believes to be encrypted
/// would go to the disk in the open.
///
/// Safe to share although unchecked: `lock` guards what changes.
final class EncryptionMark<Storage: JournalStorage>: @unchecked Sendable {
    private let storage: Storage
    private let format: RootFormat
    private let lock = Lock()
    private var isSet: Bool
    #if Simulation
        private var isLate = false
    #endif
    /// When it failed last.
    private var lastFailure: MonotonicTime?
    /// Nanoseconds until it is tried again.
    private static var retryTime: UInt64 { 10_000_000_000 }

    /// `storage`: the log's root.
    init(storage: Storage, format: RootFormat) {
        self.storage = storage
        self.format = format
        isSet = format.isEncrypted
    }

    /// Sets the mark, durably, where it is not set; blocks meanwhile. That it cannot be written is no reason to refuse
    /// records that are encrypted: it is tried again from time to time. Returns what went wrong.
    func set() -> StorageError? {
        lock.withLock {
            if isSet { return nil }
            #if Simulation
                if DeliberateBug.isActive(.markEncryptionLate), !isLate {
                    isLate = true
                    return nil
                }
            #endif
            let now = MonotonicTime.now
            if let lastFailure, now.since(lastFailure) < Self.retryTime { return nil }
            var format = format
            format.isEncrypted = true
            do throws(StorageError) {
                try storage.replace("FORMAT", with: format.encoded())
                isSet = true
                return nil
            } catch {
                lastFailure = now
                return error
            }
        }
    }
}
