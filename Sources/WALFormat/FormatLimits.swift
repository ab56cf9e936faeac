/// Every constant that reader and writer of the bytes on disk share. SPEC.md lists them too; a test holds the two
/// lists against each other.
public enum FormatLimits {
    /// The version this code writes, and the highest it reads.
    public static let formatVersion: UInt32 = 2

    /// The unit of I/O when the device asks for no larger one, in bytes.
    public static let defaultBlockSize = 4096
    /// The largest block size a file may declare, in bytes; a power of two like every block size.
    public static let maximumBlockSize = 65536

    /// Largest sequence number, commit number, file sequence number and count of records: far beyond what any log
    /// reaches, and low enough that sums of two never overflow.
    public static let maximumNumber: UInt64 = 1 << 62

    /// Longest tenant or subscriber name, in UTF-8 bytes.
    public static let maximumNameLength = 255

    /// Largest payload of one record, in bytes.
    public static let maximumPayloadLength = 16 << 20
    /// Largest sum of records (headers included) that one frame or one batch may hold, in bytes.
    public static let maximumFrameRawLength = maximumPayloadLength + RecordHeader.length
    /// Most frames in one commit.
    public static let maximumFrameCount = 4096
    /// Most records in one frame.
    public static let maximumRecordCount = 1 << 20
    /// Largest commit on disk, padding included, in bytes.
    public static let maximumCommitLength = 48 << 20

    /// Size of a journal file: smallest and largest, in bytes.
    public static let minimumJournalFileSize: UInt64 = 256 << 10
    public static let maximumJournalFileSize: UInt64 = 16 << 30
    /// Most commits that are written at a time: so many may be durable and not vouched for.
    public static let maximumCommitsUnderWay = 4
    /// Largest tenant segment, in bytes.
    public static let maximumSegmentLength: UInt64 = 16 << 30
    /// Most frames in a segment, and most lost ranges.
    public static let maximumSegmentFrameCount = 65536
    /// Copies of a file's header, each in a block of its own at the start of the file.
    public static let headerCopies = 2
}
