import Logging
import WALFormat
import WALStorage

/// The engine behind `WriteAheadLogEngine`: what `LogFront` stages, it brings to disk; and files, cursors, readers.
///
/// **Commits.** Whoever finds `isEncoding` false may take the next group, encode it into a free slot without the lock
/// (`LogCore+Encoding`), and have it written: on its own thread, as a lone appender does and saves every hand-off, or
/// through the storage's queue, as the committer's thread does (`LogCore+Committer`). Up to four are under way; they
/// end in any order and are acknowledged in theirs (`LogCore+Ending`). Encoding the next overlaps the I/O of those.
/// Where the storage has no queue there are two committer's threads, which write and wait.
///
/// **Files.** A thread of its own makes them ahead of need (`LogCore+Files`). Another moves what the oldest ones hold and
/// somebody lacks into tenant segments (`LogCore+Compaction`).
///
/// What is decided, as opposed to done, is in plain values without I/O: `CommitterMachine`, `AdmissionControl`,
/// `LogState`.
///
/// Safe to share although unchecked: each variable is marked with what guards it, `lock` or `isEncoding`, the role of
/// whoever encodes.
final class LogCore<Storage: JournalStorage>: LogFront, @unchecked Sendable {
    let storage: Storage

    // Guarded by `lock`.
    @LockGuarded var files: [LiveFile]
    @LockGuarded var spares: [SpareFile] = []
    /// Files that have left the log, and what is to become of them.
    var retired: [RetiredFile]
    /// Files that the present file's header still counts as live: to be used again last, and not to be removed.
    /// With their file sequence numbers, and where their commits end.
    var keptUntilRotation: [String: (sequence: UInt64, endOffset: UInt64)] = [:]
    /// A damaged file that everybody has and that is on its way to quarantine: readers that do not find it miss nothing.
    var leavingFile: String?
    /// Damaged segments are on their way to quarantine.
    var damagedSegmentsLeave = false
    /// When a damaged file that could not be set aside is tried again, and why it could not.
    var setAsideAgain = MonotonicTime(nanoseconds: 0)
    var setAsideFailure: StorageError?
    /// Files to be removed or set aside once the next header is on disk, which no longer counts them: before that,
    /// their absence would look like loss.
    var retiredLater: [RetiredFile] = []
    /// Size of the file that is being begun and is in no other list meanwhile.
    var beginningLength: UInt64 = 0
    var nextFileNumber: UInt64
    var isPreparing = false
    @LockGuarded var freeSlots: [CommitSlot]
    /// Writes in `queue`.
    @LockGuarded var queuedWrites = 0
    /// A committer's thread waits for its queue.
    @LockGuarded var waitsForQueue = false
    /// A committer's thread sleeps until it is called.
    @LockGuarded var dozesWithoutEnd = false
    @LockGuarded var pendingCursors: [CursorKey: UInt64] = [:]
    /// Subscribers that came or left, and tenants that come from another journal.
    @LockGuarded var pendingSubscribers: [ControlRecord] = []
    /// How often acknowledgements were taken into a turn, and of those, through which they are durable.
    var acknowledgementsTaken: UInt64 = 0
    @LockGuarded var acknowledgementsDurable: UInt64 = 0
    /// How often acknowledgements were given back that were not the last taken.
    var acknowledgementsReturned: UInt64 = 0
    /// By the tenant's index: erasures that were decided or are complete, and are to be written.
    @LockGuarded var pendingErasures: [Int: TenantErasure] = [:]
    /// By the tenant's index: erasures that are durable and not complete.
    var erasuresToDo: Set<Int> = []
    /// Of these, those that wait until the log's other journals say so, too: how many callers wait.
    var heldErasures: [Int: Int] = [:]
    /// Of these, those that were begun before, by an attempt that failed or by another process.
    var erasuresBegunBefore: Set<Int> = []
    /// By the tenant's index: through which numbers erasures were decided that are not complete. Which of them is durable when
    /// the log is opened again is not known.
    var erasureEnds: [Int: [UInt64]] = [:]
    /// When one that failed is tried again, and why it did.
    var erasureRetries: [Int: MonotonicTime] = [:]
    var erasureFailures: [Int: WALError] = [:]
    /// Records that somebody lacked, of erasures that are not complete.
    var erasureUndelivered: [Int: UInt64] = [:]
    /// Journal files that were removed and that the device had failed to overwrite.
    var removedUnwritten: [String] = []
    /// How often a tenant's erasure was asked for, and how many of these an overwriting begun since has served: appends that
    /// fail leave bytes behind one that was there before.
    var erasureRequests: [Int: Int] = [:]
    var erasuresServed: [Int: Int] = [:]
    /// How many callers wait for a tenant's erasure.
    var erasureCallers: [Int: Int] = [:]
    /// What a tenant's erasure has done, as long as it is not complete or somebody waits for it.
    var erasureReports: [Int: ErasureReport] = [:]
    /// What is being overwritten that no record accounts for, by tenant.
    var sweeps: [TenantName: Sweep] = [:]
    /// Tenants of whom one has failed: zeros that are read since need not be durable.
    var sweepsBegunBefore: Set<TenantName> = []
    /// A spare that is being overwritten, and a file that must not leave the log meanwhile.
    var heldSpare: SpareFile?
    var pinnedFile: String?
    /// Bytes of the present file that are being overwritten: no commit is placed there.
    @LockGuarded var closedRange: Range<UInt64>?
    /// The end, at worst, of the commit that has a place and is being encoded.
    @LockGuarded var placedEnd: UInt64?
    /// Why the last turn without a group was not written, if it was not.
    var controlFailure: WALError?
    /// Acknowledgements have no room at the moment; cleared when that may have changed.
    var controlIsBlocked = false
    /// Recovery could not tell who subscribes: nothing is reclaimed until the log is opened again.
    let mayLackSubscribers: Bool
    @LockGuarded var lastActivity = MonotonicTime.now
    @LockGuarded var needsWatermark = false
    /// The last commit that was found when the log was opened, if nothing vouches for it; 0: something does.
    let unvouchedCommit: UInt64
    @LockGuarded var compactor: CompactorMachine
    /// The compactor's thread's own.
    var pace: CompactorPace
    /// How many wait in `compact`.
    @LockGuarded var compactCallers = 0
    /// The tenants' segments. Only the compactor's thread adds any, or takes any out.
    var segments: SegmentCatalog
    /// Who is told when something has become durable.
    var durabilitySignals: [DurabilitySignal] = []
    /// Counts how often records moved into segments.
    var segmentGeneration: UInt64 = 0
    /// Tenants some of whose segments everybody may have, and such whose segments may have to be merged.
    var releaseCandidates: Set<TenantName>
    var mergeCandidates: Set<TenantName>
    /// When a compaction that failed is tried again.
    var compactorRetry: MonotonicTime?
    var compactorFailure: WALError?
    /// How many subscribers have come, and how many had when what waits was gathered.
    @LockGuarded var registrations: UInt64 = 0
    @LockGuarded var gatheredRegistrations: UInt64 = 0
    /// Segments are being given their names.
    @LockGuarded var isNamingSegments = false
    /// By file sequence number, of each tenant the lowest number that recovery found lost there: it may be below all that
    /// can be read of the tenant in the file.
    let firstLosses: [UInt64: [TenantName: UInt64]]
    /// What recovery found lost and whose it was, in the log's order.
    let recoveredLosses: [(fileSequence: UInt64, losses: [RecoveryReport.TenantLoss])]
    /// By file sequence number, how often in a row a file could not be gathered.
    var unreadableAttempts: [UInt64: Int] = [:]
    /// When ages and budgets are looked at next; nil: no policy asks for it.
    var nextRetention: MonotonicTime?
    /// The segments' summaries were asked when their records were received.
    var hasSegmentTimes = false
    /// Dropping records may make room, as far as is known.
    var dropsMakeRoom = false
    /// It was for want of disk space that no journal file could be made ready.
    var preparerLacksDisk = false
    /// When counts of records that were not taken were written last.
    var refusalsTaken = MonotonicTime(nanoseconds: 0)
    /// When drops of a tenant were logged last.
    var lastLoggedDrops: [TenantName: MonotonicTime] = [:]
    /// A repair goes on: records that are found lost are given up when they come into segments.
    @LockGuarded var givesUpLosses = false
    /// Whether the compactor is at something, or was woken and has not looked yet. Under the lock.
    var isCompacting: Bool { !compactorRests || compactorIsCalled }
    /// The compactor has nothing to do.
    var compactorRests = false
    /// It was woken since it last found nothing to do.
    var compactorIsCalled = false
    var compactionStatistics = CompactionStatistics()
    /// The compactor's thread sleeps here.
    let compactorWake = Condition()
    /// The mark of a clean close is being written, or is: nothing is committed behind it.
    var hasClosingMark = false
    /// `close` is through, lock file and all.
    var isReleased = false
    var closeFailure: WALError?
    @LockGuarded var durableThrough: UInt64
    var threads: [WorkerThread] = []
    var storageLock: Storage.Lock?
    /// The file in which a write failed, until the next one is begun.
    var sealedFile: Storage.File?
    @LockGuarded var currentFile: Storage.File?
    @LockGuarded var machine: CommitterMachine

