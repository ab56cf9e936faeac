import WALFormat

/// The bytes to decode, in memory of exactly their size, so that AddressSanitizer notices a read one byte past them.
///
/// The first byte of an input chooses, the rest is decoded:
///
///   bit 0   1: make the checksums right before decoding
///   bit 1   structures of whole blocks: 1: decode the bytes as they are, 0: fill up with zeros to a block first
struct FuzzInput {
    /// Whether checksums are to be made right.
    let isSealed: Bool
    private let isPadded: Bool
    private let original: UnsafeRawBufferPointer.SubSequence

    init(_ bytes: UnsafeRawBufferPointer) {
        let choice = bytes.first ?? 0
        isSealed = choice & 1 != 0
        isPadded = choice & 2 == 0
        original = bytes.dropFirst()
    }

    /// Hands out a fresh copy of the bytes: at least so many, zeros filled up, unless the input says that they stand
    /// for themselves.
    func withCopy(
        atLeast length: Int = 0, _ body: (UnsafeMutableRawBufferPointer) throws(FuzzViolation) -> Void
    ) throws(FuzzViolation) {
        let size = isPadded ? max(length, original.count) : original.count
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: original)
        copy[original.count...].initializeToZero()
        try body(copy)
    }
}

extension RootFormat {
    /// The log that all inputs are of: the golden files', which are among the seeds.
    static func fuzzed(blockSize: Int = FormatLimits.defaultBlockSize) -> RootFormat {
        struct Fixed: RandomNumberGenerator {
            var words: [UInt64] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210]
            mutating func next() -> UInt64 { words.removeFirst() }
        }
        var generator = Fixed()
        return RootFormat(logIdentifier: LogIdentifier(using: &generator), blockSize: blockSize, created: 1)
    }

    static let fuzzedIdentifierChecksum = fuzzed().encoded().withUnsafeBytes {
        CRC32C.checksum(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: $0[16..<32])))
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
    func seal(_ range: Range<Int>, at offset: Int, behind: UInt32 = 0) {
        guard range.upperBound <= count, offset + 4 <= count else { return }
        let checksum = CRC32C.checksum(bytes.extracting(range), behind: behind)
        storeBytes(of: checksum.littleEndian, toByteOffset: offset, as: UInt32.self)
    }

    /// Makes right what checksums the commit at an offset holds: bodies first, since each covers what lies behind it.
    /// Follows lengths that may be anything, and stops where they lead outside.
    func sealCommit(at base: Int = 0) {
        guard count >= base + CommitHeader.length, let headersLength = integer(UInt32.self, at: base + 76) else {
            return
        }
        let headersEnd = base + CommitHeader.length + Int(headersLength)
        var header = base + CommitHeader.length
        var body = headersEnd
        while header < headersEnd, let length = integer(UInt16.self, at: header + 4), length >= 64,
            let stored = integer(UInt32.self, at: header + 20)
        {
            if body <= count, Int(stored) <= count - body { seal(body..<body + Int(stored), at: header + 28) }
            sealFrameHeader(at: header)
            header += Int(length)
            body += Int(stored)
        }
        if headersEnd <= count { seal(base + CommitHeader.length..<headersEnd, at: base + 12) }
        sealCommitHeader(at: base)
    }

    /// Makes a commit header's own checksum right, which begins with the log's UUID.
    func sealCommitHeader(at base: Int) {
        seal(
            base + 12..<base + CommitHeader.length, at: base + 8, behind: RootFormat.fuzzedIdentifierChecksum)
    }

    /// Makes a frame header's checksum right.
    func sealFrameHeader(at offset: Int) {
        guard let length = integer(UInt16.self, at: offset + 4), length >= 4 else { return }
        seal(offset + 4..<offset + Int(length), at: offset)
    }
}
