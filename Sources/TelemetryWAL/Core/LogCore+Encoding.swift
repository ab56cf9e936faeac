import Logging
import WALFormat
import WALStorage

/// From what is staged to bytes with a place: which turn is next, room for it, and its encoding.
extension LogCore {
    enum Encoding {
        /// To be written to the current file, then ended by `end`.
        case encoded(CommitSlot)
        /// Nothing was taken: what is under way has to end first.
        case mustDrain
        /// Nothing was encoded; who waited for a group has been told.
        case failed(WALError)
        /// A write under way failed meanwhile: the turn is repeated behind those that were before it.
        case postponed
    }

    /// Takes the oldest group, with the acknowledgements that wait, and encodes it. Under the lock, which is given up
    /// meanwhile. Nobody may be encoding, and there must be a group.
    func encodeNextGroup() -> Encoding {
        if mustDrain { return .mustDrain }
        if let turn = turnsToRepeat.first {
            turnsToRepeat.removeFirst()
            return encode(turn, isRepeated: true)
        }
        var turn = Turn(group: takeOldestGroup())
        takeAcknowledgements(into: &turn)
        return encode(turn)
    }

    /// Commits what has no group to ride on, on the calling thread: acknowledgements, the watermark, the mark of a
    /// clean close. Under the lock, which is given up meanwhile. Nothing may be under way.
    @discardableResult
    func commitControl(closing: Bool = false, freshFile: Bool = false) -> Result<Void, WALError> {
        precondition(!isEncoding && slotsUnderWay.isEmpty)
        if hasClosingMark, !closing { return .failure(.closed) }
        var turn = Turn(forcesFreshFile: freshFile)
        turn.flags = closing ? [.watermark, .closing] : .watermark
        takeAcknowledgements(into: &turn)
        if turn.control.isEmpty { turn.control = [.watermark(durableThrough: durableThrough)] }
        controlFailure = nil
        switch encode(turn) {
        case .encoded(let slot): writeHere(slot)
        case .failed(let error):
            // Others may have staged meanwhile, or wait for this turn to end.
            wakeRoomWaiters()
            leaveToCommitter()
            return .failure(error)
        case .mustDrain, .postponed: preconditionFailure("nothing is under way")
        }
        // Should the write have failed, it goes to a fresh file.
        while refusal == nil, !turnsToRepeat.isEmpty, mayLead { lead() }
        leaveToCommitter()
        return (refusal ?? controlFailure).map { .failure($0) } ?? .success(())
    }

    /// Whether the next group goes where it can only go when nothing is under way: into a fresh file. Under the lock.
    private var mustDrain: Bool {
        if slotsUnderWay.isEmpty { return false }
        guard let current = machine.current, current.isBegun, turnsToRepeat.isEmpty else { return true }
        let group = closedGroups.first ?? openGroup
        let end = Int(current.nextOffset) + group.worstLength(blockSize: format.blockSize)
        return end > Int(current.header.capacity) - Self.reserve(ofFileSize: Int(current.header.capacity))
    }

    // MARK: - Acknowledgements

    /// Whether control records wait to be written. Under the lock.
    var hasPendingControl: Bool {
        !pendingCursors.isEmpty || !pendingSubscribers.isEmpty || !pendingErasures.isEmpty
            || !retention.unwritten.isEmpty
    }

    private func takeAcknowledgements(into turn: inout Turn) {
        guard hasPendingControl else { return }
        acknowledgementsTaken += 1
        turn.cursors = pendingCursors
        turn.subscriberRecords = pendingSubscribers
        turn.control = pendingSubscribers
        for (key, through) in pendingCursors where state.cursors[key.subscriber] != nil {
            turn.control.append(
                .cursor(
                    subscriber: key.subscriber, tenant: state.tenants[key.tenantIndex].name,
                    acknowledgedThrough: through))
        }
        pendingCursors = [:]
        pendingSubscribers = []
        let (keys, records) = retention.takeUnwritten(in: state)
        turn.drops = keys
        if !keys.isEmpty { refusalsTaken = .now }
        turn.control += records
        turn.erasures = pendingErasures
        turn.control += erasureRecords(pendingErasures)
        pendingErasures = [:]
        turn.acknowledgementNumber = acknowledgementsTaken
    }

