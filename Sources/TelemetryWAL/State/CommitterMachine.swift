import WALFormat
import WALStorage

/// The committer's decisions, without I/O: where the next commit goes, what its header vouches for, when a new file
/// begins, and what follows from a failed write. `LogCore` carries them out.
///
/// Several commits may be under way in one file. Each continues the chain of the one submitted before it, and vouches
/// for the last that is known durable (`durable`); they are acknowledged in order, so a commit that is whole behind one
/// that is not was never acknowledged. A new file begins only when nothing is under way, since its header vouches for
/// all that the old one holds. After a failed write the file is sealed at its last durable commit and never written
/// again in this life; what was under way goes to a fresh file under the same commit numbers. A second failure in a
/// row is final.
struct CommitterMachine {
    /// The file that commits go to.
    struct CurrentFile: Equatable {
        var name: String
        var header: JournalFileHeader
        /// Offset behind the last commit submitted.
        var nextOffset: UInt64
        /// Whether header and checkpoint are on disk.
        var isBegun: Bool
    }

    /// A place in the log.
    struct Position: Equatable {
        /// Number of the last commit, 0 in a new log.
        var commit: UInt64
        var checksum: UInt32
        /// User records in all commits so far.
        var records: UInt64
    }

    enum Decision: Equatable {
        /// The commit goes there. `beginsFile`: headers and checkpoint are written in front of it.
        case write(CommitPlacement, beginsFile: Bool)
        /// It does not fit: a fresh file is needed.
        case needsFile
        /// It has to wait until nothing is under way.
        case mustDrain
        /// No commit is taken any more.
        case refused(WALError)

        static func == (left: Decision, right: Decision) -> Bool {
            switch (left, right) {
            case (.write(let a, let b), .write(let c, let d)): a == c && b == d
            case (.needsFile, .needsFile), (.mustDrain, .mustDrain), (.refused, .refused): true
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
    /// Through which commit the log is known to be durable.
    private(set) var durable: Position
    /// Through which commit it was handed to the device.
    private(set) var submitted: Position
    /// Submissions (a beginning file's checkpoint and commit are one) that have not ended.
    private(set) var underWay = 0
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
        durable = Position(commit: lastCommit, checksum: lastChecksum, records: recordsBefore)
        submitted = durable
        self.previous = previous
        self.lastFileSequence = lastFileSequence
    }

    /// Decides about a commit of at most `bound` bytes. `lead` is what a checkpoint in front of it takes at most.
    /// `usableEnd` is where this commit's kind must end in a file.
    func decide(bound: Int, lead: Int, usableEnd: UInt64) -> Decision {
        if let refusal { return .refused(refusal) }
        guard let current else { return underWay == 0 ? .needsFile : .mustDrain }
        if !current.isBegun {
            if underWay > 0 { return .mustDrain }
            guard current.nextOffset + UInt64(bound + lead) <= current.header.capacity else {
                return .refused(.journalFull(reason: "checkpoint and commit are larger than a journal file"))
            }
        } else if current.nextOffset + UInt64(bound) > usableEnd {
            return underWay == 0 ? .needsFile : .mustDrain
        }
        #if Simulation
            let durable = DeliberateBug.isActive(.vouchForCommitsUnderWay) ? submitted : durable
        #endif
        let placement = CommitPlacement(
            epoch: current.header.epoch, fileSequence: current.header.fileSequence, offset: current.nextOffset,
            commitNumber: submitted.commit + 1, durableThrough: durable.commit, recordsBefore: submitted.records,
            previousChecksum: submitted.checksum)
        return .write(placement, beginsFile: !current.isBegun)
    }

    /// The header with which a fresh file of this name begins; the file becomes the current one.
    mutating func begin(
        file name: String, logIdentifier: LogIdentifier, epoch: UInt64, capacity: UInt64, blockSize: Int,
        created: UInt64, oldestLiveFileSequence: UInt64?, sequenceFloor: UInt64
    ) -> JournalFileHeader {
        precondition(underWay == 0, "a file begins when all before it is durable")
        lastFileSequence += 1
        let header = JournalFileHeader(
            logIdentifier: logIdentifier, epoch: epoch, fileSequence: lastFileSequence, capacity: capacity,
            blockSize: blockSize, created: created, firstCommit: durable.commit + 1,
            oldestLiveFileSequence: oldestLiveFileSequence ?? lastFileSequence, previous: previous,
            recordsBefore: durable.records, sequenceFloor: sequenceFloor)
        current = CurrentFile(name: name, header: header, nextOffset: header.commitsStart, isBegun: false)
        return header
    }

    /// Commits are handed to the device in one write: one behind the other, behind all submitted before.
    mutating func submit(_ commits: [CommitHeader], records: UInt64) {
        guard let file = current, let last = commits.last else { return }
        precondition(commits[0].offset == file.nextOffset && commits[0].commitNumber == submitted.commit + 1)
        current?.nextOffset = last.offset + UInt64(last.commitLength)
        submitted = Position(commit: last.commitNumber, checksum: last.checksum, records: submitted.records + records)
        underWay += 1
    }

    /// The oldest submission is durable.
    mutating func completed(_ commits: [CommitHeader], records: UInt64) {
        guard let file = current, let last = commits.last else { return }
        precondition(underWay > 0 && commits[0].commitNumber == durable.commit + 1, "commits end in order")
        underWay -= 1
        current?.isBegun = true
        durable = Position(commit: last.commitNumber, checksum: last.checksum, records: durable.records + records)
        previous = JournalFileHeader.Previous(
            fileSequence: file.header.fileSequence, epoch: file.header.epoch,
            endOffset: last.offset + UInt64(last.commitLength), lastCommit: durable.commit,
            lastChecksum: durable.checksum)
        failuresInARow = 0
    }

    /// A write failed, and all that were under way have ended. What the disk holds behind the last durable commit is
    /// unknown and stays so.
    mutating func failed(_ error: StorageError) -> FailureAction {
        failuresInARow += 1
        current = nil
        #if Simulation
            if DeliberateBug.isActive(.countFailedCommits) { durable = submitted }
        #endif
        submitted = durable
        underWay = 0
        if failuresInARow < 2 { return .moveToFreshFile }
        let refusal = WALError.failed(error)
        self.refusal = refusal
        return .giveUp(refusal)
    }

    /// No fresh file is to be had for what was admitted: final.
    mutating func giveUp(_ error: WALError) { if refusal == nil { refusal = error } }
}
