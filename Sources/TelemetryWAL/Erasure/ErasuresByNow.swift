import WALFormat
import WALStorage

/// What a view of a log knows of erasures, those included that a writer has begun since the view was opened: bytes
/// that fail their checks may be a tenant's that it erases, and its log says so before the first of them is overwritten.
/// The log is asked again only when somebody met such bytes, and not for each piece of much damage.
struct ErasuresByNow<Storage: JournalStorage> {
    private let reader: WriteAheadLogReader<Storage>
    private var state: LogState
    private var asked = (times: 0, last: MonotonicTime(nanoseconds: 0))

    init(of reader: WriteAheadLogReader<Storage>) {
        self.reader = reader
        state = reader.recovered.state
    }

    /// Through which number a tenant is erased by now, where `last` hangs on it; 0: not at all.
    mutating func through(_ tenant: TenantName, _ last: UInt64) -> UInt64 {
        let known = state.erasedThrough(of: tenant)
        if known >= last { return known }
        if asked.times >= 64, MonotonicTime.now.since(asked.last) < 1_000_000_000 { return known }
        guard
            let now = try? Recovery(storage: reader.storage, format: reader.format, scope: .sinceCheckpoint).run()
        else { return known }
        asked = (asked.times + 1, .now)
        state = now.state
        return state.erasedThrough(of: tenant)
    }
}