    /// Gives acknowledgements back that a turn does not write. Under the lock.
    private func returnAcknowledgements(of turn: inout Turn) {
        guard turn.acknowledgementNumber != 0 else { return }
        let departed = turn.departed.union(encodingTurn?.departed ?? [])
        for (key, through) in turn.cursors where !departed.contains(key.subscriber) {
            pendingCursors[key] = max(pendingCursors[key] ?? 0, through)
        }
        pendingSubscribers = turn.subscriberRecords + pendingSubscribers
        retention.giveBack(turn.drops)
        for (index, erasure) in turn.erasures { addPendingErasure(erasure, ofTenant: index) }
        if turn.acknowledgementNumber == acknowledgementsTaken {
            acknowledgementsTaken -= 1
        } else {
            // A repeated turn, with a later one beside it: whoever flushes must wait for the next taking.
            acknowledgementsReturned += 1
        }
        turn.acknowledgementNumber = 0
        turn.cursors = [:]
        turn.subscriberRecords = []
        turn.drops = []
        turn.erasures = [:]
        turn.control = []
    }

    // MARK: - A turn

    /// Encodes a turn. What has no room is given back to the pending acknowledgements; a group, which was admitted,
    /// always has.
    private func encode(_ taken: Turn, isRepeated: Bool = false) -> Encoding {
        var turn = taken
        isEncoding = true
        encodingTurn = turn
        // With its passengers: admission must not place others where these go.
        encodingWorstLength =
            CommitAssembler.Lengths(
                turn.group, ControlFrames(turn.control, timestamp: 0), blockSize: format.blockSize
            ).bound
        admittedLength = 0
        defer {
            isEncoding = false
            encodingTurn = nil
            encodingWorstLength = nil
            admittedLength = 0
        }
        if !isRepeated, let error = makeRoomForControl(&turn) { return .failed(error) }
        let control = ControlFrames(turn.control, timestamp: wallClockNanoseconds())
        let lengths = CommitAssembler.Lengths(turn.group, control, blockSize: format.blockSize)
        var needsFreshFile = turn.forcesFreshFile && !isRepeated
        while true {
            if isStopped || refusal != nil { return fail(turn, refusal ?? .closed) }
            let capacity = machine.current?.header.capacity ?? options.journalFileSize
            let decision =
                needsFreshFile
                ? .needsFile
                : machine.decide(bound: lengths.bound, lead: checkpointLengthBound(), usableEnd: capacity)
            switch decision {
            case .mustDrain: preconditionFailure("what is under way was waited for")
            case .refused(let error): return fail(turn, error)
            case .needsFile:
                needsFreshFile = false
                if let error = beginFreshFile(bound: lengths.bound, hasGroup: turn.group != nil) {
                    return fail(turn, error)
                }
            case .write(let placement, let beginsFile):
                let lead = beginsFile ? UInt64(checkpointLengthBound()) : 0
                let end = placement.offset + lead + UInt64(lengths.bound)
                if let closedRange, placement.offset < closedRange.upperBound, closedRange.lowerBound < end {
                    roomCondition.wait(lock)
                    continue
                }
                placedEnd = end
                defer {
                    placedEnd = nil
                    if closedRange != nil { roomCondition.broadcast() }
                }
                guard let slot = freeSlots.popLast(), let current = machine.current else {
                    preconditionFailure("a slot is free while fewer than the most are under way")
                }
                slot.turn = turn
                let order = CommitAssembler.Order(
                    placement: placement, beginning: beginsFile ? (current.header, state.checkpoint()) : nil,
                    compresses: compresses(lengths))
                lock.unlock()
                if turn.group?.isEncrypted ?? false { markEncrypted() }
                assembler.assemble(slot, control: control, lengths: lengths, order)
                lock.lock()
                precondition(
                    slot.offset + UInt64(slot.length) <= current.header.capacity, "a commit never passes its file's end"
                )
                if let departed = encodingTurn?.departed { slot.turn.departed.formUnion(departed) }
                if hasFailedWrite {
                    // It was encoded for a file that takes no more.
                    turnsToRepeat.append(slot.turn)
                    release(slot)
                    moveToFreshFileIfDrained()
                    return .postponed
                }
                machine.submit(slot.commits, records: UInt64(turn.group?.recordCount ?? 0))
                slotsUnderWay.append(slot)
                admission.offset =
                    capacity == options.journalFileSize
                    ? Int(slot.offset) + slot.length : Int(options.journalFileSize)
                if beginsFile { admission.fileStart = fileStartBound() }
                return .encoded(slot)
            }
        }
    }

