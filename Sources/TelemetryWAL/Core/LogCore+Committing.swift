import Logging
import WALFormat
import WALStorage

extension LogCore {
    /// What one turn of the committer writes.
    private struct Turn {
        var group: StagedGroup?
        var groupNumber: UInt64 = 0
        var control: [ControlRecord] = []
        var cursors: [CursorKey: UInt64] = [:]
        var acknowledgements: CommitOutcome?
        var flags: CommitHeader.Flags = []
        /// Begin a fresh file even though the present one has room.
        var forcesFreshFile = false
    }

    /// Takes the role, commits the next group, gives the role back and wakes whom it concerns. Called and returns
    /// under the lock, which is given up meanwhile. There must be a group, and nobody may hold the role.
    func commitNextGroupHoldingLock() {
        if closedGroups.isEmpty { closeOpenGroup() }
        let (group, number, worst) = closedGroups.removeFirst()
        inFlightWorstLength = worst
        var turn = Turn(group: group, groupNumber: number)
        takeAcknowledgements(into: &turn)
        perform(turn)
    }

    /// Commits what has no group to ride on: acknowledgements, the watermark, the mark of a clean close. The same
    /// about lock and role.
    func commitControlHoldingLock(closing: Bool = false, freshFile: Bool = false) {
        var turn = Turn(forcesFreshFile: freshFile)
        turn.flags = closing ? [.watermark, .closing] : .watermark
        takeAcknowledgements(into: &turn)
        if turn.control.isEmpty { turn.control = [.watermark(durableThrough: durableThrough)] }
        perform(turn)
    }

    private func takeAcknowledgements(into turn: inout Turn) {
        guard !pendingCursors.isEmpty || !pendingSubscribers.isEmpty else { return }
        turn.cursors = pendingCursors
        turn.control = pendingSubscribers
        for (key, through) in pendingCursors where state.cursors[key.subscriber] != nil {
            turn.control.append(
                .cursor(
                    subscriber: key.subscriber, tenant: state.tenants[key.tenantIndex].name,
                    acknowledgedThrough: through))
        }
        turn.acknowledgements = acknowledgementOutcome
        acknowledgementOutcome = CommitOutcome()
        pendingCursors = [:]
        pendingSubscribers = []
    }

    private func perform(_ turn: Turn) {
        isCommitting = true
        let result = write(turn)
        finish(turn, result)
        isCommitting = false
        lastActivity = .now
        if hasStagedGroups || committerDozes { committerWake.signal() }
        wakeRoomWaiters()
    }

    // MARK: - Writing

    private func write(_ turn: Turn) -> Result<Void, WALError> {
        if let group = turn.group {
            for index in 0..<group.frameCount {
                let next = state.tenants[group.frames[index].tenantIndex].nextSequence
                group.setFirstSequence(next, ofFrame: index)
            }
        }
        let control = ControlFrames(turn.control, timestamp: wallClockNanoseconds())
        let rawLength = (turn.group?.rawLength ?? 0) + control.rawLength
        let frameHeadersLength = (turn.group?.frameHeadersLength ?? 0) + control.headersLength
        let frameCount = (turn.group?.frameCount ?? 0) + control.frames.count
        let bound = (CommitHeader.length + frameHeadersLength + rawLength)
            .roundedUp(toMultipleOf: format.blockSize)
        var needsFreshFile = turn.forcesFreshFile
        while true {
            let capacity = machine.current?.header.capacity ?? options.journalFileSize
            let reserve = turn.group == nil ? 0 : UInt64(Self.reserve(ofFileSize: Int(capacity)))
            let decision = needsFreshFile
                ? .needsFile
                : machine.decide(bound: bound, lead: checkpointLengthBound(), usableEnd: capacity - reserve)
            switch decision {
            case .refused(let error): return .failure(error)
            case .needsFile:
                needsFreshFile = false
                if let error = beginFreshFile() {
                    machine.giveUp(error)
                    return .failure(error)
                }
            case .write(let placement, let beginsFile):
                let checkpoint = beginsFile ? state.checkpoint() : []
                lock.unlock()
                let outcome = encodeAndWrite(
                    turn, control: control, checkpoint: checkpoint, placement: placement,
                    frameHeadersLength: frameHeadersLength, rawLength: rawLength, frameCount: frameCount)
                lock.lock()
                switch outcome {
                case .success(let commits):
                    publish(turn, commits: commits, began: beginsFile)
                    return .success(())
                case .failure(let error):
                    statistics.failedWrites += 1
                    logger.error(
                        "write failed; the file is sealed and the commit goes to a fresh one",
                        metadata: ["error": "\(error)", "commit": "\(placement.commitNumber)"])
                    abandonCurrentFile(begun: !beginsFile)
                    if case .giveUp(let refusal) = machine.failed(error) { return .failure(refusal) }
                }
            }
        }
    }

