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
    var files: [LiveFile]
    var spares: [SpareFile] = []
    /// Files to be opened for use again, or removed.
    var recycled: [String]
    /// Files that the present file's header still counts as live; recyclable, but not yet to be removed.
    var keptUntilRotation: Set<String> = []
    /// Files that wait for the next rotation before they are removed.
    var recycledLater: [String] = []
    /// Files that are not to be used again, but removed.
    var unrecyclable: Set<String> = []
    var nextFileNumber: UInt64
    var preparerFailure: WALError?
    var isPreparing = false
    var isCommitting = false
    var committerDozes = false
    var pendingCursors: [CursorKey: UInt64] = [:]
    var pendingSubscribers: [ControlRecord] = []
    var acknowledgementOutcome = CommitOutcome()
    var lastActivity = MonotonicTime.now
    var needsWatermark = false
    var wantsRotation = false
    var isClosing = false
    var isStopped = false
    /// Why no commit is taken any more; goes from nil to an error once.
    var refusal: WALError?
    var durableThrough: UInt64
    var statistics = CommitStatistics()
    var threads: [WorkerThread] = []
    var storageLock: Storage.Lock?

    // Guarded by the role.
    var machine: CommitterMachine
    var currentFile: Storage.File?
    var generator = SystemRandomNumberGenerator()
    let buffer: AlignedBuffer
    let compressor = LZ4FrameCompressor()

    let readQueue = BlockingQueue(name: "wal-reader")

    struct SpareFile {
        var name: String
        var file: Storage.File
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
        recycled = recovered.reusable
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

    /// Lets every waiting thread and task look again. Under the lock.
    func wakeRoomWaiters() {
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
