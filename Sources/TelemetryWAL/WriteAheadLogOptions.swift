import Logging
import WALFormat
import WALStorage

/// How a log is opened. The defaults suit a service on a local SSD.
public struct WriteAheadLogOptions: Sendable {
    /// What a receipt promises: to survive a power loss (default), or only the end of the process.
    public var durability: WriteDurability = .powerLoss
    /// How much of the journal opening reads: what it must (default), or all of it.
    public var recoveryScope: RecoveryScope = .sinceCheckpoint
    /// Whether opening fails where direct I/O is not to be had (default), or goes on without.
    public var directIO: DirectIORequirement = .required
    /// Size of each journal file, bytes: a multiple of 64 KiB, 256 KiB to 16 GiB. One batch may take a quarter
    /// of it, 16 MiB at most. May change from one opening to the next: files of an earlier size serve acknowledgements
    /// where the disk has no room for this one, and are removed when it has.
    public var journalFileSize: UInt64 = 64 << 20
    /// Most bytes that all journal files together may take; appends are refused (`journalFull`) before it is passed.
    /// At least four files.
    public var journalLimit: UInt64 = 8 << 30
    /// Bytes of journal files that wait for subscribers before the oldest of them move into tenant segments. Half the
    /// `journalLimit` at most; so much is kept in any case. While subscribers are less behind, nothing is written twice.
    /// Where more waits, the compactor rests the less the more it is, and not at all when half of the room between this and
    /// `journalLimit` is used up.
    public var compactionThreshold: UInt64 = 1 << 30
    /// Bytes of tenant segments from which on none is added: then the journal fills up to its own limit, and from there on
    /// policies drop (`RetentionPolicy.WhenFull.dropOldest`) or appends are refused. What was gathered by then, up to 128 MiB, is still
    /// written, and a merge holds old and new at once. 0: records stay in the journal until every subscriber has them.
    public var segmentLimit: UInt64 = 64 << 30
    /// What is kept of a tenant's undelivered records, where it has no policy of its own. What all of them may take
    /// together is `journalLimit` and `segmentLimit`.
    public var retention = RetentionPolicy()
    /// Policies of single tenants.
    public var tenantRetention: [TenantName: RetentionPolicy] = [:]
    /// Bytes of the file system that are left free: below it no journal file and no segment is made, so that appends come
    /// to be refused (`journalFull`) before others run out of space. 0: all may be used.
    public var freeSpaceFloor: UInt64 = 0
    /// Files held ready ahead of need, at least 2: one for appends, one that only acknowledgements may use.
    public var spareFiles = 2
    /// Most bytes of records that may wait to be written, 1 MiB or more. Of its upper half, tenants
    /// that flood get what their weights say, and a 16th is left to those that have little there: each finds room for a
    /// little. A load longer than that waits until others leave as much.
    public var stagingLimit = 64 << 20
    /// What tenants get of the device where it takes less than they append: twice the weight, twice as much. Also how
    /// much of a tenant goes before what others have enqueued. 1 to 10,000; 100 for those not named.
    public var tenantWeights: [TenantName: Int] = [:]
    /// How commits reach the device: through io_uring where the system allows it (default), only so, or never.
    public var writePath: WritePath = .automatic
    /// Most commits on their way to the device at a time, 1 to 4. They are acknowledged in order.
    public var commitsUnderWay = FormatLimits.maximumCommitsUnderWay
    /// When commits are compressed.
    public var compression: CompressionPolicy = .automatic
    /// Where keys come from for tenants whose records are encrypted on the disk (AES-256-GCM). nil: nobody's are. Encrypted
    /// are records, compressed or not, in journal and segments; not encrypted are tenants' names, sequence numbers, kinds,
    /// times and lengths. A log with encrypted records can be opened, verified, acknowledged and erased without keys, but
    /// not read, compacted or appended to.
    public var keyProvider: (any KeyProvider)?
    /// Most file descriptors that the log takes, its subscribers' readers included, however many tenants there are. Readers
    /// that find none left open their files anew for each batch. At least 60 + `spareFiles`.
    public var descriptorLimit = 256
    /// Most tenants that the log may hold, 1 to 1,000,000. Each costs about 200 bytes of memory and some 70 bytes in
    /// each checkpoint.
    public var maximumTenants = 65536
    /// Most tenants that may have journals of their own at a time (`Placement.dedicated`), 0 to 1,024. Each takes files of its
    /// own up to `journalLimit` and `segmentLimit`, four threads, and descriptors beyond `descriptorLimit`: 60 +
    /// `spareFiles` at most.
    public var dedicatedJournalLimit = 16
    /// Idle time after which acknowledgements and the watermark are written without an append to ride on, in
    /// milliseconds, 1 to 3,600,000. A reader in another process sees the last records after that time.
    public var idleMilliseconds = 10
    /// Where the log tells of findings, failed writes and back-pressure.
    public var logger = Logger(label: "telemetry-wal")
    /// How long after opening policies are first enforced without being asked, in nanoseconds: who opens a log to have
    /// them applied wants to be told what goes.
    package var firstRetentionPass: UInt64 = 1_000_000_000
    /// Records of the log have been encrypted, as its `FORMAT` says, or the commits that were read.
    var isEncrypted = false

