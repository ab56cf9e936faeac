import WALFormat
import WALStorage

/// Decides what of the bytes found is the log: the decision table of SPEC.md ("Recovery"), case by case. No I/O: it is
/// handed the events of each file's scan, oldest file first.
///
/// The idea: a commit that fails its check is either torn, and was then never acknowledged, or damaged, and was. What
/// vouches for it decides: a later commit's durable-through, or the next file's header. Vouched for means damage,
/// which is reported and passed over; not vouched for means that the log ended before it.
struct RecoveryMachine {
    let chain: JournalChain
    var report: RecoveryReport
    var state = LogState()
    var files: [LiveFile] = []
    var takenFiles = 0

    /// Number that the next commit must have; 0 while nothing is known.
    var expectedCommit: UInt64 = 1
    /// Checksum that the next commit must repeat; nil where that is not known.
    var chainChecksum: UInt32?
    var recordsSoFar: UInt64 = 0
    /// Whether sequence numbers are known, so that a jump means loss.
    var knowsState = false
    /// The checkpoint of the last file that holds anything could not be read: numbers that were skipped before it, which
    /// it stated, are not known.
    var lacksCheckpoint = false
    private var hasCheckpoint = false
    /// The finding that a gap in sequence numbers belongs to.
    var openDamage: Int?
    /// Of the file that is walked, commits of numbers that were passed.
    private var passedOver: [Range<UInt64>] = []
    /// By file sequence number, the bodies of frames that fail their checks.
    var damagedFrames: [UInt64: [Range<UInt64>]] = [:]
    var lossStart = 0
    /// Bytes at the log's end that may have held records and can't be read.
    var unknownBytes: UInt64 = 0
    /// Highest commit that some later bytes say was durable.
    var durableThrough: UInt64 = 0
    var previous = JournalFileHeader.Previous()
    var isClean = true

    init(chain: JournalChain, report: RecoveryReport) {
        self.chain = chain
        self.report = report
    }

    // MARK: - A file

    /// Takes the next file of the chain: what its scan found, and which ranges the device could not read.
    mutating func take(_ scanner: JournalFileScanner, unreadable: [Range<UInt64>]) {
        let index = takenFiles
        takenFiles += 1
        hasCheckpoint = false
        let link = chain.links[index]
        let next = index + 1 < chain.links.count ? chain.links[index + 1] : nil
        report.staleCommitsSkipped += scanner.staleCommits
        report.framesNotOpened += scanner.framesNotOpened
        report.hasAnotherSecret = report.hasAnotherSecret || scanner.hasAnotherSecret
        report.count(.staleEpoch, Int(scanner.staleCommits))
        enter(link, index: index)

        var file = LiveFile(name: link.name, header: link.header, endOffset: link.header.commitsStart)
        file.latestLife = scanner.latestLife
        if link.isHeaderLost, !link.isHeadWhole, index == 0 {
            damage(&file, link.header.commitsStart..<link.firstOffset, commits: nil, unreadable: unreadable)
            file.endOffset = link.firstOffset
        }
        let seal = next.flatMap {
            $0.header.previous.fileSequence == link.header.fileSequence && !$0.isHeaderLost ? $0.header.previous : nil
        }
        // A next file without its headers tells by its first commit, if that is where a file begins; one behind a
        // missing file tells nothing about this one.
        let isFollowed = next != nil && !chain.missing.contains { $0.before == index + 1 }
        let bound: UInt64? =
            seal?.lastCommit
            ?? next.flatMap { isFollowed && $0.isHeaderLost && $0.isHeadWhole ? $0.header.firstCommit - 1 : nil }
        var vouched = bound ?? 0
        for event in scanner.events {
            switch event {
            case .commit(let commit): vouched = max(vouched, commit.header.durableThrough)
            case .headersDamaged(let header): vouched = max(vouched, header.durableThrough)
            case .unusable: continue
            }
        }
        passedOver = []
        let ended = walk(
            scanner.events, file: &file, seal: seal, bound: bound, vouched: vouched, unreadable: unreadable)
        if !ended, expectedCommit <= vouched {
            let end = seal.map { max($0.endOffset, file.endOffset) } ?? link.header.capacity
            damage(
                &file, file.endOffset..<max(end, file.endOffset + UInt64(link.header.blockSize)),
                commits: expectedCommit...vouched, unreadable: unreadable)
            expectedCommit = vouched + 1
            chainChecksum = nil
        } else if !ended, next == nil {
            settleTail(scanner.events, file: &file, unreadable: unreadable)
        }
        // Behind the end it is where the log goes on.
        file.damage += passedOver.filter { $0.lowerBound < file.endOffset }
        if link.size < link.header.capacity {
            report.note(
                .fileTruncated, link.name, link.header.fileSequence, link.size..<link.header.capacity,
                "the file has \(link.size) of \(link.header.capacity) bytes")
            isClean = false
            file.holdsLoss = true
        }
        durableThrough = max(durableThrough, vouched)
        file.vouchedEnd = Self.vouchedEnd(of: scanner.events, vouched)
        if file.holdsLoss || file.endOffset > file.header.commitsStart { lacksCheckpoint = !hasCheckpoint }
        files.append(file)
    }