    // Guarded by `isEncoding`.
    var generator = KernelRandomness()
    let assembler: CommitAssembler
    /// Of the whole log; another one is set before the journal's threads begin.
    var encryptionMark: EncryptionMark<Storage>

    /// How the committer's thread writes; nil: as appenders do.
    let queue: Storage.Queue?
    let readQueue = BlockingQueue(name: "wal-reader")
    let readerFiles: ReaderFiles
    /// Logs on a thread that holds no lock and that nobody waits for: a logger may itself append to this log.
    private let logQueue = BlockingQueue(name: "wal-logger")

    /// A file that is ready for use. One of another size than the options ask for, which a log has that was opened
    /// with other options before, serves where no file of their size can be made.
    struct SpareFile {
        var name: String
        var file: Storage.File
        var capacity: UInt64
    }

    /// A file that has left the log.
    struct RetiredFile {
        enum Fate: Equatable {
            case reuse
            /// A write to it failed.
            case removal
            /// It holds damage: moved to quarantine under this name, never overwritten.
            case quarantine(as: String)
        }

        var name: String
        var fate: Fate
        /// Bytes that it takes and that no other list counts.
        var length: UInt64
    }

    init(
        storage: Storage, options: WriteAheadLogOptions, format: RootFormat, recovered: RecoveredLog,
        currentFile: Storage.File?, storageLock: Storage.Lock, queue: Storage.Queue?
    ) {
        self.storage = storage
        self.queue = queue
        readerFiles = ReaderFiles(limit: options.descriptorLimit, spareFiles: options.spareFiles)
        files = recovered.files
        retired = recovered.reusable.map { RetiredFile(name: $0.name, fate: .reuse, length: $0.size) }
        mayLackSubscribers = recovered.mayLackSubscribers
        nextFileNumber = recovered.nextFileNumber
        durableThrough = recovered.lastCommit
        unvouchedCommit = recovered.lastCommit > recovered.durableThrough ? recovered.lastCommit : 0
        segments = recovered.segments
        var firstLosses: [UInt64: [TenantName: UInt64]] = [:]
        for finding in recovered.report.findings {
            for loss in finding.losses {
                let first = firstLosses[finding.fileSequence]?[loss.tenant] ?? .max
                firstLosses[finding.fileSequence, default: [:]][loss.tenant] = min(first, loss.sequences.lowerBound)
            }
        }
        self.firstLosses = firstLosses
        recoveredLosses = recovered.report.findings.filter { !$0.losses.isEmpty }.map { ($0.fileSequence, $0.losses) }
        releaseCandidates = Set(recovered.segments.tenants.keys)
        mergeCandidates = releaseCandidates
        let threshold = min(options.compactionThreshold, options.journalLimit / 2)
        compactor = CompactorMachine(threshold: threshold, limit: options.segmentLimit)
        pace = CompactorPace(threshold: threshold, limit: options.journalLimit)
        machine = recovered.machine
        self.currentFile = currentFile
        self.storageLock = storageLock
        freeSlots = (0..<options.commitsUnderWay).map {
            CommitSlot(tag: $0, alignment: max(4096, format.blockSize))
        }
        assembler = CommitAssembler(format: format)
        encryptionMark = EncryptionMark(storage: storage, format: format)
        let capacity = Int(options.journalFileSize)
        var admission = AdmissionControl(
            usableEnd: (capacity - Self.reserve(ofFileSize: capacity)) & ~(format.blockSize - 1), fileStart: 0,
            offset: recovered.machine.current.map { Int($0.nextOffset) } ?? capacity, spares: 0)
        // The present file may be of another size than the options ask for now.
        if let current = recovered.machine.current, current.header.capacity != options.journalFileSize {
            admission.offset = capacity
        }
        super.init(options: options, format: format, state: recovered.state, admission: admission)
        erasuresToDo = Set(state.tenants.indices.filter { state.isBeingErased(tenant: $0) })
        erasuresBegunBefore = erasuresToDo
        self.admission.fileStart = fileStartBound()
        dropsMakeRoom = mayDropAny
        planRetention()
        if nextRetention != nil { nextRetention = .now + Self.firstPass(options) }
    }

