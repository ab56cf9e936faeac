import WALFormat

/// The bytes to decode, in memory of exactly their size, so that AddressSanitizer notices a read one byte past them.
final class Input {
    let isSealed: Bool
    private let isPadded: Bool
    private let original: UnsafeRawBufferPointer.SubSequence

    init(_ bytes: UnsafeRawBufferPointer.SubSequence, isSealed: Bool, isPadded: Bool) {
        original = bytes
        self.isSealed = isSealed
        self.isPadded = isPadded
    }

    /// Hands out a fresh copy of the bytes: at least so many, zeros filled up, unless the input says that they stand
    /// for themselves.
    func withCopy(atLeast length: Int = 0, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
        let size = isPadded ? max(length, original.count) : original.count
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: original)
        copy[original.count...].initializeToZero()
        body(copy)
    }
}

extension Slice<UnsafeMutableRawBufferPointer> {
    fileprivate func initializeToZero() {
        UnsafeMutableRawBufferPointer(rebasing: self).initializeMemory(as: UInt8.self, repeating: 0)
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Lets a closure write the bytes as a span.
    func withMutableRawSpan<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var span = mutableBytes
        return try body(&span)
    }

    /// The little-endian integer at an offset, nil where the bytes do not reach so far.
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_ type: Integer.Type, at offset: Int) -> Integer? {
        guard offset >= 0, offset <= count - MemoryLayout<Integer>.size else { return nil }
        return Integer(littleEndian: loadUnaligned(fromByteOffset: offset, as: Integer.self))
    }

    /// Puts the CRC32C of a range at an offset. Nothing happens where the bytes do not reach so far.
    func seal(_ range: Range<Int>, at offset: Int) {
        guard range.upperBound <= count, offset + 4 <= count else { return }
        let checksum = CRC32C.checksum(bytes.extracting(range))
        storeBytes(of: checksum.littleEndian, toByteOffset: offset, as: UInt32.self)
    }

    /// Makes right what checksums a commit's bytes hold: bodies first, since each covers what lies behind it. Follows
    /// lengths that may be anything, and stops where they lead outside.
    func sealCommit() {
        guard count >= CommitHeader.length, let headersLength = integer(UInt32.self, at: 76) else { return }
        let headersEnd = CommitHeader.length + Int(headersLength)
        var header = CommitHeader.length
        var body = headersEnd
        while header < headersEnd, let length = integer(UInt16.self, at: header + 4), length >= 64,
            let stored = integer(UInt32.self, at: header + 20)
        {
            if body <= count, Int(stored) <= count - body { seal(body..<body + Int(stored), at: header + 28) }
            sealFrameHeader(at: header)
            header += Int(length)
            body += Int(stored)
        }
        if headersEnd <= count { seal(CommitHeader.length..<headersEnd, at: 12) }
        seal(12..<CommitHeader.length, at: 8)
    }

    /// Makes a frame header's checksum right.
    func sealFrameHeader(at offset: Int) {
        guard let length = integer(UInt16.self, at: offset + 4), length >= 4 else { return }
        seal(offset + 4..<offset + Int(length), at: offset)
    }
}
