import WALFormat

// WALFormat reads spans, which Swift Testing's macros cannot capture; the helpers here take arrays. Integers are put
// together byte by byte on purpose: sharing WALFormat's own loads would hide a mistake in them.

extension [UInt8] {
    /// The little-endian integer at an offset.
    func integer<Integer: FixedWidthInteger>(_ type: Integer.Type = Integer.self, at offset: Int) -> Integer {
        (0..<Integer.bitWidth / 8).reversed().reduce(0) { $0 << 8 | Integer(truncatingIfNeeded: self[offset + $1]) }
    }

    /// Puts an integer at an offset in little-endian order.
    mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
        for index in 0..<value.bitWidth / 8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
    }

    /// Inverts one bit, counted from the first byte's lowest.
    mutating func flip(bit: Int) { self[bit / 8] ^= 1 << UInt8(bit % 8) }

    /// Puts the CRC32C of a range at an offset, as a writer who meant these bytes would have done.
    mutating func seal(_ range: Range<Int>, at offset: Int) { put(crc(self, range), at: offset) }

    /// The same for the header of a commit, whose checksum begins with the log's UUID.
    mutating func sealCommitHeader(at base: Int = 0) {
        put(crc(Array(RootFormat.sample().encoded()[16..<32]) + self[base + 12..<base + 96]), at: base + 8)
    }
}

/// The CRC32C of bytes.
func crc(_ bytes: [UInt8]) -> UInt32 { CRC32C.checksum(bytes.span.bytes) }

/// The CRC32C of a range of bytes.
func crc(_ bytes: [UInt8], _ range: Range<Int>, behind: UInt32 = 0) -> UInt32 {
    CRC32C.checksum(bytes.span.bytes.extracting(range), behind: behind)
}

/// The CRC32C of a range of bytes by the tables.
func crcByTable(_ bytes: [UInt8], _ range: Range<Int>, behind: UInt32 = 0) -> UInt32 {
    CRC32C.checksumByTable(bytes.span.bytes.extracting(range), behind: behind)
}

func readCommit(_ bytes: [UInt8], at base: Int = 0, of log: RootFormat = .sample()) -> CommitHeader.Reading {
    CommitHeader.read(bytes.span.bytes, at: base, of: log)
}

func frames(of commit: CommitHeader, in bytes: [UInt8]) throws(FormatError) -> [LocatedFrame] {
    try CommitDecoder.frames(of: commit, in: bytes.span.bytes)
}

func rawBody(of frame: LocatedFrame, in bytes: [UInt8]) throws(FormatError) -> [UInt8] {
    try CommitDecoder.rawBody(of: frame, in: bytes.span.bytes, decompressor: LZ4FrameDecompressor())
}

func checkRecords(_ body: [UInt8], count: Int, isControl: Bool = false) throws(FormatError) {
    try CommitDecoder.checkRecords(in: body.span.bytes, count: count, isControl: isControl)
}

func decodeFrame(_ bytes: [UInt8], at offset: Int = 0) throws(FormatError) -> FrameHeader {
    try FrameHeader.decode(bytes.span.bytes, at: offset)
}

func decodeRecord(_ bytes: [UInt8], at offset: Int = 0) throws(FormatError) -> RecordHeader {
    try RecordHeader.decode(bytes.span.bytes, at: offset)
}

func decodeJournal(
    _ bytes: [UInt8], at base: Int = 0, blockSize: Int = FormatLimits.defaultBlockSize
) throws(FormatError) -> JournalFileHeader {
    try JournalFileHeader.decode(bytes.span.bytes, at: base, blockSize: blockSize)
}

func decodeSummary(_ bytes: [UInt8], at base: Int = 0) throws(FormatError) -> SegmentSummary {
    try SegmentSummary.decode(bytes.span.bytes, at: base, blockSize: 4096)
}

func decodeIndex(_ bytes: [UInt8], of summary: SegmentSummary) throws(FormatError) -> SegmentIndex {
    try SegmentIndex.decode(bytes.span.bytes, of: summary)
}

extension FrameHeader {
    /// The checksum that stands in bytes which the header was read from.
    func checksum(in bytes: [UInt8], at offset: Int) -> UInt32 { bytes.integer(at: offset) }
}

func decodeRoot(_ bytes: [UInt8]) throws(FormatError) -> RootFormat { try RootFormat.decode(bytes.span.bytes) }

func decodeControl(_ body: [UInt8], count: Int = 1) throws(FormatError) -> [ControlRecord] {
    try ControlRecord.decodeAll(body.span.bytes, count: count)
}

/// The cause for which a decoder refuses, nil where it does not.
func cause<Value>(_ decode: () throws(FormatError) -> Value) -> FormatError.Cause? {
    do {
        _ = try decode()
        return nil
    } catch { return error.cause }
}