    /// Takes the next spare file as the current one. Under the lock. Returns an error where there is none and none
    /// can be made.
    private func beginFreshFile() -> WALError? {
        while spares.isEmpty {
            if !preparerHasWork { return preparerFailure ?? .journalFull(reason: "no spare file") }
            preparerWake.signal()
            roomCondition.wait(lock)
        }
        reclaim()
        let spare = spares.removeFirst()
        admission.spares = spares.count
        let oldest = files.first { !$0.extents.isEmpty && !$0.isDelivered(in: state) }?.sequence
        _ = machine.begin(
            file: spare.name, logIdentifier: format.logIdentifier, epoch: UInt64.random(in: 1 ... .max, using: &generator),
            capacity: options.journalFileSize, blockSize: format.blockSize, created: wallClockNanoseconds(),
            oldestLiveFileSequence: oldest ?? files.first { $0.pins > 0 }?.sequence)
        currentFile = spare.file
        preparerWake.signal()
        return nil
    }

    /// Role only, without the lock.
    private func encodeAndWrite(
        _ turn: Turn, control: ControlFrames, checkpoint: [ControlRecord], placement: CommitPlacement,
        frameHeadersLength: Int, rawLength: Int, frameCount: Int
    ) -> Result<[CommitHeader], StorageError> {
        guard let file = currentFile, let current = machine.current else { preconditionFailure("no current file") }
        let blockSize = format.blockSize
        var placement = placement
        var commits: [CommitHeader] = []
        var start = 0
        var fileOffset = placement.offset
        let timestamp = wallClockNanoseconds()
        do throws(FormatError) {
            if !checkpoint.isEmpty {
                let frames = ControlFrames(checkpoint, timestamp: timestamp)
                start = FormatLimits.headerCopies * blockSize
                fileOffset = 0
                buffer.reserve(
                    start
                        + CommitEncoder.bound(
                            frameHeadersLength: frames.headersLength, rawLengths: frames.rawLength,
                            frameCount: frames.frames.count, blockSize: blockSize))
                buffer.withMutableBytes { current.header.encode(into: &$0, at: 0) }
                let header = try encode(
                    frames, group: nil, at: start, frameHeadersLength: frames.headersLength,
                    rawLength: frames.rawLength, placement: placement, timestamp: timestamp, flags: .checkpoint)
                commits.append(header)
                start += header.commitLength
                placement.offset += UInt64(header.commitLength)
                placement.commitNumber += 1
                placement.previousChecksum = header.checksum
            }
            buffer.reserve(
                start
                    + CommitEncoder.bound(
                        frameHeadersLength: frameHeadersLength, rawLengths: rawLength, frameCount: frameCount,
                        blockSize: blockSize), keeping: start)
            commits.append(
                try encode(
                    control, group: turn.group, at: start, frameHeadersLength: frameHeadersLength,
                    rawLength: rawLength, placement: placement, timestamp: timestamp, flags: turn.flags))
        } catch {
            preconditionFailure("encoding cannot fail with a buffer of its bound: \(error)")
        }
        let length = start + commits[commits.count - 1].commitLength
        do throws(StorageError) {
            try file.write(buffer, at: 0, length: length, to: fileOffset, durability: options.durability)
            return .success(commits)
        } catch { return .failure(error) }
    }

