import Logging
import WALFormat
import WALStorage

/// How a turn of the committer gets to disk: room for it, its bytes, the write, and what follows from a failed one.
extension LogCore {
    /// Writes a turn. What has no room is given back to the pending acknowledgements; a group, which was admitted,
    /// always has.
    func write(_ turn: inout Turn) -> Result<Void, WALError> {
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
    struct Lengths {
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
            } else if alone <= left, spares.isEmpty, !preparerHasWork {
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
    func freesAFile(_ turn: Turn) -> Bool {
        var after = state
        for record in turn.control { after.apply(record) }
        guard !mayLackSubscribers, let oldest = files.first else { return false }
        return oldest.pins == 0 && !oldest.holdsLoss && oldest.isDelivered(in: after)
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
        reclaim()
        // A file that the present header still counts as live is taken last: should its new life's first write be
        // torn, the present header would miss it.
        let spare = spares.remove(at: spares.firstIndex { keptUntilRotation[$0.name] == nil } ?? 0)
        admission.spares = spares.count
        // From here on the new file is where appends are admitted to.
        admission.fileStart = fileStartBound()
        admission.offset = admission.fileStart
        beginningLength = options.journalFileSize
        let oldest = files.first { $0.holdsLoss || !mayLeave($0) }
        // The last file holds the state until this one's checkpoint is on disk, so it stays live one file longer: the
        // header may get there and the checkpoint not.
        let oldestLive = min(oldest?.sequence ?? .max, files.last?.sequence ?? .max)
        _ = machine.begin(
            file: spare.name, logIdentifier: format.logIdentifier,
            epoch: UInt64.random(in: 1 ... .max, using: &generator), capacity: options.journalFileSize,
            blockSize: format.blockSize, created: wallClockNanoseconds(),
            oldestLiveFileSequence: files.isEmpty ? nil : oldestLive)
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
}
