import Logging
import WALFormat
import WALStorage

extension LogCore {
    /// What one turn of the committer writes.
    struct Turn {
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
        let (group, number, _) = closedGroups.removeFirst()
        var turn = Turn(group: group, groupNumber: number)
        takeAcknowledgements(into: &turn)
        perform(turn)
    }

    /// Commits what has no group to ride on: acknowledgements, the watermark, the mark of a clean close. The same
    /// about lock and role.
    @discardableResult
    func commitControlHoldingLock(closing: Bool = false, freshFile: Bool = false) -> Result<Void, WALError> {
        var turn = Turn(forcesFreshFile: freshFile)
        turn.flags = closing ? [.watermark, .closing] : .watermark
        takeAcknowledgements(into: &turn)
        if turn.control.isEmpty { turn.control = [.watermark(durableThrough: durableThrough)] }
        return perform(turn)
    }

    /// Gives acknowledgements back that a turn did not write. Under the lock.
    func returnAcknowledgements(of turn: inout Turn) {
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

    @discardableResult
    private func perform(_ turn: Turn) -> Result<Void, WALError> {
        var turn = turn
        isCommitting = true
        // With its passengers: admission must not place others where these go.
        inFlightWorstLength =
            Lengths(
                turn.group, ControlFrames(turn.control, timestamp: 0), blockSize: format.blockSize
            ).bound
        departedInFlight = []
        inFlightAcknowledgements = turn.acknowledgements
        let result = write(&turn)
        finish(turn, result)
        inFlightAcknowledgements = nil
        isCommitting = false
        lastActivity = .now
        if hasStagedGroups || committerDozes { committerWake.signal() }
        wakeRoomWaiters()
        return result
    }

    // MARK: - Afterwards, under the lock

    /// The commits are durable: the log's state moves on.
    func publish(_ turn: Turn, commits: [CommitHeader], began: Bool) {
        let records = UInt64(turn.group?.recordCount ?? 0)
        machine.completed(commits, records: records)
        guard let current = machine.current, let last = commits.last else { return }
        if began {
            files.append(LiveFile(name: current.name, header: current.header, endOffset: current.nextOffset))
            beginningLength = 0
            keptUntilRotation = keptUntilRotation.filter { $0.value >= current.header.oldestLiveFileSequence }
            sealedFile = nil
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
