/// What a tenant segment is and where its index stands: one block, stored twice, at the beginning of the file and at
/// its end.
///
/// A segment holds the records of one tenant that the journal had to give up before every subscriber had them. It is
/// written once, under a temporary name, and never changed. Between the two copies stand the frames, from the second
/// block on, each at a multiple of 8, and behind them the index (`SegmentIndex`).
///
/// ```
///   0  8    magic "TWALSEG1"
///   8  u32  checksum: CRC32C of bytes 12 ..< block size
///  12  u32  format version
///  16  16   log UUID
///  32  u32  block size
///  36  u16  tenant name length, bytes
///  38  u16  zero
///  40  u64  created, nanoseconds since 1970 (UTC)
///  48  u64  first sequence number that the segment covers
///  56  u64  last sequence number that the segment covers
///  64  u64  length of the file, bytes
///  72  u64  offset of the index, bytes
///  80  u32  index checksum: CRC32C of the whole index
///  84  u32  frame count
///  88  u32  count of lost ranges
///  92  u32  zero
///  96  u64  record count
/// 104  u64  raw length: records with their headers, uncompressed, bytes
/// 112  u64  lowest timestamp, ns
/// 120  u64  highest timestamp, ns
/// 128       tenant name, zeros up to the next field
/// 384  u64  when the log had received the first record that the segment was made of, ns; 0: not known
/// 392  u64  when it had received the last one, ns
/// 400       zero, up to the block size
/// ```
public struct SegmentSummary: Equatable, Sendable {
    static let magic: UInt64 = 0x3147_4553_4C41_5754  // "TWALSEG1" read as little-endian
    private static let fixedLength = 128
    private static let receivedOffset = 384
    /// Frames begin at multiples of this, and so does the index.
    public static let alignment = 8

    public var logIdentifier: LogIdentifier
    public var blockSize: Int
    public var tenant: TenantName
    public var created: UInt64
    /// The tenant's numbers that the segment stands for. A record of these is in a frame, or in a lost range, or every
    /// subscriber had it when the segment was written.
    public var covered: ClosedRange<UInt64>
    /// Size of the file, bytes.
    public var length: UInt64
    public var indexOffset: UInt64
    public var indexChecksum: UInt32
    public var frameCount: Int
    public var lostRangeCount: Int
    public var recordCount: UInt64
    /// Bytes of all records with their headers, uncompressed.
    public var rawLength: UInt64
    public var lowestTimestamp: UInt64
    public var highestTimestamp: UInt64
    /// When the log had received the first and the last record of those that the segment was made of; 0 where that is
    /// not known.
    public var received: ClosedRange<UInt64>

    public init(
        logIdentifier: LogIdentifier, blockSize: Int, tenant: TenantName, created: UInt64,
        covered: ClosedRange<UInt64>, length: UInt64, indexOffset: UInt64, indexChecksum: UInt32, frameCount: Int,
        lostRangeCount: Int, recordCount: UInt64, rawLength: UInt64, lowestTimestamp: UInt64, highestTimestamp: UInt64,
        received: ClosedRange<UInt64> = 0...0
    ) {
        self.logIdentifier = logIdentifier
        self.blockSize = blockSize
        self.tenant = tenant
        self.created = created
        self.covered = covered
        self.length = length
        self.indexOffset = indexOffset
        self.indexChecksum = indexChecksum
        self.frameCount = frameCount
        self.lostRangeCount = lostRangeCount
        self.recordCount = recordCount
        self.rawLength = rawLength
        self.lowestTimestamp = lowestTimestamp
        self.highestTimestamp = highestTimestamp
        self.received = received
    }

    /// Bytes of the index that the summary describes.
    public var indexLength: Int {
        frameCount * SegmentIndex.Frame.length + lostRangeCount * SegmentIndex.LostRange.length
    }
    /// Offset of the first frame, bytes.
    public var framesStart: UInt64 { UInt64(blockSize) }

    /// Writes one copy, a whole block, at an offset of the buffer.
    public func encode(into bytes: inout MutableRawSpan, at base: Int) {
        precondition(isWithinBounds, "a segment out of bounds was to be written")
        bytes.zero(base..<base + blockSize)
        bytes.store(littleEndian: Self.magic, at: base)
        bytes.store(littleEndian: FormatLimits.formatVersion, at: base + 12)
        logIdentifier.encode(into: &bytes, at: base + 16)
        bytes.store(littleEndian: UInt32(blockSize), at: base + 32)
        bytes.store(littleEndian: UInt16(tenant.utf8.count), at: base + 36)
        bytes.store(littleEndian: created, at: base + 40)
        bytes.store(littleEndian: covered.lowerBound, at: base + 48)
        bytes.store(littleEndian: covered.upperBound, at: base + 56)
        bytes.store(littleEndian: length, at: base + 64)
        bytes.store(littleEndian: indexOffset, at: base + 72)
        bytes.store(littleEndian: indexChecksum, at: base + 80)
        bytes.store(littleEndian: UInt32(frameCount), at: base + 84)
        bytes.store(littleEndian: UInt32(lostRangeCount), at: base + 88)
        bytes.store(littleEndian: recordCount, at: base + 96)
        bytes.store(littleEndian: rawLength, at: base + 104)
        bytes.store(littleEndian: lowestTimestamp, at: base + 112)
        bytes.store(littleEndian: highestTimestamp, at: base + 120)
        bytes.store(tenant.utf8, at: base + Self.fixedLength)
        bytes.store(littleEndian: received.lowerBound, at: base + Self.receivedOffset)
        bytes.store(littleEndian: received.upperBound, at: base + Self.receivedOffset + 8)
        let checksum = CRC32C.checksum(bytes.bytes.extracting(base + 12..<base + blockSize))
        bytes.store(littleEndian: checksum, at: base + 8)
    }

