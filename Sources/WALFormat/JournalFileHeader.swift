/// The header of a journal file: one block, stored twice at the start of the file. A new header is a new life of the
/// file: with its epoch, nothing that an earlier life left behind can be taken for the present.
///
/// ```
///   0  8    magic "TWALJRN1"
///   8  u32  checksum: CRC32C of bytes 12 ..< block size
///  12  u32  format version
///  16  16   log UUID
///  32  u64  epoch, random, not 0
///  40  u64  file sequence number; 0: a spare, not part of the log
///  48  u64  capacity: size of the file, bytes
///  56  u32  block size
///  60  u32  zero
///  64  u64  created, nanoseconds since 1970 (UTC)
///  72  u64  number of the first commit
///  80  u64  oldest live file sequence: files before it are no part of the log
///  88  u64  previous file's epoch
///  96  u64  previous file's end: offset behind its last commit, bytes
/// 104  u64  previous file's last commit number
/// 112  u32  previous file's last commit's checksum
/// 116  u32  zero
/// 120  u64  records before the first commit
/// 128  u64  previous file's sequence number
/// 136  u64  sequence floor: the first number of a tenant that is not known yet
/// 144       zero up to the block size
/// ```
public struct JournalFileHeader: Equatable, Sendable {
    /// How the file before this one ended. Zero in all fields for the first file of a log.
    public struct Previous: Equatable, Sendable {
        public var fileSequence: UInt64 = 0
        public var epoch: UInt64 = 0
        public var endOffset: UInt64 = 0
        public var lastCommit: UInt64 = 0
        public var lastChecksum: UInt32 = 0

        public init(
            fileSequence: UInt64 = 0, epoch: UInt64 = 0, endOffset: UInt64 = 0, lastCommit: UInt64 = 0,
            lastChecksum: UInt32 = 0
        ) {
            self.fileSequence = fileSequence
            self.epoch = epoch
            self.endOffset = endOffset
            self.lastCommit = lastCommit
            self.lastChecksum = lastChecksum
        }
    }

    static let magic: UInt64 = 0x314E_524A_4C41_5754  // "TWALJRN1" read as little-endian

    public var logIdentifier: LogIdentifier
    public var epoch: UInt64
    public var fileSequence: UInt64
    public var capacity: UInt64
    public var blockSize: Int
    public var created: UInt64
    public var firstCommit: UInt64
    public var oldestLiveFileSequence: UInt64
    public var previous: Previous
    public var recordsBefore: UInt64
    /// Repeats the checkpoint's, so that no number is given twice where that is lost. At least 1.
    public var sequenceFloor: UInt64

    public init(
        logIdentifier: LogIdentifier, epoch: UInt64, fileSequence: UInt64, capacity: UInt64, blockSize: Int,
        created: UInt64, firstCommit: UInt64, oldestLiveFileSequence: UInt64, previous: Previous,
        recordsBefore: UInt64, sequenceFloor: UInt64
    ) {
        self.logIdentifier = logIdentifier
        self.epoch = epoch
        self.fileSequence = fileSequence
        self.capacity = capacity
        self.blockSize = blockSize
        self.created = created
        self.firstCommit = firstCommit
        self.oldestLiveFileSequence = oldestLiveFileSequence
        self.previous = previous
        self.recordsBefore = recordsBefore
        self.sequenceFloor = sequenceFloor
    }

    /// Whether the file waits for use and holds nothing of the log.
    public var isSpare: Bool { fileSequence == 0 }
    /// Offset of the file's first commit, bytes.
    public var commitsStart: UInt64 { UInt64(FormatLimits.headerCopies * blockSize) }

    /// Writes both copies at an offset of the buffer.
    public func encode(into bytes: inout MutableRawSpan, at base: Int) {
        for copy in 0..<FormatLimits.headerCopies { encodeCopy(into: &bytes, at: base + copy * blockSize) }
    }

