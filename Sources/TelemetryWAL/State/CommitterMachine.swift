import WALFormat
import WALStorage

/// The committer's decisions, without I/O: where the next commit goes, what its header vouches for, when a new file
/// begins, and what follows from a failed write. `Committer` carries them out.
///
/// One commit is in flight at a time, so durable-through is always the commit before the one submitted, and a valid
/// commit vouches for all before it. After a failed write the file is sealed at its last durable commit and never
/// written again in this life; the same records go to a fresh file under the same commit number. A second failure in
/// a row is final.
struct CommitterMachine {
    /// The file that commits go to.
    struct CurrentFile: Equatable {
        var name: String
        var header: JournalFileHeader
        /// Offset of the next commit.
        var nextOffset: UInt64
        /// Whether header and checkpoint are on disk.
        var isBegun: Bool
    }

    enum Decision: Equatable {
        /// The commit goes there. `beginsFile`: headers and checkpoint are written in front of it.
        case write(CommitPlacement, beginsFile: Bool)
        /// It does not fit: a fresh file is needed.
        case needsFile
        /// No commit is taken any more.
        case refused(WALError)

        static func == (left: Decision, right: Decision) -> Bool {
            switch (left, right) {
            case (.write(let a, let b), .write(let c, let d)): a == c && b == d
            case (.needsFile, .needsFile), (.refused, .refused): true
            default: false
            }
        }
    }

    enum FailureAction {
        /// Write the same records to a fresh file.
        case moveToFreshFile
        /// Give up: the log takes no more commits.
        case giveUp(WALError)
    }

    private(set) var current: CurrentFile?
    /// Number of the last durable commit, 0 in a new log.
    private(set) var lastCommit: UInt64
    private(set) var lastChecksum: UInt32
    private(set) var recordsBefore: UInt64
    /// Where the last file ended that holds durable commits, for the next file's header.
    private var previous: JournalFileHeader.Previous
    private(set) var lastFileSequence: UInt64
    private var failuresInARow = 0
    private(set) var refusal: WALError?

    /// A machine that goes on behind what recovery found. `current` is nil where appends must begin a fresh file.
    init(
        current: CurrentFile?, lastCommit: UInt64, lastChecksum: UInt32, recordsBefore: UInt64,
        previous: JournalFileHeader.Previous, lastFileSequence: UInt64
    ) {
        self.current = current
        self.lastCommit = lastCommit
        self.lastChecksum = lastChecksum
        self.recordsBefore = recordsBefore
        self.previous = previous
        self.lastFileSequence = lastFileSequence
    }

    /// Decides about a commit of at most `bound` bytes. `lead` is what a checkpoint in front of it takes at most.
    /// `usableEnd` is where this commit's kind must end in a file.
    func decide(bound: Int, lead: Int, usableEnd: UInt64) -> Decision {
        if let refusal { return .refused(refusal) }
        guard let current else { return .needsFile }
        let needed = UInt64(bound) + (current.isBegun ? 0 : UInt64(lead))
        if !current.isBegun {
            guard current.nextOffset + needed <= current.header.capacity else {
                return .refused(.journalFull(reason: "checkpoint and commit are larger than a journal file"))
            }
        } else if current.nextOffset + needed > usableEnd {
            return .needsFile
        }
        let placement = CommitPlacement(
            epoch: current.header.epoch, fileSequence: current.header.fileSequence, offset: current.nextOffset,
            commitNumber: lastCommit + 1, durableThrough: lastCommit, recordsBefore: recordsBefore,
            previousChecksum: lastChecksum)
        return .write(placement, beginsFile: !current.isBegun)
    }

    /// The header with which a fresh file of this name begins; the file becomes the current one.
    mutating func begin(
        file name: String, logIdentifier: LogIdentifier, epoch: UInt64, capacity: UInt64, blockSize: Int,
        created: UInt64, oldestLiveFileSequence: UInt64?
    ) -> JournalFileHeader {
        lastFileSequence += 1
        let header = JournalFileHeader(
            logIdentifier: logIdentifier, epoch: epoch, fileSequence: lastFileSequence, capacity: capacity,
            blockSize: blockSize, created: created, firstCommit: lastCommit + 1,
            oldestLiveFileSequence: oldestLiveFileSequence ?? lastFileSequence, previous: previous,
            recordsBefore: recordsBefore)
        current = CurrentFile(name: name, header: header, nextOffset: header.commitsStart, isBegun: false)
        return header
    }

    /// Commits were written and are durable, in the order given; all lie in the current file, one behind the other.
    mutating func completed(_ commits: [CommitHeader], records: UInt64) {
        guard var file = current, let last = commits.last else { return }
        precondition(commits[0].offset == file.nextOffset && commits[0].commitNumber == lastCommit + 1)
        file.nextOffset = last.offset + UInt64(last.commitLength)
        file.isBegun = true
        lastCommit = last.commitNumber
        lastChecksum = last.checksum
        recordsBefore += records
        previous = JournalFileHeader.Previous(
            fileSequence: file.header.fileSequence, epoch: file.header.epoch, endOffset: file.nextOffset,
            lastCommit: lastCommit, lastChecksum: lastChecksum)
        current = file
        failuresInARow = 0
    }

    /// The write failed. What the disk holds behind the last durable commit is unknown and stays so.
    mutating func failed(_ error: StorageError) -> FailureAction {
        failuresInARow += 1
        current = nil
        if failuresInARow < 2 { return .moveToFreshFile }
        let refusal = WALError.failed(error)
        self.refusal = refusal
        return .giveUp(refusal)
    }

    /// No fresh file is to be had for what was admitted: final.
    mutating func giveUp(_ error: WALError) { if refusal == nil { refusal = error } }

}
