/// Bytes of the input that no record has been made of yet, and how far into the input they start.
struct InputBuffer: Sendable {
    /// Below this, moving the rest to the front costs more than the room it frees.
    private static let compactionThreshold = 64 * 1024

    /// What has been kept, of which the part from `start` on is still to be read.
    private(set) var bytes: [UInt8] = []
    private(set) var start = 0

    /// Offset in the input of the first byte still to be read.
    private(set) var offset: UInt64 = 0

    var count: Int { bytes.count - start }
    var range: Range<Int> { start..<bytes.count }

    mutating func append(_ more: some Collection<UInt8>) {
        if start == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            start = 0
        } else if start > Self.compactionThreshold, start > bytes.count / 2 {
            bytes.removeFirst(start)
            start = 0
        }
        bytes.append(contentsOf: more)
    }

    /// Drops the first `length` bytes.
    mutating func skip(_ length: Int) {
        start += length
        offset += UInt64(length)
    }

    /// Removes and returns the first `length` bytes: a copy, except for the whole buffer, which is handed over.
    mutating func take(_ length: Int) -> [UInt8] {
        if start == 0, length == bytes.count {
            offset += UInt64(length)
            defer { bytes = [] }
            return bytes
        }
        let taken = Array(bytes[start..<start + length])
        skip(length)
        return taken
    }
}
