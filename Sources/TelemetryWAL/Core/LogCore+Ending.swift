import Logging
import WALFormat
import WALStorage

/// What follows from a write's end: acknowledgement in the log's order, or a fresh file.
extension LogCore {
    /// Writes a commit on the calling thread and ends it. Under the lock, which is given up meanwhile.
    func writeHere(_ slot: CommitSlot) {
        guard let file = currentFile else { preconditionFailure("no current file") }
        lock.unlock()
        let start = MonotonicTime.now
        let result: Result<Void, StorageError>
        do throws(StorageError) {
            try file.write(slot.buffer, at: 0, length: slot.length, to: slot.offset, durability: options.durability)
            if slot.beginsFile { try readBack(slot, from: file) }
            result = .success(())
        } catch { result = .failure(error) }
        let duration = Double(MonotonicTime.now.since(start))
        lock.lock()
        writeDuration += (duration - writeDuration) / 8
        end(slot, result)
    }

    /// Reads a new file's head again and compares it with what was written: header, checkpoint, first commit. Nothing
    /// else of a file is needed to find all the rest, and a device that acknowledges this write and drops it would
    /// make a file of the log look free. One read a file, of which no append but its first takes notice. Holds no lock.
    func readBack(_ slot: CommitSlot, from file: Storage.File) throws(StorageError) {
        let length = min(slot.length, Self.longestReadBack)
        let buffer = AlignedBuffer(capacity: length, alignment: max(4096, format.blockSize))
        let count = try file.read(into: buffer, at: 0, length: length, from: slot.offset)
        guard count == length, buffer.holdsSame(as: slot.buffer, in: 0..<length) else {
            throw StorageError(.writeLost, operation: "write \(slot.length) bytes at \(slot.offset)", path: file.path)
        }
    }

    /// Bytes of a new file that are read back at most: checkpoints of thousands of tenants are shorter.
    private static var longestReadBack: Int { 256 << 10 }

    /// Notes how a commit's write ended, and publishes what is durable in the log's order. Under the lock; whose
    /// groups ended are told by `tellEndedGroups`.
    func end(_ slot: CommitSlot, _ result: Result<Void, StorageError>) {
        slot.result = result
        if case .failure = result { hasFailedWrite = true }
        #if Simulation
            if DeliberateBug.isActive(.acknowledgeOutOfOrder), case .success = result, let group = slot.turn.group {
                progress.advance(to: max(progress.durableThrough, group.number))
                progress.wakeSleepers(ofGroup: group.number)
            }
        #endif
        while let first = slotsUnderWay.first, case .success? = first.result {
            slotsUnderWay.removeFirst()
            publish(first)
            release(first)
        }
        // Whoever is encoding looks for itself when it is through.
        if hasFailedWrite, !isEncoding { moveToFreshFileIfDrained() }
        lastActivity = .now
        gatherDeadline = lastActivity + Self.gatherTime
        wakeRoomWaiters()
    }

    func release(_ slot: CommitSlot) {
        slot.clear()
        freeSlots.append(slot)
    }

    /// A commit is durable, and all before it: the log's state moves on.
    private func publish(_ slot: CommitSlot) {
        let turn = slot.turn
        let commits = slot.commits
        let records = UInt64(turn.group?.recordCount ?? 0)
        machine.completed(commits, records: records)
        guard let current = machine.current, let last = commits.last else { return }
        if slot.beginsFile {
            files.append(LiveFile(name: current.name, header: current.header, endOffset: 0))
            beginningLength = 0
            keptUntilRotation = keptUntilRotation.filter {
                $0.value.sequence >= current.header.oldestLiveFileSequence
            }
            sealedFile = nil
            retired += retiredLater
            retiredLater = []
            dropsMakeRoom = dropsMakeRoom || mayDropAny
            preparerWake.signal()
            wakeCompactor()
        }
        let file = files.count - 1
        files[file].endOffset = last.offset + UInt64(last.commitLength)
        if let group = turn.group {
            for index in 0..<group.frameCount {
                let (tenantIndex, sequences) = group.frames[index].place
                state.setNextSequence(sequences.upperBound + 1, at: tenantIndex)
                state.noteAppended(
                    through: sequences.upperBound, length: UInt64(group.frames[index].rawLength),
                    received: last.timestamp, at: tenantIndex)
                files[file].add(tenantIndex: tenantIndex, sequences: sequences, offset: last.offset)
            }
        }
        // Subscribers were applied when they came and went; only cursors wait for the disk.
        for record in turn.control {
            if case .cursor(let subscriber, let tenant, _) = record, !turn.departed.contains(subscriber) {
                state.apply(record)
                if segments.count > 0, let index = state.index(of: tenant) { noteRelease(ofTenant: index) }
            } else if case .erasure(let tenant, _, _, _) = record {
                noteErasure(record)
                if segments.count > 0, let index = state.index(of: tenant) { noteRelease(ofTenant: index) }
            } else if case .tenantState = record {
                state.apply(record)
            } else if case .dropped(let tenant, _, _, _) = record {
                state.apply(record)
                if segments.count > 0, let index = state.index(of: tenant) { noteRelease(ofTenant: index) }
            }
        }
        // A subscriber's departure is durable: what only it lacked may be given up.
        if !turn.subscriberRecords.isEmpty, segments.count > 0 { noteRelease(ofTenant: nil) }
        if turn.acknowledgementNumber != 0 { acknowledgementsDurable = turn.acknowledgementNumber }
        durableThrough = last.commitNumber
        if turn.group != nil { for signal in durabilitySignals { signal.raise() } }
        needsWatermark = turn.group != nil
        statistics.commits += UInt64(commits.count)
        statistics.writes += 1
        statistics.records += records
        statistics.bytesWritten += UInt64(slot.length)
        if slot.beginsFile || !turn.control.isEmpty { reclaim() }
        if let group = turn.group { complete(group) }
    }

    /// After a failed write, once all that were under way have ended: what is not durable goes to a fresh file, in its
    /// order. Under the lock.
    func moveToFreshFileIfDrained() {
        guard slotsUnderWay.allSatisfy({ $0.result != nil }) else { return }
        hasFailedWrite = false
        let failures = slotsUnderWay.compactMap { slot -> StorageError? in
            if case .failure(let error)? = slot.result { error } else { nil }
        }
        guard let oldest = slotsUnderWay.first, let error = failures.first else { return }
        statistics.failedWrites += UInt64(failures.count)
        logLater(
            .error, "write failed; the file is sealed and what was under way goes to a fresh one",
            ["error": "\(error)", "commits": "\(slotsUnderWay.count)"])
        abandonCurrentFile(begun: !oldest.beginsFile)
        let turns = slotsUnderWay.map(\.turn)
        for slot in slotsUnderWay { release(slot) }
        slotsUnderWay = []
        switch machine.failed(error) {
        case .moveToFreshFile where !isStopped:
            turnsToRepeat = turns + turnsToRepeat
        case .moveToFreshFile, .giveUp:
            for case let group? in turns.map(\.group) { endUnwritten(group) }
            refuseIfFinal()
        }
    }

    /// Once the machine refuses, so does the log, and what waited behind the failed commit cannot become durable
    /// either. Under the lock.
    func refuseIfFinal() {
        guard let final = machine.refusal ?? refusal else { return }
        if refusal == nil {
            refusal = final
            isOpen = false
            logLater(.critical, "the log refuses appends until it is opened again", ["error": "\(final)"])
        }
        endAllGroups()
        wakeRoomWaiters()
    }
}
