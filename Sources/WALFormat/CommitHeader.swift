/// The header of a commit, the atomic unit of I/O and acknowledgement: one or more frames, padded with zeros to the
/// block size, that become durable together or not at all.
///
/// ```
///  0  8    magic "TWALCMT1"
///  8  u32  checksum: CRC32C of the log's UUID and, behind it, of bytes 12 ..< 96
/// 12  u32  frame headers' checksum: CRC32C of all frame headers
/// 16  u64  epoch of the file's present life
/// 24  u64  file sequence number
/// 32  u64  offset of this header in its file, bytes
/// 40  u64  commit number, over the whole log, without gaps
/// 48  u64  durable-through: highest commit known durable when this one was submitted
/// 56  u64  records before: user records in all earlier commits of the log
/// 64  u64  timestamp, nanoseconds since 1970 (UTC)
/// 72  u32  length, bytes, padding included
/// 76  u32  frame headers' length, bytes
/// 80  u32  bodies' length, bytes
/// 84  u32  frame count
/// 88  u32  previous commit's checksum (the chain)
/// 92  u32  flags
/// ```
///
/// The checksum covers the frame headers through their checksum, and the bodies through the checksums in the frame
/// headers: so the chain of checksums vouches for every byte. It begins with the log's UUID, which no tenant knows: what
/// looks like a commit in a payload, or comes from another log, is none here.
public struct CommitHeader: Equatable, Sendable {
    public struct Flags: OptionSet, Sendable, Hashable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Holds a checkpoint: the first commit of each file does.
        public static let checkpoint = Flags(rawValue: 1)
        /// Carries durable-through forward and nothing else.
        public static let watermark = Flags(rawValue: 2)
        /// The writer closed the log behind this commit.
        public static let closing = Flags(rawValue: 4)
    }

    /// Bytes of an encoded header.
    public static let length = 96
    static let magic: UInt64 = 0x3154_4D43_4C41_5754  // "TWALCMT1" read as little-endian

    public var epoch: UInt64
    public var fileSequence: UInt64
    public var offset: UInt64
    public var commitNumber: UInt64
    public var durableThrough: UInt64
    public var recordsBefore: UInt64
    public var timestamp: UInt64
    public var commitLength: Int
    public var frameHeadersLength: Int
    public var bodiesLength: Int
    public var frameCount: Int
    public var previousChecksum: UInt32
    public var flags: Flags
    public var frameHeadersChecksum: UInt32
    /// This header's own CRC32C, which the next commit repeats; set by `encode` and `decode`.
    public internal(set) var checksum: UInt32 = 0

    /// Writes the header at an offset of the buffer and sets `checksum`.
    mutating func encode(into bytes: inout MutableRawSpan, at base: Int, of log: LogIdentifier) {
        bytes.store(littleEndian: Self.magic, at: base)
        bytes.store(littleEndian: frameHeadersChecksum, at: base + 12)
        bytes.store(littleEndian: epoch, at: base + 16)
        bytes.store(littleEndian: fileSequence, at: base + 24)
        bytes.store(littleEndian: offset, at: base + 32)
        bytes.store(littleEndian: commitNumber, at: base + 40)
        bytes.store(littleEndian: durableThrough, at: base + 48)
        bytes.store(littleEndian: recordsBefore, at: base + 56)
        bytes.store(littleEndian: timestamp, at: base + 64)
        bytes.store(littleEndian: UInt32(commitLength), at: base + 72)
        bytes.store(littleEndian: UInt32(frameHeadersLength), at: base + 76)
        bytes.store(littleEndian: UInt32(bodiesLength), at: base + 80)
        bytes.store(littleEndian: UInt32(frameCount), at: base + 84)
        bytes.store(littleEndian: previousChecksum, at: base + 88)
        bytes.store(littleEndian: flags.rawValue, at: base + 92)
        checksum = CRC32C.checksum(
            bytes.bytes.extracting(base + 12..<base + Self.length), behind: log.checksum)
        bytes.store(littleEndian: checksum, at: base + 8)
    }

    /// What stands where a commit's header could stand.
    public enum Reading: Equatable, Sendable {
        /// A header that passes its checksum and bounds.
        case valid(CommitHeader)
        /// The magic and an epoch are there, the checksum fails: a header torn or damaged, if the epoch is the file's.
        case broken(claimedEpoch: UInt64)
        /// Anything else, all-zero included.
        case absent
    }

    /// Reads what stands at an offset of the buffer, in a log of this format. Never fails: absence is an answer.
    public static func read(_ bytes: RawSpan, at base: Int, of log: RootFormat) -> Reading {
        guard base >= 0, base <= bytes.byteCount - length,
            bytes.littleEndian(UInt64.self, at: base) == magic
        else { return .absent }
        let checksum = CRC32C.checksum(
            bytes.extracting(base + 12..<base + length), behind: log.logIdentifier.checksum)
        let epoch: UInt64 = bytes.littleEndian(at: base + 16)
        guard checksum == bytes.littleEndian(UInt32.self, at: base + 8) else { return .broken(claimedEpoch: epoch) }
        let header = CommitHeader(
            epoch: epoch, fileSequence: bytes.littleEndian(at: base + 24), offset: bytes.littleEndian(at: base + 32),
            commitNumber: bytes.littleEndian(at: base + 40), durableThrough: bytes.littleEndian(at: base + 48),
            recordsBefore: bytes.littleEndian(at: base + 56), timestamp: bytes.littleEndian(at: base + 64),
            commitLength: Int(bytes.littleEndian(UInt32.self, at: base + 72)),
            frameHeadersLength: Int(bytes.littleEndian(UInt32.self, at: base + 76)),
            bodiesLength: Int(bytes.littleEndian(UInt32.self, at: base + 80)),
            frameCount: Int(bytes.littleEndian(UInt32.self, at: base + 84)),
            previousChecksum: bytes.littleEndian(at: base + 88),
            flags: Flags(rawValue: bytes.littleEndian(at: base + 92)),
            frameHeadersChecksum: bytes.littleEndian(at: base + 12), checksum: checksum)
        return header.isWithinBounds && header.commitLength.isMultiple(of: log.blockSize)
            ? .valid(header) : .broken(claimedEpoch: epoch)
    }

    var isWithinBounds: Bool {
        commitLength <= FormatLimits.maximumCommitLength
            && (1...FormatLimits.maximumFrameCount).contains(frameCount)
            && frameHeadersLength >= frameCount * FrameHeader.fixedLength
            && Self.length + frameHeadersLength + bodiesLength <= commitLength
            && (1...FormatLimits.maximumNumber).contains(commitNumber) && durableThrough < commitNumber
            && recordsBefore <= FormatLimits.maximumNumber
            && (1...FormatLimits.maximumNumber).contains(fileSequence) && epoch != 0
    }
}