    private func encodeCopy(into bytes: inout MutableRawSpan, at base: Int) {
        bytes.zero(base..<base + blockSize)
        bytes.store(littleEndian: Self.magic, at: base)
        bytes.store(littleEndian: FormatLimits.formatVersion, at: base + 12)
        logIdentifier.encode(into: &bytes, at: base + 16)
        bytes.store(littleEndian: epoch, at: base + 32)
        bytes.store(littleEndian: fileSequence, at: base + 40)
        bytes.store(littleEndian: capacity, at: base + 48)
        bytes.store(littleEndian: UInt32(blockSize), at: base + 56)
        bytes.store(littleEndian: created, at: base + 64)
        bytes.store(littleEndian: firstCommit, at: base + 72)
        bytes.store(littleEndian: oldestLiveFileSequence, at: base + 80)
        bytes.store(littleEndian: previous.epoch, at: base + 88)
        bytes.store(littleEndian: previous.endOffset, at: base + 96)
        bytes.store(littleEndian: previous.lastCommit, at: base + 104)
        bytes.store(littleEndian: previous.lastChecksum, at: base + 112)
        bytes.store(littleEndian: recordsBefore, at: base + 120)
        bytes.store(littleEndian: previous.fileSequence, at: base + 128)
        bytes.store(littleEndian: sequenceFloor, at: base + 136)
        let checksum = CRC32C.checksum(bytes.bytes.extracting(base + 12..<base + blockSize))
        bytes.store(littleEndian: checksum, at: base + 8)
    }

    /// Reads the copy at an offset. Throws `FormatError`: `.version` only where the checksum holds, so that damage
    /// is never taken for a newer version.
    public static func decode(_ bytes: RawSpan, at base: Int, blockSize: Int) throws(FormatError) -> JournalFileHeader {
        guard base >= 0, blockSize >= FormatLimits.defaultBlockSize, base <= bytes.byteCount - blockSize else {
            throw FormatError(.truncated, "the journal file is too short for its header")
        }
        guard bytes.littleEndian(UInt64.self, at: base) == magic else {
            throw FormatError(.magic, "no journal file header at \(base)")
        }
        let checksum = CRC32C.checksum(bytes.extracting(base + 12..<base + blockSize))
        guard checksum == bytes.littleEndian(UInt32.self, at: base + 8) else {
            throw FormatError(.checksum, "the journal file header at \(base) fails its CRC32C")
        }
        let version: UInt32 = bytes.littleEndian(at: base + 12)
        guard version == FormatLimits.formatVersion else {
            throw FormatError(.version, "journal file of format version \(version)")
        }
        let header = JournalFileHeader(
            logIdentifier: LogIdentifier(decoding: bytes, at: base + 16), epoch: bytes.littleEndian(at: base + 32),
            fileSequence: bytes.littleEndian(at: base + 40), capacity: bytes.littleEndian(at: base + 48),
            blockSize: Int(bytes.littleEndian(UInt32.self, at: base + 56)),
            created: bytes.littleEndian(at: base + 64), firstCommit: bytes.littleEndian(at: base + 72),
            oldestLiveFileSequence: bytes.littleEndian(at: base + 80),
            previous: Previous(
                fileSequence: bytes.littleEndian(at: base + 128), epoch: bytes.littleEndian(at: base + 88),
                endOffset: bytes.littleEndian(at: base + 96),
                lastCommit: bytes.littleEndian(at: base + 104), lastChecksum: bytes.littleEndian(at: base + 112)),
            recordsBefore: bytes.littleEndian(at: base + 120), sequenceFloor: bytes.littleEndian(at: base + 136))
        guard header.blockSize == blockSize, header.epoch != 0,
            (FormatLimits.minimumJournalFileSize...FormatLimits.maximumJournalFileSize).contains(header.capacity),
            header.capacity.isMultiple(of: UInt64(blockSize)),
            header.isSpare
                || (header.firstCommit <= FormatLimits.maximumNumber
                    && header.fileSequence <= FormatLimits.maximumNumber
                    && header.recordsBefore <= FormatLimits.maximumNumber
                    && (1...FormatLimits.maximumNumber).contains(header.sequenceFloor)
                    && header.previous.lastCommit < FormatLimits.maximumNumber
                    && header.previous.endOffset <= FormatLimits.maximumJournalFileSize
                    && header.firstCommit == header.previous.lastCommit + 1
                    && header.previous.fileSequence < header.fileSequence
                    && (1...header.fileSequence).contains(header.oldestLiveFileSequence))
        else { throw FormatError(.field, "the journal file header at \(base) has fields out of bounds") }
        return header
    }
}
