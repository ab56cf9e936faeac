import WALFormat
import WALStorage

/// What may excuse bytes that fail their checks to a view of a log, since the view was opened: a writer erases the tenant
/// whose they are, or they stand in a file that has left. Of the former the log tells before the first byte is
/// overwritten; of the latter a later file's header, while the file itself, overwritten for an erasure, may still have
/// the header that it had. The log is asked again only when somebody met such bytes, and not for each piece of much damage.
struct LogByNow<Storage: JournalStorage> {
    private static var mostAttempts: Int { 50 }

    private let reader: WriteAheadLogReader<Storage>
    private var state: LogState
    /// The lowest sequence number of a file that is part of the log by now, as far as is known.
    private var oldestLive: UInt64 = 0
    /// What the table says of the one tenant whose own journal this is a view of.
    private var removedThrough: UInt64 = 0
    private var asked = (times: 0, last: MonotonicTime(nanoseconds: 0))

    init(of reader: WriteAheadLogReader<Storage>) {
        self.reader = reader
        state = reader.recovered.state
    }

    /// Through which number a tenant is erased by now, where `last` hangs on it; 0: not at all.
    mutating func erasedThrough(_ tenant: TenantName, _ last: UInt64) -> UInt64 {
        let known = max(state.erasedThrough(of: tenant), removedThrough)
        if known >= last { return known }
        guard mayAsk else { return known }
        let now = askLog()
        // A journal that is removed meanwhile says it no more; the log's table says it before its first file goes.
        let table = try? reader.parent?.table()
        let account = table?.accounts.first { $0.tenant == tenant && $0.cause == nil }
        removedThrough = max(removedThrough, account?.through ?? 0)
        if now || table != nil { asked = (asked.times + 1, .now) }
        return max(state.erasedThrough(of: tenant), removedThrough)
    }

    /// Whether a file is no part of the log any more by now.
    mutating func hasLeft(_ file: JournalFileHeader) -> Bool {
        if file.fileSequence >= oldestLive, mayAsk, askLog() { asked = (asked.times + 1, .now) }
        return file.fileSequence < oldestLive
    }

    private var mayAsk: Bool { asked.times < 64 || MonotonicTime.now.since(asked.last) >= 1_000_000_000 }

    /// Returns whether the log could be read.
    private mutating func askLog() -> Bool {
        for _ in 0..<Self.mostAttempts {
            do throws(WALError) {
                let now = try Recovery(storage: reader.storage, format: reader.format, scope: .sinceCheckpoint).run()
                // Of a journal that is gone nothing is known, and what was known holds.
                if now.files.isEmpty { return false }
                state = now.state
                oldestLive = max(oldestLive, now.files.last?.header.oldestLiveFileSequence ?? 0)
                return true
            } catch {
                // A living writer removes files that it needs no more, as a view's opening knows.
                guard case .storage(let cause) = error, cause.code == .notFound else { return false }
            }
        }
        return false
    }
}