    // MARK: - What `LogFront` asks for

    @specialized(where Storage == DirectStorage)
    override func lead() {
        switch encodeNextGroup() {
        case .encoded(let slot): writeHere(slot)
        case .failed: break
        case .mustDrain, .postponed: preconditionFailure("an appender leads when nothing is under way")
        }
        tellEndedGroups()
        leaveToCommitter()
    }

    /// What follows a commit that another thread made is the committer's: the next group, the wait for its company, or,
    /// if nothing follows, the watermark. Under the lock.
    func leaveToCommitter() {
        if hasStagedGroups || !fewAppend || dozesWithoutEnd { wakeCommitter() }
    }

    override func interruptCommitter() { if waitsForQueue { queue?.wake() } }

    override var preparerHasWork: Bool {
        !isStopped
            && (isPreparing || !retired.isEmpty || isHeldUp
                || (regularSpareCount < options.spareFiles && preparerFailure == nil))
    }

    /// A file is being overwritten that is free for use then, or leaves. Under the lock.
    var isHeldUp: Bool {
        if heldSpare != nil { return true }
        guard let pinnedFile, files.count > 1, files[0].name == pinnedFile else { return false }
        return mayLeave(files[0])
    }

    override var compactionMakesRoom: Bool {
        !isStopped && !mayLackSubscribers
            && ((!departuresAreUnderWay
                && (!releaseCandidates.isEmpty || (dropsMakeRoom && lacksRoom && !controlIsBlocked)))
                || (compactorRetry == nil && compactor.makesRoom(sealedFiles, segmentLength: segments.length)))
    }