    /// Where the first commit stands that nothing vouches for.
    private static func vouchedEnd(of events: [ScanEvent], _ vouched: UInt64) -> UInt64 {
        for case .commit(let commit) in events where commit.header.commitNumber > vouched {
            return commit.header.offset
        }
        return .max
    }

    /// Before a file's commits: what its header says about those before it.
    private mutating func enter(_ link: JournalChain.Link, index: Int) {
        let header = link.header
        let missing = chain.missing.filter { $0.before == index }.map(\.sequence)
        var lostWithFiles: UInt64?
        if index == 0 {
            knowsState = header.firstCommit == 1
            recordsSoFar = header.recordsBefore
        } else if header.recordsBefore > recordsSoFar, !link.isHeaderLost {
            // (Without headers it is the first commit's count, and what is missing before that is counted there.)
            let lost = header.recordsBefore - recordsSoFar
            if missing.isEmpty { addLostCount(lost) } else { lostWithFiles = lost }
            recordsSoFar = header.recordsBefore
        }
        for sequence in missing {
            report.note(
                .fileMissing, "(sequence \(sequence))", sequence, 0..<header.capacity,
                "no journal file has this sequence number",
                commits: expectedCommit <= header.previous.lastCommit && index > 0
                    ? expectedCommit...header.previous.lastCommit : nil)
            openDamage = report.findings.count - 1
        }
        if let lostWithFiles { addLostCount(lostWithFiles) }
        // Where a file's head is gone, the commits missing in it are those behind the last one known.
        if !(link.isHeaderLost && index > 0 && missing.isEmpty) { expectedCommit = header.firstCommit }
        chainChecksum = link.isHeaderLost ? nil : header.previous.lastChecksum
        if !link.isHeaderLost {
            previous = header.previous
            state.raiseSequenceFloor(to: header.sequenceFloor)
        }
    }