    /// The defaults.
    public init() {}

    func checked() throws(WALError) -> WriteAheadLogOptions {
        guard (FormatLimits.minimumJournalFileSize...FormatLimits.maximumJournalFileSize).contains(journalFileSize),
            journalFileSize.isMultiple(of: UInt64(FormatLimits.maximumBlockSize))
        else { throw .invalidOption("journalFileSize is \(journalFileSize); give a multiple of 65536 from 262144 on") }
        guard spareFiles >= 2, spareFiles <= 64 else {
            throw .invalidOption("spareFiles is \(spareFiles); give 2 to 64")
        }
        guard journalLimit / journalFileSize >= UInt64(spareFiles) + 2 else {
            throw .invalidOption("journalLimit is \(journalLimit); give at least \(spareFiles + 2) files' size")
        }
        guard stagingLimit >= 1 << 20 else {
            throw .invalidOption("stagingLimit is \(stagingLimit); give 1 MiB or more")
        }
        guard (1...FormatLimits.maximumCommitsUnderWay).contains(commitsUnderWay) else {
            throw .invalidOption("commitsUnderWay is \(commitsUnderWay); give 1 to 4")
        }
        let leastDescriptors = ReaderFiles.leastLimit(spareFiles: spareFiles)
        guard descriptorLimit >= leastDescriptors else {
            throw .invalidOption("descriptorLimit is \(descriptorLimit); give at least \(leastDescriptors)")
        }
        guard (1...1_000_000).contains(maximumTenants) else {
            throw .invalidOption("maximumTenants is \(maximumTenants); give 1 to 1000000")
        }
        guard (0...1024).contains(dedicatedJournalLimit) else {
            throw .invalidOption("dedicatedJournalLimit is \(dedicatedJournalLimit); give 0 to 1024")
        }
        guard (1...3_600_000).contains(idleMilliseconds) else {
            throw .invalidOption("idleMilliseconds is \(idleMilliseconds); give 1 to 3600000")
        }
        for weight in tenantWeights.values { try TenantWeight.checked(weight) }
        try retention.checked()
        for policy in tenantRetention.values { try policy.checked() }
        return self
    }

    /// Bytes that encryption may add to a frame.
    var sealOverhead: Int { keyProvider == nil ? 0 : FrameSeal.overhead }

    /// Most bytes of records, headers included, in one batch.
    var maximumBatchLength: Int {
        min(FormatLimits.maximumFrameRawLength, Int(journalFileSize / 4))
    }
}

/// How commits that are under way at the same time reach the device. A lone appender writes on its own thread in
/// either case.
public enum WritePath: String, Sendable, CaseIterable {
    /// io_uring if the kernel and the sandbox allow it, else as `plain`.
    case automatic
    /// io_uring; opening fails where there is none.
    case ring
    /// `pwritev2`, on threads that wait for it.
    case plain
}

/// When commits are compressed with LZ4. A commit that fits into one block never is: it would save nothing.
public enum CompressionPolicy: String, Sendable, CaseIterable {
    /// Where it delays nobody: large commits, while another is on its way to the device and no full group waits to be
    /// encoded. Everything else is stored as it is: compressing 32 KiB takes longer than writing them.
    case automatic
    /// Always: less space and faster replay, slower appends.
    case always
    /// Never.
    case never
}