    override var decidedDropsMakeRoom: Bool {
        !isStopped && !mayLackSubscribers && !controlIsBlocked && retention.hasDropsUnderWay(in: state)
    }

    override func noteDecidedDrop(_ drop: RetentionDrop) { noteDrop(drop) }

    override func noteRefusedRecords(of tenant: TenantName, index: Int, isFirst: Bool) {
        noteRefusal(tenant, index: index, isFirst: isFirst)
    }

    override func wakeCompactor() {
        if !isStopped { compactorIsCalled = true }
        compactorWake.signal()
    }

    /// Files of another size than the options ask for have left the log, and room for one of theirs is missing: those
    /// go once the next file's header does not count them any more, for which others of them serve.
    override var rotationMakesRoom: Bool {
        !retiredLater.isEmpty && spares.count >= 2 && regularSpareCount < 2 && !controlIsBlocked && !isClosing
            && refusal == nil
    }

    /// Spares of the size that the options ask for: only to these appends are admitted. Under the lock.
    var regularSpareCount: Int { spares.count { $0.capacity == options.journalFileSize } }

    #if Simulation
        private static func firstPass(_ options: WriteAheadLogOptions) -> UInt64 { 0 }
    #else
        private static func firstPass(_ options: WriteAheadLogOptions) -> UInt64 { options.firstRetentionPass }
    #endif

    /// Bytes at each file's end that appends leave to acknowledgements.
    static func reserve(ofFileSize size: Int) -> Int { min(1 << 20, size / 16) }

    /// Starts the threads: one committer with a queue, two that write themselves without.
    func start() {
        lock.withLock {
            threads = [
                WorkerThread(name: "wal-preparer") { self.runPreparer() },
                WorkerThread(name: "wal-compactor") { self.runCompactor() },
            ]
            for _ in 0..<(queue == nil ? min(2, options.commitsUnderWay) : 1) {
                threads.append(WorkerThread(name: "wal-committer") { self.runCommitter() })
            }
        }
    }

    /// Waits until the log can take an append, or it is clear why it can't: the first file may have to be made.
    func waitUntilReady() {
        lock.withLock {
            while machine.current == nil, spares.count < 2, preparerFailure == nil, !isStopped {
                roomCondition.wait(lock)
            }
        }
    }

    /// Waits for the messages that are on their way, a second at most: a process that ends behind its log would take them
    /// along. Without the lock.
    func waitForMessages() { logQueue.waitUntilIdle(atMost: 1_000_000_000) }

    /// Logs from a thread of its own. Under the lock.
    func logLater(_ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata) {
        logQueue.submit { [logger] in logger.log(level: level, message, metadata: metadata) }
    }
}

/// Counters of the commits since the log was opened.
public struct CommitStatistics: Sendable, Equatable {
    /// Commits written, those without records included.
    public var commits: UInt64 = 0
    /// Writes to the device; as many flushes, unless `durability` is `processCrash`. Fewer than commits: a file's
    /// checkpoint and first commit are one.
    public var writes: UInt64 = 0
    /// Records appended and durable.
    public var records: UInt64 = 0
    /// Bytes written to journal files, padding included.
    public var bytesWritten: UInt64 = 0
    /// Writes that failed and were repeated in a fresh file.
    public var failedWrites: UInt64 = 0
    /// Appends refused or made to wait for want of room.
    public var backPressure: UInt64 = 0
    /// Appends that went before others which were staged earlier, into a commit that waited for the device.
    public var passingAppends: UInt64 = 0

    func adding(_ other: CommitStatistics) -> CommitStatistics {
        CommitStatistics(
            commits: commits + other.commits, writes: writes + other.writes, records: records + other.records,
            bytesWritten: bytesWritten + other.bytesWritten, failedWrites: failedWrites + other.failedWrites,
            backPressure: backPressure + other.backPressure, passingAppends: passingAppends + other.passingAppends)
    }
}