    /// Says in `FORMAT` that the log is encrypted. Under the lock or without it.
    func markEncrypted() {
        guard let error = encryptionMark.set() else { return }
        logLater(
            .error, "FORMAT cannot say that the log is encrypted: who opens it without keys may append in the open",
            ["error": "\(error)"])
    }

    /// Whether a commit is compressed. By itself in the shadow of another's I/O only, where the time it takes delays
    /// nobody, and not when encoding is what everything waits for. Under the lock.
    private func compresses(_ lengths: CommitAssembler.Lengths) -> Bool {
        switch options.compression {
        case .always: true
        case .never: false
        case .automatic:
            !slotsUnderWay.isEmpty && closedGroups.isEmpty && lengths.raw >= Self.shortestCompressedByItself
        }
    }

    /// Bytes of a commit that is worth compressing where nobody asked for it.
    private static var shortestCompressedByItself: Int { 64 << 10 }

    /// A turn that cannot be written. A group's records were admitted: the log takes no more. Acknowledgements alone
    /// wait for better times.
    private func fail(_ turn: Turn, _ error: WALError) -> Encoding {
        var turn = turn
        if let group = turn.group {
            endUnwritten(group)
            if refusal == nil { machine.giveUp(error) }
            refuseIfFinal()
        } else {
            controlFailure = error
            _ = block(&turn)
            // Who waits for this turn to end is not told otherwise where it was the committer's.
            wakeRoomWaiters()
        }
        return .failed(error)
    }

    // MARK: - Room

    /// Sees to it that control records take no room that is not theirs: riding on a group they may use what appends
    /// leave, and alone they may take the last spare file only where that frees another. Returns an error where a turn
    /// without a group has no room. Under the lock.
    private func makeRoomForControl(_ turn: inout Turn) -> WALError? {
        let control = ControlFrames(turn.control, timestamp: 0)
        let together = CommitAssembler.Lengths(turn.group, control, blockSize: format.blockSize).bound
        guard let current = machine.current, current.isBegun else {
            return turn.group == nil ? makeRoomInSpares(&turn) : nil
        }
        let left = Int(current.header.capacity - current.nextOffset)
        if let group = turn.group {
            let alone = group.worstLength(blockSize: format.blockSize)
            let reserve = Self.reserve(ofFileSize: Int(current.header.capacity))
            // The group goes where admission saw it go; its passengers must not push it into another file, nor, where
            // no further file can be had, any of those behind it.
            let isScarce = regularSpareCount < 2 && !preparerHasWork
            if alone <= left - reserve {
                if together + (isScarce ? waitingLength : 0) > left { returnAcknowledgements(of: &turn) }
            } else if alone <= left, isScarce {
                // Admitted, and no file left: better into the reserve than into a refusal.
                returnAcknowledgements(of: &turn)
            } else {
                turn.forcesFreshFile = true
                let room = Int(options.journalFileSize) - fileStartBound()
                if together > room { returnAcknowledgements(of: &turn) }
            }
            return nil
        }
        return together <= left && !turn.forcesFreshFile ? nil : makeRoomInSpares(&turn)
    }

    /// Upper bound of what the groups that wait will take. Under the lock.
    private var waitingLength: Int {
        closedGroups.reduce(openGroup.isEmpty ? 0 : openGroup.worstLength(blockSize: format.blockSize)) {
            $0 + $1.worstLength(blockSize: format.blockSize)
        }
    }

    private func makeRoomInSpares(_ turn: inout Turn) -> WALError? {
        let control = ControlFrames(turn.control, timestamp: 0)
        let bound = CommitAssembler.Lengths(nil, control, blockSize: format.blockSize).bound
        var count: Int { spares.count { takes($0, bound: bound) } }
        while count < 2, preparerHasWork {
            hurryPreparer()
            roomCondition.wait(lock)
        }
        if count >= 2 { return nil }
        return count == 0 || !freesAFile(turn) ? block(&turn) : nil
    }