    /// Goes through a file's events. Returns true where the log ends inside.
    private mutating func walk(
        _ events: [ScanEvent], file: inout LiveFile, seal: JournalFileHeader.Previous?, bound: UInt64?, vouched: UInt64,
        unreadable: [Range<UInt64>]
    ) -> Bool {
        for (index, event) in events.enumerated() {
            switch event {
            case .unusable:
                continue  // what it means shows at the next commit, or at the end
            case .headersDamaged(let header):
                if let seal, header.offset >= seal.endOffset {
                    report.count(.supersededTail)
                    return expectedCommit > seal.lastCommit
                }
                guard header.commitNumber >= expectedCommit else {
                    passOver(header)
                    continue
                }
                guard vouched >= header.commitNumber else {
                    if vouched >= expectedCommit {
                        damage(
                            &file, file.endOffset..<header.offset, commits: expectedCommit...header.commitNumber - 1,
                            unreadable: unreadable)
                        countLost(upTo: header)
                        expectedCommit = header.commitNumber
                        file.endOffset = header.offset
                    }
                    return tear(
                        from: file.endOffset, events[index...], file: &file, unreadable: unreadable,
                        isFollowed: bound != nil)
                }
                let end = header.offset + UInt64(header.commitLength)
                damage(
                    &file, file.endOffset..<end, commits: expectedCommit...header.commitNumber, unreadable: unreadable)
                expectedCommit = header.commitNumber + 1
                chainChecksum = header.checksum
                file.endOffset = end
            case .commit(let commit):
                if let bound,
                    commit.header.commitNumber > bound || seal.map({ commit.header.offset >= $0.endOffset }) ?? false
                {
                    report.count(.supersededTail)
                    return expectedCommit > bound
                }
                #if Simulation
                    if DeliberateBug.isActive(.ignoreEpochs), commit.header.epoch != file.header.epoch {
                        accept(commit, file: &file, unreadable: unreadable)
                        continue
                    }
                    if DeliberateBug.isActive(.dropChainCheck), commit.isIntact {
                        accept(commit, file: &file, unreadable: unreadable)
                        continue
                    }
                #endif
                guard commit.header.commitNumber >= expectedCommit else {
                    passOver(commit.header)
                    continue
                }
                #if Simulation
                    let vouched = DeliberateBug.isActive(.acceptUnvouchedCommits) ? commit.header.commitNumber : vouched
                    if DeliberateBug.isActive(.truncateAtFirstDamage), commit.header.commitNumber > expectedCommit {
                        return tear(
                            from: file.endOffset, events[index...], file: &file, unreadable: unreadable,
                            isFollowed: bound != nil)
                    }
                #endif
                if commit.header.commitNumber == expectedCommit, let chainChecksum,
                    commit.header.previousChecksum != chainChecksum
                {
                    report.count(.chainBroken)
                    isClean = false
                    continue
                }
                if commit.header.commitNumber > expectedCommit
                    || (!commit.isIntact && vouched < commit.header.commitNumber)
                {
                    guard vouched >= expectedCommit else {
                        return tear(
                            from: file.endOffset, events[index...], file: &file, unreadable: unreadable,
                            isFollowed: bound != nil)
                    }
                    if commit.header.commitNumber > expectedCommit {
                        damage(
                            &file, file.endOffset..<commit.header.offset,
                            commits: expectedCommit...commit.header.commitNumber - 1, unreadable: unreadable)
                    }
                    if !commit.isIntact, vouched < commit.header.commitNumber {
                        countLost(upTo: commit.header)
                        expectedCommit = commit.header.commitNumber
                        return tear(
                            from: commit.header.offset, events[index...], file: &file, unreadable: unreadable,
                            isFollowed: bound != nil)
                    }
                }
                accept(commit, file: &file, unreadable: unreadable)
            }
        }
        return false
    }

    /// A commit of a number that was passed is no part of the log: nor is it for readers.
    private mutating func passOver(_ header: CommitHeader) {
        passedOver.append(header.offset..<header.offset + UInt64(header.commitLength))
    }

    private mutating func accept(_ commit: ScannedCommit, file: inout LiveFile, unreadable: [Range<UInt64>]) {
        let header = commit.header
        countLost(upTo: header)
        recordsSoFar += commit.recordCount
        report.commitsRead += 1
        report.count(.commitAccepted)
        if let fault = commit.controlFault {
            report.note(
                .frameDamaged, file.name, file.sequence, header.offset..<commit.end,
                "a control frame of commit \(header.commitNumber): \(fault)",
                commits: header.commitNumber...header.commitNumber)
            openDamage = report.findings.count - 1
            file.holdsLoss = true
            isClean = false
        }
        if header.flags.contains(.checkpoint), commit.controlFault == nil {
            applyCheckpoint(commit.control, file: file, at: header.timestamp)
        } else {
            for record in commit.control { state.apply(record, at: header.timestamp) }
        }
        report.readEncrypted = report.readEncrypted || commit.isEncrypted
        for frame in commit.frames {
            let index = state.makeIndex(of: frame.tenant)
            let next = state.tenants[index].nextSequence
            if knowsState, frame.sequences.lowerBound > next {
                lose(frame.tenant, next...frame.sequences.lowerBound - 1, file: file, offset: header.offset)
            }
            state.setNextSequence(max(next, frame.sequences.upperBound + 1), at: index)
            state.noteAppended(
                through: frame.sequences.upperBound, length: frame.rawLength, received: header.timestamp, at: index)
            if frame.isUsable {
                report.records += frame.sequences.upperBound - frame.sequences.lowerBound + 1
                file.add(tenantIndex: index, sequences: frame.sequences, offset: header.offset)
            } else {
                report.note(
                    unreadable.contains { $0.overlaps(frame.range) } ? .rangeUnreadable : .frameDamaged, file.name,
                    file.sequence, frame.range, "a frame of commit \(header.commitNumber)",
                    commits: header.commitNumber...header.commitNumber)
                let last = report.findings.count - 1
                report.findings[last].losses = [.init(tenant: frame.tenant, sequences: frame.sequences)]
                report.findings[last].recordsLost = frame.sequences.upperBound - frame.sequences.lowerBound + 1
                file.holdsLoss = true
                damagedFrames[file.sequence, default: []].append(frame.range)
            }
        }
        report.wasClosed = header.flags.contains(.closing)
        expectedCommit = header.commitNumber + 1
        chainChecksum = header.checksum
        file.endOffset = commit.end
        file.hasAcceptedCommit = true
        durableThrough = max(durableThrough, header.durableThrough)
        previous = JournalFileHeader.Previous(
            fileSequence: file.sequence, epoch: file.header.epoch, endOffset: file.endOffset,
            lastCommit: header.commitNumber, lastChecksum: header.checksum)
    }

