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
        var subscriberRecords: [ControlRecord] = []
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

    /// Gives acknowledgements back that a turn did not write. Under the lock.
    private func returnAcknowledgements(of turn: inout Turn) {
        guard let outcome = turn.acknowledgements else { return }
        for (key, through) in turn.cursors where !departedInFlight.contains(key.subscriber) {
            pendingCursors[key] = max(pendingCursors[key] ?? 0, through)
        }
        pendingSubscribers = turn.subscriberRecords + pendingSubscribers
        // Whoever waits for these acknowledgements waits for the next turn as well: one outcome serves both.
        outcome.continuations += acknowledgementOutcome.continuations
        acknowledgementOutcome = outcome
        inFlightAcknowledgements = nil
        turn.acknowledgements = nil
        turn.cursors = [:]
        turn.subscriberRecords = []
        turn.control = []
    }

    private func takeAcknowledgements(into turn: inout Turn) {
        guard !pendingCursors.isEmpty || !pendingSubscribers.isEmpty else { return }
        turn.cursors = pendingCursors
        turn.subscriberRecords = pendingSubscribers
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
        var turn = turn
        isCommitting = true
        departedInFlight = []
        inFlightAcknowledgements = turn.acknowledgements
        let result = write(&turn)
        finish(turn, result)
        inFlightAcknowledgements = nil
        isCommitting = false
        lastActivity = .now
        if hasStagedGroups || committerDozes { committerWake.signal() }
        wakeRoomWaiters()
    }

    // MARK: - Writing

    /// Writes a turn. What has no room is given back to the pending acknowledgements; a group, which was admitted,
    /// always has.
    private func write(_ turn: inout Turn) -> Result<Void, WALError> {
        if let group = turn.group {
            for index in 0..<group.frameCount {
                let next = state.tenants[group.frames[index].tenantIndex].nextSequence
                group.setFirstSequence(next, ofFrame: index)
            }
        }
        if let error = makeRoomForControl(&turn) { return .failure(error) }
        let control = ControlFrames(turn.control, timestamp: wallClockNanoseconds())
        let lengths = Lengths(turn.group, control, blockSize: format.blockSize)
        var needsFreshFile = turn.forcesFreshFile
        while true {
            if isStopped || refusal != nil { return .failure(refusal ?? .closed) }
            let capacity = machine.current?.header.capacity ?? options.journalFileSize
            let decision =
                needsFreshFile
                ? .needsFile
                : machine.decide(bound: lengths.bound, lead: checkpointLengthBound(), usableEnd: capacity)
            switch decision {
            case .refused(let error):
                if turn.group != nil { machine.giveUp(error) } else { _ = block(&turn) }
                return .failure(error)
            case .needsFile:
                needsFreshFile = false
                if let error = beginFreshFile() {
                    if turn.group != nil { machine.giveUp(error) } else { _ = block(&turn) }
                    return .failure(error)
                }
            case .write(let placement, let beginsFile):
                let checkpoint = beginsFile ? state.checkpoint() : []
                lock.unlock()
                let outcome = encodeAndWrite(
                    turn, control: control, checkpoint: checkpoint, placement: placement, lengths: lengths)
                lock.lock()
                switch outcome {
                case .success(let commits):
                    publish(turn, commits: commits, began: beginsFile)
                    return .success(())
                case .failure(let error):
                    statistics.failedWrites += 1
                    logLater(
                        .error, "write failed; the file is sealed and the commit goes to a fresh one",
                        ["error": "\(error)", "commit": "\(placement.commitNumber)"])
                    abandonCurrentFile(begun: !beginsFile)
                    if case .giveUp(let refusal) = machine.failed(error) { return .failure(refusal) }
                }
            }
        }
    }

    /// What a turn takes on disk.
    private struct Lengths {
        var frameHeaders: Int
        var raw: Int
        var frameCount: Int
        /// Upper bound of the commit's length.
        var bound: Int

        init(_ group: StagedGroup?, _ control: ControlFrames, blockSize: Int) {
            frameHeaders = (group?.frameHeadersLength ?? 0) + control.headersLength
            raw = (group?.rawLength ?? 0) + control.rawLength
            frameCount = (group?.frameCount ?? 0) + control.frames.count
            bound = (CommitHeader.length + frameHeaders + raw).roundedUp(toMultipleOf: blockSize)
        }
    }

    /// Sees to it that control records take no room that is not theirs: riding on a group they may use what appends
    /// leave, and alone they may take the last spare file only where that frees another. Returns an error where a turn
    /// without a group has no room. Under the lock.
    private func makeRoomForControl(_ turn: inout Turn) -> WALError? {
        let control = ControlFrames(turn.control, timestamp: 0)
        let together = Lengths(turn.group, control, blockSize: format.blockSize).bound
        guard let current = machine.current, current.isBegun else {
            return turn.group == nil ? makeRoomInSpares(&turn) : nil
        }
        let left = Int(current.header.capacity - current.nextOffset)
        if let group = turn.group {
            let alone = group.worstLength(blockSize: format.blockSize)
            let reserve = Self.reserve(ofFileSize: Int(current.header.capacity))
            // The group goes where admission saw it go; its passengers must not push it into another file.
            if alone <= left - reserve {
                if together > left { returnAcknowledgements(of: &turn) }
            } else {
                turn.forcesFreshFile = true
                let room = Int(options.journalFileSize) - fileStartBound()
                if together > room { returnAcknowledgements(of: &turn) }
            }
            return nil
        }
        return together <= left && !turn.forcesFreshFile ? nil : makeRoomInSpares(&turn)
    }

    private func makeRoomInSpares(_ turn: inout Turn) -> WALError? {
        while spares.count < 2, preparerHasWork {
            preparerWake.signal()
            roomCondition.wait(lock)
        }
        if spares.count >= 2 { return nil }
        return spares.isEmpty || !freesAFile(turn) ? block(&turn) : nil
    }

    private func block(_ turn: inout Turn) -> WALError {
        returnAcknowledgements(of: &turn)
        controlIsBlocked = true
        return preparerFailure ?? .journalFull(reason: "no spare file is left to acknowledgements that free none")
    }

    /// Whether the oldest file is delivered once the turn's cursors are written. Under the lock.
    private func freesAFile(_ turn: Turn) -> Bool {
        var after = state
        for record in turn.control { after.apply(record) }
        return files.first.map { $0.pins == 0 && $0.isDelivered(in: after) } ?? false
    }

    /// Takes a spare file as the current one. Under the lock. Returns an error where there is none and none can be
    /// made.
    private func beginFreshFile() -> WALError? {
        while spares.isEmpty {
            if isStopped { return refusal ?? .closed }
            if !preparerHasWork { return preparerFailure ?? .journalFull(reason: "no spare file") }
            preparerWake.signal()
            roomCondition.wait(lock)
        }
        if options.durability == .processCrash, let file = currentFile {
            // The next file's header vouches for this one's commits: they must be there first.
            lock.unlock()
            let flushed: StorageError?
            do throws(StorageError) {
                try file.synchronize()
                flushed = nil
            } catch { flushed = error }
            lock.lock()
            if let flushed { return .storage(flushed) }
        }
        reclaim()
        // A file that the present header still counts as live is taken last: should its new life's first write be
        // torn, the present header would miss it.
        let spare = spares.remove(at: spares.firstIndex { !keptUntilRotation.contains($0.name) } ?? 0)
        admission.spares = spares.count
        beginningLength = options.journalFileSize
        let oldest = files.first { $0.holdsLoss || !mayLeave($0) }
        _ = machine.begin(
            file: spare.name, logIdentifier: format.logIdentifier,
            epoch: UInt64.random(in: 1 ... .max, using: &generator), capacity: options.journalFileSize,
            blockSize: format.blockSize, created: wallClockNanoseconds(), oldestLiveFileSequence: oldest?.sequence)
        currentFile = spare.file
        return nil
    }

    /// Role only, without the lock.
    private func encodeAndWrite(
        _ turn: Turn, control: ControlFrames, checkpoint: [ControlRecord], placement: CommitPlacement,
        lengths: Lengths
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
                        frameHeadersLength: lengths.frameHeaders, rawLengths: lengths.raw,
                        frameCount: lengths.frameCount, blockSize: blockSize), keeping: start)
            commits.append(
                try encode(
                    control, group: turn.group, at: start, frameHeadersLength: lengths.frameHeaders,
                    rawLength: lengths.raw, placement: placement, timestamp: timestamp, flags: turn.flags))
        } catch {
            preconditionFailure("encoding cannot fail with a buffer of its bound: \(error)")
        }
        let length = start + commits[commits.count - 1].commitLength
        precondition(fileOffset + UInt64(length) <= current.header.capacity, "a commit never passes its file's end")
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
            beginningLength = 0
            keptUntilRotation = []
            retired += retiredLater
            retiredLater = []
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
        // Subscribers were applied when they came and went; only cursors wait for the disk.
        for record in turn.control {
            if case .cursor(let subscriber, _, _) = record, !departedInFlight.contains(subscriber) {
                state.apply(record)
            }
        }
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
        if refusal == nil, let final = machine.refusal {
            refusal = final
            logLater(.critical, "the log refuses appends until it is opened again", ["error": "\(final)"])
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

    private var acknowledgementsFreeAFile: Bool {
        var turn = Turn()
        turn.control = pendingCursors.map {
            .cursor(
                subscriber: $0.key.subscriber, tenant: state.tenants[$0.key.tenantIndex].name,
                acknowledgedThrough: $0.value)
        }
        return freesAFile(turn)
    }

    private var hasIdleWork: Bool {
        guard refusal == nil, !controlIsBlocked else { return false }
        if needsWatermark || !pendingSubscribers.isEmpty { return true }
        // While no file can be made, room goes to acknowledgements that were asked to be written, or that free some.
        return !pendingCursors.isEmpty && (preparerFailure == nil || acknowledgementsFreeAFile)
    }
}