    private func block(_ turn: inout Turn) -> WALError {
        returnAcknowledgements(of: &turn)
        controlIsBlocked = true
        return preparerFailure ?? .journalFull(reason: "no spare file is left to acknowledgements that free none")
    }

    /// Whether the oldest file is delivered once the turn's cursors are written. Under the lock.
    func freesAFile(_ turn: Turn) -> Bool {
        var after = state
        for record in turn.control { after.apply(record) }
        guard !mayLackSubscribers, let oldest = files.first else { return false }
        return !oldest.holdsLoss && oldest.isSettled(in: after)
    }

    /// Whether a spare takes a checkpoint and a commit of at most `bound` bytes. One of the right size does. Under the
    /// lock.
    private func takes(_ spare: SpareFile, bound: Int) -> Bool {
        spare.capacity == options.journalFileSize || Int(spare.capacity) >= fileStartBound() + bound
    }

    /// Which spare is to be begun next, for a commit of at most `bound` bytes; nil if there is none for it. Groups were
    /// admitted to files of the right size; another one serves where there is none. What has no group leaves the last
    /// of these to them, but does not move on to another from a file that groups were admitted to which wait. Under the
    /// lock.
    private func nextSpare(bound: Int, hasGroup: Bool) -> Int? {
        // A file that the present header still counts as live is taken last: should its new life's first write be
        // torn, the present header would miss it.
        func first(_ isMeant: (SpareFile) -> Bool) -> Int? {
            spares.firstIndex { isMeant($0) && keptUntilRotation[$0.name] == nil } ?? spares.firstIndex(where: isMeant)
        }
        let isRegular = { [size = options.journalFileSize] (spare: SpareFile) in spare.capacity == size }
        let regular = first(isRegular)
        let other = first { !isRegular($0) && takes($0, bound: bound) }
        if hasGroup { return regular ?? (preparerHasWork ? nil : other) }
        let current = machine.current?.header.capacity
        if regularSpareCount >= 2 || (hasStagedGroups && current == options.journalFileSize) { return regular }
        return other ?? regular
    }

    /// Takes a spare file as the current one, for a commit of at most `bound` bytes. Under the lock; nothing is under
    /// way. Returns an error where there is none and none can be made.
    private func beginFreshFile(bound: Int, hasGroup: Bool) -> WALError? {
        if options.durability == .processCrash, let file = currentFile ?? sealedFile {
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
        var next = nextSpare(bound: bound, hasGroup: hasGroup)
        while next == nil {
            if isStopped { return refusal ?? .closed }
            if !preparerHasWork { return preparerFailure ?? .journalFull(reason: "no spare file") }
            hurryPreparer()
            roomCondition.wait(lock)
            next = nextSpare(bound: bound, hasGroup: hasGroup)
        }
        guard let next else { preconditionFailure("a spare was found") }
        reclaim()
        let spare = spares.remove(at: next)
        admission.spares = regularSpareCount
        // From here on the new file is where appends are admitted to, if it is of the right size.
        admission.fileStart = fileStartBound()
        admission.offset =
            spare.capacity == options.journalFileSize ? admission.fileStart : Int(options.journalFileSize)
        beginningLength = spare.capacity
        let oldest = files.first { $0.holdsLoss || !mayLeave($0) }
        // The last file holds the state until this one's checkpoint is on disk, so it stays live one file longer: the
        // header may get there and the checkpoint not.
        let oldestLive = min(oldest?.sequence ?? .max, files.last?.sequence ?? .max)
        _ = machine.begin(
            file: spare.name, logIdentifier: format.logIdentifier,
            epoch: UInt64.random(in: 1 ... .max, using: &generator), capacity: spare.capacity,
            blockSize: format.blockSize, created: wallClockNanoseconds(),
            oldestLiveFileSequence: files.isEmpty ? nil : oldestLive, sequenceFloor: state.sequenceFloor)
        currentFile = spare.file
        return nil
    }
}