    /// Reads the copy at an offset. Throws `FormatError`: `.version` only where the checksum holds.
    public static func decode(_ bytes: RawSpan, at base: Int, blockSize: Int) throws(FormatError) -> SegmentSummary {
        guard base >= 0, blockSize >= FormatLimits.defaultBlockSize, base <= bytes.byteCount - blockSize else {
            throw FormatError(.truncated, "the segment is too short for its summary")
        }
        guard bytes.littleEndian(UInt64.self, at: base) == magic else {
            throw FormatError(.magic, "no segment summary at \(base)")
        }
        let checksum = CRC32C.checksum(bytes.extracting(base + 12..<base + blockSize))
        guard checksum == bytes.littleEndian(UInt32.self, at: base + 8) else {
            throw FormatError(.checksum, "the segment summary at \(base) fails its CRC32C")
        }
        let version: UInt32 = bytes.littleEndian(at: base + 12)
        guard version == FormatLimits.formatVersion else {
            throw FormatError(.version, "segment of format version \(version)")
        }
        let nameLength = Int(bytes.littleEndian(UInt16.self, at: base + 36))
        let (first, last): (UInt64, UInt64) = (bytes.littleEndian(at: base + 48), bytes.littleEndian(at: base + 56))
        let received: (first: UInt64, last: UInt64) = (
            bytes.littleEndian(at: base + receivedOffset), bytes.littleEndian(at: base + receivedOffset + 8)
        )
        guard Int(bytes.littleEndian(UInt32.self, at: base + 32)) == blockSize,
            nameLength <= FormatLimits.maximumNameLength, first <= last, received.first <= received.last,
            let tenant = try? TenantName(
                utf8: bytes.array(base + fixedLength..<base + fixedLength + nameLength))
        else { throw FormatError(.field, "the segment summary at \(base) has fields out of bounds") }
        let summary = SegmentSummary(
            logIdentifier: LogIdentifier(decoding: bytes, at: base + 16), blockSize: blockSize, tenant: tenant,
            created: bytes.littleEndian(at: base + 40), covered: first...last,
            length: bytes.littleEndian(at: base + 64),
            indexOffset: bytes.littleEndian(at: base + 72), indexChecksum: bytes.littleEndian(at: base + 80),
            frameCount: Int(bytes.littleEndian(UInt32.self, at: base + 84)),
            lostRangeCount: Int(bytes.littleEndian(UInt32.self, at: base + 88)),
            recordCount: bytes.littleEndian(at: base + 96), rawLength: bytes.littleEndian(at: base + 104),
            lowestTimestamp: bytes.littleEndian(at: base + 112), highestTimestamp: bytes.littleEndian(at: base + 120),
            received: received.first...received.last)
        guard summary.isWithinBounds else {
            throw FormatError(.field, "the segment summary at \(base) has fields out of bounds")
        }
        return summary
    }

    private var isWithinBounds: Bool {
        let block = UInt64(blockSize)
        return (1...FormatLimits.maximumNumber).contains(covered.lowerBound)
            && covered.upperBound < FormatLimits.maximumNumber && length <= FormatLimits.maximumSegmentLength
            && length.isMultiple(of: block) && length >= 2 * block
            && frameCount <= FormatLimits.maximumSegmentFrameCount
            && lostRangeCount <= FormatLimits.maximumSegmentFrameCount
            && indexOffset.isMultiple(of: UInt64(Self.alignment)) && indexOffset >= block
            && indexOffset <= length - block
            && UInt64(indexLength) <= length - block - indexOffset
            && recordCount <= covered.upperBound - covered.lowerBound + 1 && recordCount >= UInt64(frameCount)
            && (recordCount == 0) == (frameCount == 0)
            && recordCount <= UInt64(frameCount) * UInt64(FormatLimits.maximumRecordCount)
            && rawLength >= UInt64(RecordHeader.length) * recordCount && rawLength <= FormatLimits.maximumNumber
            && lowestTimestamp <= highestTimestamp
    }
}
