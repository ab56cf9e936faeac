/// Bounds how many files the readers of a log keep open. Who has a place keeps its files from one batch to the next, and
/// reads ahead in them. Who finds none opens them for one batch and closes them again, four readers at a time: slower, but
/// however many there are, the process does not run out of descriptors.
///
/// Safe to share although unchecked: `lock` guards what changes.
final class ReaderFiles: @unchecked Sendable {
    /// A journal file and the next one, which is read ahead, or a segment; and a file that is looked at for damage.
    static let filesOfReader = 3
    /// What the log itself has open at most: the root, the lock, the ring, journal files being written, made ready, read
    /// and overwritten, and the segments of a merge.
    static let filesOfEngine = 48
    private static let guests = 4

    private let lock = Lock()
    private let leaves = Condition()
    private var places: Int
    /// Guests are served in the order in which they come: none that comes again at once takes another's turn.
    private var guestsArrived = 0
    private var guestsServed = 0

    /// `limit`: of all descriptors. `spareFiles`: journal files that are held ready.
    init(limit: Int, spareFiles: Int) {
        places = max(0, (limit - Self.filesOfEngine - spareFiles) / Self.filesOfReader - Self.guests)
    }

    /// The least limit: there is room for guests only.
    static func leastLimit(spareFiles: Int) -> Int { filesOfEngine + spareFiles + guests * filesOfReader }

    /// Takes a place for good. Returns whether there was one.
    func takePlace() -> Bool {
        lock.withLock {
            if places == 0 { return false }
            places -= 1
            return true
        }
    }

    func givePlaceBack() { lock.withLock { places += 1 } }

    /// Runs a closure that opens files, and closes them, when one of the guests' places is free.
    func asGuest<Value>(_ body: () throws(WALError) -> Value) throws(WALError) -> Value {
        lock.withLock {
            let turn = guestsArrived
            guestsArrived += 1
            while turn >= guestsServed + Self.guests { leaves.wait(lock) }
        }
        defer {
            lock.withLock {
                guestsServed += 1
                leaves.broadcast()
            }
        }
        return try body()
    }
}
