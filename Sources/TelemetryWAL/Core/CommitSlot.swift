import WALFormat
import WALStorage

/// A commit on its way to the device: its bytes, and what becomes durable with them. There are as many as commits may
/// be under way; the log's lock guards all but the buffer's bytes, which belong to whoever encodes them and then to
/// the device.
final class CommitSlot {
    /// The slot's place among its like: the tag of its writes.
    let tag: Int
    let buffer: AlignedBuffer
    var turn = Turn()
    /// The commit, with the checkpoint before it where a file begins.
    var commits: [CommitHeader] = []
    /// Whether the write begins its file.
    var beginsFile = false
    /// Bytes to be written, and where.
    var length = 0
    var offset: UInt64 = 0
    var result: Result<Void, StorageError>?

    /// Bytes that a slot keeps when it is not in use.
    static var keptCapacity: Int { 2 << 20 }

    init(tag: Int, alignment: Int) {
        self.tag = tag
        buffer = AlignedBuffer(capacity: 256 << 10, alignment: alignment)
    }

    /// Lets go of what it carried.
    func clear() {
        turn = Turn()
        commits.removeAll(keepingCapacity: true)
        result = nil
        buffer.shrink(to: Self.keptCapacity)
    }
}
