import WALFormat
import WALStorage

/// A stretch of a file that is read from front to back, through a window that slides over it. Threads read ahead of
/// the window in large direct reads, so that what is done with the bytes overlaps the I/O; short stretches are read on
/// the caller's thread. One thread at a time uses a window.
///
/// A piece lands behind free room in its buffer: what the window still holds of the piece before is copied there, and
/// the window is contiguous without moving the piece.
final class FileWindow<File: StorageFile> {
    /// Bytes of one read.
    static var pieceLength: Int { ReadLength.piece }
    /// Free room before a piece: more than most commits take.
    private static var headroom: Int { ReadLength.headroom }

    private let source: PieceSource<File>
    /// Offset in the file of the window's first byte.
    private(set) var start: UInt64
    private var piece: Piece?
    /// Holds a window that is longer than a piece and its headroom.
    private var assembly: AlignedBuffer?
    private var range = 0..<0
    /// Blocks that the device failed to give, in order; they read as zeros.
    private(set) var unreadable: [Range<UInt64>] = []

    /// `isGentle`: reads little at a time and nothing ahead, so that others' I/O hardly waits.
    init(_ file: File, from start: UInt64, to end: UInt64, blockSize: Int, isGentle: Bool = false) {
        self.start = start
        // A file that was cut within a block ends before that block: direct reads take whole ones only.
        let length = (max(start, end) - start) & ~UInt64(blockSize - 1)
        source = PieceSource(
            file: file, start: start, end: start + length, blockSize: blockSize, headroom: Self.headroom,
            pieceLength: isGentle ? ReadLength.gentlePiece : Self.pieceLength, readsAhead: !isGentle)
    }

    deinit { source.stop() }

    /// Bytes in the window.
    var count: Int { range.count }
    /// Offset in the file behind the window's last byte.
    var end: UInt64 { start + UInt64(count) }

    /// Lets a closure read the window.
    func withBytes<Result, Failure: Error>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result {
        let range = self.range
        guard let buffer = assembly ?? piece?.buffer else { return try body(RawSpan()) }
        return try buffer.withBytes { (bytes: RawSpan) throws(Failure) in try body(bytes.extracting(range)) }
    }

    /// Moves the window's start forward, to within it or its end.
    func advance(to offset: UInt64) {
        precondition(offset >= start && offset <= end)
        range = range.lowerBound + Int(offset - start)..<range.upperBound
        start = offset
    }

    /// Makes the window at least so long, if the stretch is. Returns its length.
    func fill(atLeast needed: Int) throws(StorageError) -> Int {
        while count < needed, let next = try source.next() {
            unreadable += next.unreadable
            take(next)
        }
        return count
    }

    private func take(_ next: Piece) {
        let left = range.count
        let old = assembly ?? piece?.buffer
        if left <= Self.headroom {
            if left > 0, let old { next.buffer.copy(range, of: old, to: Self.headroom - left) }
            if let piece { source.giveBack(piece) }
            piece = next
            assembly = nil
            range = Self.headroom - left..<Self.headroom + next.count
        } else if let old {
            let joined = assembly ?? AlignedBuffer(capacity: left + next.count)
            if assembly == nil { joined.copy(range, of: old, to: 0) } else { joined.moveToFront(range) }
            joined.reserve(left + next.count, keeping: left)
            joined.copy(Self.headroom..<Self.headroom + next.count, of: next.buffer, to: left)
            range = 0..<left + next.count
            // From here on another piece of the file may be read into it.
            source.giveBack(next)
            assembly = joined
        }
    }
}