    /// A checkpoint is authority: it heals what damage before it left unknown.
    private mutating func applyCheckpoint(_ records: [ControlRecord], file: LiveFile, at time: UInt64) {
        var jumps: [(TenantName, ClosedRange<UInt64>)] = []
        for case .tenantState(let tenant, let nextSequence, _) in records where knowsState {
            let next = state.index(of: tenant).map { state.tenants[$0].nextSequence } ?? state.sequenceFloor
            if nextSequence > next { jumps.append((tenant, next...nextSequence - 1)) }
        }
        // Numbers that were skipped after damage (`guardSequenceNumbers`) look like lost records and are none: where
        // more jumps than were lost, nobody can tell whose the lost ones were.
        let jumped = jumps.reduce(UInt64(0)) { $0.addingSaturated(UInt64($1.1.count)) }
        let lost = openDamage.flatMap { report.findings[$0].recordsLost }
        let told = openDamage.map { Self.told(report.findings[$0]) } ?? 0
        if openDamage == nil || lost.map({ jumped <= $0 - min($0, told) }) ?? false {
            for (tenant, sequences) in jumps {
                lose(tenant, sequences, file: file, offset: file.header.commitsStart)
            }
        }
        // Who is not in a checkpoint has left.
        state.forgetSubscribers()
        for record in records { state.apply(record, at: time) }
        knowsState = true
        hasCheckpoint = true
        openDamage = nil
        lossStart = report.findings.count
    }

    // MARK: - What is not as it was written

    private mutating func damage(
        _ file: inout LiveFile, _ range: Range<UInt64>, commits: ClosedRange<UInt64>?, unreadable: [Range<UInt64>]
    ) {
        let isUnreadable = unreadable.contains { $0.overlaps(range) }
        report.note(
            isUnreadable ? .rangeUnreadable : .commitsDamaged, file.name, file.sequence, range,
            isUnreadable
                ? "the device fails to read it; its commits were acknowledged"
                : "its commits were acknowledged and fail their checks",
            commits: commits)
        openDamage = report.findings.count - 1
        file.damage.append(range)
        file.holdsLoss = true
        isClean = false
    }

    private mutating func lose(
        _ tenant: TenantName, _ sequences: ClosedRange<UInt64>, file: LiveFile, offset: UInt64
    ) {
        if openDamage == nil {
            report.note(
                .sequenceGap, file.name, file.sequence, offset..<offset, "sequence numbers jump without damage")
            openDamage = report.findings.count - 1
        }
        if let openDamage { report.findings[openDamage].losses.append(.init(tenant: tenant, sequences: sequences)) }
    }

    /// The running count in a whole header tells how many records are missing before it.
    mutating func countLost(upTo header: CommitHeader) {
        guard header.recordsBefore >= recordsSoFar else { return }
        addLostCount(header.recordsBefore - recordsSoFar)
        recordsSoFar = header.recordsBefore
    }

    mutating func addLostCount(_ count: UInt64) {
        guard let openDamage else { return }
        report.findings[openDamage].recordsLost = (report.findings[openDamage].recordsLost ?? 0) + count
    }
}