    private func encode(
        _ control: ControlFrames, group: StagedGroup?, at base: Int, frameHeadersLength: Int, rawLength: Int,
        placement: CommitPlacement, timestamp: UInt64, flags: CommitHeader.Flags
    ) throws(FormatError) -> CommitHeader {
        var encoder = CommitEncoder(
            at: base, blockSize: format.blockSize, frameHeadersLength: frameHeadersLength, rawLengths: rawLength)
        return try buffer.withMutableBytes { (bytes: inout MutableRawSpan) throws(FormatError) in
            for (header, body) in control.frames {
                try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                    try encoder.add(header, rawBody: raw, into: &bytes, compressor: compressor)
                }
            }
            if let group {
                for index in 0..<group.frameCount {
                    let frame = group.frames[index]
                    let header = FrameHeader(
                        tenant: frame.tenant, kinds: frame.kinds, codec: .raw, firstSequence: frame.firstSequence,
                        recordCount: frame.recordCount, storedLength: 0, rawLength: 0, bodyChecksum: 0,
                        lowestTimestamp: frame.lowestTimestamp, highestTimestamp: frame.highestTimestamp)
                    try frame.body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                        try encoder.add(header, rawBody: raw, into: &bytes, compressor: compressor)
                    }
                }
            }
            return encoder.finish(placement, timestamp: timestamp, flags: flags, into: &bytes)
        }
    }

    // MARK: - Afterwards, under the lock

    /// The commits are durable: the log's state moves on.
    private func publish(_ turn: Turn, commits: [CommitHeader], began: Bool) {
        let records = UInt64(turn.group?.recordCount ?? 0)
        machine.completed(commits, records: records)
        guard let current = machine.current, let last = commits.last else { return }
        if began {
            files.append(LiveFile(name: current.name, header: current.header, endOffset: current.nextOffset))
            keptUntilRotation = []
            recycled += recycledLater
            recycledLater = []
            preparerWake.signal()
        }
        let file = files.count - 1
        files[file].endOffset = current.nextOffset
        if let group = turn.group {
            for index in 0..<group.frameCount {
                let frame = group.frames[index]
                let sequences = frame.firstSequence...frame.firstSequence + UInt64(frame.recordCount) - 1
                state.setNextSequence(sequences.upperBound + 1, at: frame.tenantIndex)
                files[file].add(tenantIndex: frame.tenantIndex, sequences: sequences, offset: last.offset)
            }
        }
        for record in turn.control { state.apply(record) }
        durableThrough = last.commitNumber
        needsWatermark = turn.group != nil
        admission.offset =
            current.header.capacity == options.journalFileSize ? Int(current.nextOffset) : Int(options.journalFileSize)
        if began { admission.fileStart = fileStartBound() }
        statistics.commits += UInt64(commits.count)
        statistics.records += records
        statistics.bytesWritten += commits.reduce(0) { $0 + UInt64($1.commitLength) }
        if began || !turn.control.isEmpty { reclaim() }
    }

    /// Tells everyone who waits for this turn how it went.
    private func finish(_ turn: Turn, _ result: Result<Void, WALError>) {
        if case .failure(let error) = result, refusal == nil {
            refusal = error
            logger.critical("the log refuses appends until it is opened again", metadata: ["error": "\(error)"])
        }
        inFlightWorstLength = nil
        if let acknowledgements = turn.acknowledgements {
            settle(acknowledgements, result)
            outcomeConditions.forEach { $0.broadcast() }
        }
        if let group = turn.group {
            if case .success = result {
                group.outcome.firstSequences = (0..<group.frameCount).map { group.frames[$0].firstSequence }
            }
            stagedBytes -= group.rawLength
            settle(group.outcome, result)
            outcomeConditions[Int(turn.groupNumber & 1)].broadcast()
            group.reset()
            if groupPool.count < 4 { groupPool.append(group) }
        }
        guard let refusal else { return }
        // What waited behind the failed commit cannot become durable either.
        if !openGroup.isEmpty { closeOpenGroup() }
        for (group, number, _) in closedGroups {
            stagedBytes -= group.rawLength
            settle(group.outcome, .failure(refusal))
            outcomeConditions[Int(number & 1)].broadcast()
        }
        closedGroups = []
        settle(acknowledgementOutcome, .failure(refusal))
        outcomeConditions.forEach { $0.broadcast() }
    }

    private func settle(_ outcome: CommitOutcome, _ result: Result<Void, WALError>) {
        outcome.result = result
        let continuations = outcome.continuations
        outcome.continuations = []
        for continuation in continuations { continuation.resume() }
    }

    // MARK: - The committer's thread

    /// Commits what is staged while nobody else does; when idle, writes acknowledgements and the watermark.
    func runCommitter() {
        lock.lock()
        defer { lock.unlock() }
        let idle = UInt64(options.idleMilliseconds) * 1_000_000
        while !isStopped {
            if isCommitting {
                committerWake.wait(lock, until: .now + idle)
            } else if hasStagedGroups, refusal == nil {
                commitNextGroupHoldingLock()
            } else if wantsRotation, refusal == nil {
                wantsRotation = false
                rotateIfThatFreesAFile()
            } else if hasIdleWork {
                if MonotonicTime.now.since(lastActivity) >= idle {
                    commitControlHoldingLock()
                } else {
                    committerWake.wait(lock, until: lastActivity + idle)
                }
            } else {
                committerDozes = true
                committerWake.wait(lock)
                committerDozes = false
            }
        }
    }

    private var hasIdleWork: Bool {
        refusal == nil && (needsWatermark || !pendingCursors.isEmpty || !pendingSubscribers.isEmpty)
    }
}
