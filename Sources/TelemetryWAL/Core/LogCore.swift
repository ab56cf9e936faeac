import Logging
import WALFormat
import WALStorage

/// The engine behind `WriteAheadLogEngine`: staging, the committer's role, files, cursors.
///
/// Producers copy records into the open group under `lock` (`LogCore+Staging`). Whoever holds the committer's role
/// takes the next group, encodes it into one buffer and writes it with one durable write, without the lock
/// (`LogCore+Committing`). The role is held by one thread at a time: by a blocking appender that finds it free, so
/// that a lone appender pays no hand-off, and else by the committer's own thread. A third thread makes files ahead of
/// need (`LogCore+Files`). What is decided, as opposed to done, is in plain values without I/O: `CommitterMachine`,
/// `AdmissionControl`, `LogState`.
///
/// Safe to share although unchecked: each variable is marked with what guards it, `lock` or the role.
final class LogCore<Storage: JournalStorage>: @unchecked Sendable {
    let storage: Storage
    let options: WriteAheadLogOptions
    let format: RootFormat
    let logger: Logger

    let lock = Lock()
    /// The committer's thread waits here for work.
    let committerWake = Condition()
    /// Blocked appenders wait here for their group's outcome: two, taken in turns, so that a group's end wakes its
    /// own appenders and not those of the next.
    let outcomeConditions = [Condition(), Condition()]
    /// Blocked appenders wait here for room in staging or in the journal; a committer waits here for a spare file.
    let roomCondition = Condition()
    let preparerWake = Condition()

    // Guarded by `lock`.
    var state: LogState
    var openGroup = StagedGroup()
    var openGroupNumber: UInt64 = 1
    var closedGroups: [(group: StagedGroup, number: UInt64, worstLength: Int)] = []
    var groupPool: [StagedGroup] = []
    var inFlightWorstLength: Int?
    var stagedBytes = 0
    var admission: AdmissionControl
    var roomWaiters: [CheckedContinuation<Void, Never>] = []
    /// Counts the wake-ups of those who wait for room, so that nobody goes to sleep on one that has just passed.
    var roomGeneration: UInt64 = 0
    var files: [LiveFile]
    var spares: [SpareFile] = []
    /// Files that have left the log, and what is to become of them.
    var retired: [RetiredFile]
    /// Files that the present file's header still counts as live: to be used again last, and not to be removed.
    /// With their file sequence numbers.
    var keptUntilRotation: [String: UInt64] = [:]
    /// When a damaged file that could not be set aside is tried again.
    var setAsideAgain = MonotonicTime(nanoseconds: 0)
    /// Files to be removed or set aside once the next header is on disk, which no longer counts them: before that,
    /// their absence would look like loss.
    var retiredLater: [RetiredFile] = []
    /// Size of the file that is being begun and is in no other list meanwhile.
    var beginningLength: UInt64 = 0
    var nextFileNumber: UInt64
    var preparerFailure: WALError?
    var isPreparing = false
    var isCommitting = false
    var committerDozes = false
    var pendingCursors: [CursorKey: UInt64] = [:]
    var pendingSubscribers: [ControlRecord] = []
    /// Subscribers that left while a commit is under way that may carry their cursors.
    var departedInFlight: Set<TenantName> = []
    var acknowledgementOutcome = CommitOutcome()
    /// The outcome of acknowledgements that a commit under way carries.
    var inFlightAcknowledgements: CommitOutcome?
    /// Acknowledgements have no room at the moment; cleared when that may have changed.
    var controlIsBlocked = false
    /// Recovery could not tell who subscribes: nothing is reclaimed until the log is opened again.
    let mayLackSubscribers: Bool
    var lastActivity = MonotonicTime.now
    var needsWatermark = false
    var wantsRotation = false
    var isClosing = false
    var isStopped = false
    /// `close` is through, lock file and all.
    var isReleased = false
    var closeFailure: WALError?
    /// Why no commit is taken any more; goes from nil to an error once.
    var refusal: WALError?
    var durableThrough: UInt64
    var statistics = CommitStatistics()
    var threads: [WorkerThread] = []
    var storageLock: Storage.Lock?

