/// What belongs to a process and ends with it: open files and rings. Threads go on after the process was killed, so
/// that what they hold is let go, but nothing that they do reaches the disk.
final class SimulatedProcess {
    struct OpenFile {
        let inode: SimulatedDisk.Inode
        /// Its present name, or the last one it had.
        var path: String
        let isDirect: Bool
    }

    /// An io_uring: writes that were prepared, are on their way, have ended.
    final class Ring {
        struct Entry {
            var file: Int
            var address: UInt
            var length: Int
            var offset: Int
            var isDurable: Bool
            var tag: UInt64
        }

        let depth: Int
        var prepared: [Entry] = []
        var underWay = 0
        var completions: [(tag: UInt64, result: Int32)] = []
        var isWoken = false

        init(depth: Int) { self.depth = depth }
    }

    var files: [Int: OpenFile] = [:]
    /// Differs from process to process, so that a lock tells its holder.
    var nextFile: Int
    var rings: [Int: Ring] = [:]
    var nextRing = 1000
    /// Killed, or the power is gone.
    var isDead = false

    init(number: Int) { nextFile = 10_000 * number + 3 }
}
