import WALFormat
import WALStorage

/// What a view of a log knows of erasures, those included that a writer has begun since the view was opened: bytes
/// that fail their checks may be a tenant's that it erases, and its log says so before the first of them is overwritten.
/// A whole file that has left the log may be overwritten then, before it is removed, under the header that it had; that it
/// has left a later file's header says before. The log is asked again only when somebody met such bytes, and not for each
/// piece of much damage.
struct ErasuresByNow<Storage: JournalStorage> {
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
    mutating func through(_ tenant: TenantName, _ last: UInt64) -> UInt64 {
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
        guard let now = try? Recovery(storage: reader.storage, format: reader.format, scope: .sinceCheckpoint).run()
        else { return false }
        state = now.state
        oldestLive = max(oldestLive, now.files.last?.header.oldestLiveFileSequence ?? 0)
        return true
    }
}
