import WALFormat
import WALStorage

/// What a view of a log knows of erasures, those included that a writer has begun since the view was opened: bytes
/// that fail their checks may be a tenant's that it erases, and its log says so before the first of them is overwritten.
/// The log is asked again only when somebody met such bytes, and not for each piece of much damage.
struct ErasuresByNow<Storage: JournalStorage> {
    private let reader: WriteAheadLogReader<Storage>
    private var state: LogState
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
        if asked.times >= 64, MonotonicTime.now.since(asked.last) < 1_000_000_000 { return known }
        let now = try? Recovery(storage: reader.storage, format: reader.format, scope: .sinceCheckpoint).run()
        if let now { state = now.state }
        // A journal that is removed meanwhile says it no more; the log's table says it before its first file goes.
        let table = try? reader.parent?.table()
        let account = table?.accounts.first { $0.tenant == tenant && $0.cause == nil }
        removedThrough = max(removedThrough, account?.through ?? 0)
        if now != nil || table != nil { asked = (asked.times + 1, .now) }
        return max(state.erasedThrough(of: tenant), removedThrough)
    }
}