    // Guarded by the role.
    var machine: CommitterMachine
    var currentFile: Storage.File?
    /// The file in which a write failed, until the next one is begun.
    var sealedFile: Storage.File?
    var generator = SystemRandomNumberGenerator()
    let buffer: AlignedBuffer
    let compressor = LZ4FrameCompressor()

    let readQueue = BlockingQueue(name: "wal-reader")
    /// Logs on a thread that holds no lock and that nobody waits for: a logger may itself append to this log.
    private let logQueue = BlockingQueue(name: "wal-logger")

    struct SpareFile {
        var name: String
        var file: Storage.File
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
    }

    struct CursorKey: Hashable {
        var subscriber: TenantName
        var tenantIndex: Int
    }

    init(
        storage: Storage, options: WriteAheadLogOptions, format: RootFormat, recovered: RecoveredLog,
        currentFile: Storage.File?, storageLock: Storage.Lock
    ) {
        self.storage = storage
        self.options = options
        self.format = format
        logger = options.logger
        state = recovered.state
        files = recovered.files
        retired = recovered.reusable.map { RetiredFile(name: $0, fate: .reuse) }
        mayLackSubscribers = recovered.mayLackSubscribers
        nextFileNumber = recovered.nextFileNumber
        durableThrough = recovered.lastCommit
        machine = recovered.machine
        self.currentFile = currentFile
        self.storageLock = storageLock
        buffer = AlignedBuffer(capacity: 256 << 10, alignment: max(4096, format.blockSize))
        let capacity = Int(options.journalFileSize)
        admission = AdmissionControl(
            usableEnd: capacity - Self.reserve(ofFileSize: capacity), fileStart: 0,
            offset: recovered.machine.current.map { Int($0.nextOffset) } ?? capacity, spares: 0)
        // The present file may be of another size than the options ask for now.
        if let current = recovered.machine.current, current.header.capacity != options.journalFileSize {
            admission.offset = capacity
        }
        admission.fileStart = fileStartBound()
    }

    /// Bytes at each file's end that appends leave to acknowledgements.
    static func reserve(ofFileSize size: Int) -> Int { min(1 << 20, size / 16) }

    /// Where commits of appends begin in a new file at worst. Under the lock.
    func fileStartBound() -> Int {
        FormatLimits.headerCopies * format.blockSize + checkpointLengthBound()
    }

    /// Whether a checkpoint would leave most of a new file to records if it grew by so many bytes. Under the lock.
    func checkpointFits(growingBy length: Int) -> Bool {
        UInt64(checkpointLengthBound() + length) <= min(options.journalFileSize / 4, 16 << 20)
    }

    /// Upper bound of a checkpoint commit's length. Under the lock.
    func checkpointLengthBound() -> Int {
        let raw = state.checkpointBound
        return (CommitHeader.length + (raw / ControlFrames.frameLength + 2) * FrameHeader.fixedLength + raw)
            .roundedUp(toMultipleOf: format.blockSize)
    }

    /// Starts the threads.
    func start() {
        lock.withLock {
            threads = [
                WorkerThread(name: "wal-committer") { self.runCommitter() },
                WorkerThread(name: "wal-preparer") { self.runPreparer() },
            ]
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

    /// Logs from a thread of its own. Under the lock.
    func logLater(_ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata) {
        logQueue.submit { [logger] in logger.log(level: level, message, metadata: metadata) }
    }

    /// Lets every waiting thread and task look again. Under the lock.
    func wakeRoomWaiters() {
        roomGeneration += 1
        roomCondition.broadcast()
        let waiters = roomWaiters
        roomWaiters = []
        for waiter in waiters { waiter.resume() }
    }
}

/// Counters of the commits since the log was opened.
public struct CommitStatistics: Sendable, Equatable {
    /// Commits written, those without records included.
    public var commits: UInt64 = 0
    /// Records appended and durable.
    public var records: UInt64 = 0
    /// Bytes written to journal files, padding included.
    public var bytesWritten: UInt64 = 0
    /// Writes that failed and were repeated in a fresh file.
    public var failedWrites: UInt64 = 0
    /// Appends refused or made to wait for want of room.
    public var backPressure: UInt64 = 0
}
