import WALFormat

extension LogCore {
    /// Where a record or batch stands in its group: what turns the group's outcome into a receipt.
    struct StagedPlace {
        var outcome: CommitOutcome
        var groupNumber: UInt64
        var frame: Int
        var position: Int
        var count: Int
    }

    enum Staging {
        case staged(StagedPlace)
        /// No room at the moment; the error is what a caller gets who cannot wait. Who can waits for a wake-up after
        /// the given one.
        case mustWait(WALError, generation: UInt64)
    }

    /// Bytes of records after which a group is closed and the next one opened: large enough to fill the device, small
    /// enough that encoding it does not delay those who wait.
    private var groupTarget: Int { min(4 << 20, options.maximumBatchLength) }

    /// Copies records of one tenant into the open group, all of them or none. `length` is the sum of their encoded
    /// lengths. Under the lock.
    func stage(
        tenant: TenantName, count: Int, length: Int,
        _ each: (Int, (RecordKind, UInt64, RawSpan) -> Void) -> Void
    ) throws(WALError) -> Staging {
        if isClosing || isStopped { throw refusal ?? .closed }
        if let refusal { throw refusal }
        let known = state.index(of: tenant)
        if known == nil {
            guard state.tenants.count < options.maximumTenants, checkpointFits(growingBy: 1024) else {
                throw .tooManyTenants(limit: state.tenants.count)
            }
        }
        if stagedBytes > 0, stagedBytes + length > options.stagingLimit {
            statistics.backPressure += 1
            return .mustWait(.stagingFull(limit: options.stagingLimit), generation: roomGeneration)
        }
        let isNew = known.map { !openGroup.hasFrame(ofTenant: $0) } ?? true
        if !openGroup.isEmpty,
            !openGroupTakes(known, tenantLength: isNew ? tenant.utf8.count : nil, count: count, length: length)
        {
            closeOpenGroup()
        }
        let worst = openGroup.worstLength(
            blockSize: format.blockSize, addingRecords: length,
            newTenantLength: known.map(openGroup.hasFrame(ofTenant:)) ?? false ? nil : tenant.utf8.count)
        guard admission.allows(admission.placing(worst, at: positionBehindClosedGroups())) else {
            statistics.backPressure += 1
            if let failure = preparerFailure, !preparerHasWork {
                wantsRotation = true
                committerWake.signal()
                throw failure
            }
            preparerWake.signal()
            return .mustWait(
                .journalFull(reason: "the next journal file is being made"), generation: roomGeneration)
        }
        let index = known ?? state.makeIndex(of: tenant)
        if known == nil { admission.fileStart = fileStartBound() }
        var place = StagedPlace(
            outcome: openGroup.outcome, groupNumber: openGroupNumber, frame: 0, position: 0, count: count)
        for number in 0..<count {
            each(number) { kind, timestamp, payload in
                let (frame, position) = openGroup.append(
                    tenantIndex: index, tenant: tenant, kind: kind, timestamp: timestamp, payload: payload)
                if number == 0 {
                    place.frame = frame
                    place.position = position
                }
            }
        }
        stagedBytes += length
        lastActivity = .now
        return .staged(place)
    }

    private func openGroupTakes(_ index: Int?, tenantLength: Int?, count: Int, length: Int) -> Bool {
        if openGroup.rawLength + length > groupTarget { return false }
        if tenantLength != nil, openGroup.frameCount >= FormatLimits.maximumFrameCount - 64 { return false }
        // Headers of many tenants count as well: a group must fit into a fresh file.
        let worst = openGroup.worstLength(
            blockSize: format.blockSize, addingRecords: length, newTenantLength: tenantLength)
        if admission.fileStart + worst > admission.usableEnd { return false }
        guard let index else { return true }
        return openGroup.bodyLength(ofTenant: index) + length <= FormatLimits.maximumFrameRawLength
            && openGroup.recordCount(ofTenant: index) + count <= FormatLimits.maximumRecordCount
    }

    /// Puts the open group in line and opens another. Under the lock.
    func closeOpenGroup() {
        closedGroups.append(
            (openGroup, openGroupNumber, openGroup.worstLength(blockSize: format.blockSize)))
        openGroup = groupPool.popLast() ?? StagedGroup()
        openGroupNumber += 1
    }

    /// Where the log stands when all closed groups are written. Under the lock.
    private func positionBehindClosedGroups() -> AdmissionControl.Position {
        var position = admission.start
        if let inFlightWorstLength { position = admission.placing(inFlightWorstLength, at: position) }
        for (_, _, length) in closedGroups { position = admission.placing(length, at: position) }
        return position
    }

    /// Whether anything waits for the committer. Under the lock.
    var hasStagedGroups: Bool { !closedGroups.isEmpty || !openGroup.isEmpty }

    // MARK: - Waiting

    /// Stages and returns when durable, on the calling thread: writes itself when nobody else does.
    func appendBlocking(
        tenant: TenantName, count: Int, length: Int,
        _ each: (Int, (RecordKind, UInt64, RawSpan) -> Void) -> Void
    ) throws(WALError) -> ClosedRange<UInt64> {
        lock.lock()
        defer { lock.unlock() }
        let place = try stageWaiting(tenant: tenant, count: count, length: length, each)
        try waitBlocking(place.outcome, groupNumber: place.groupNumber)
        return sequences(of: place)
    }

    private func stageWaiting(
        tenant: TenantName, count: Int, length: Int,
        _ each: (Int, (RecordKind, UInt64, RawSpan) -> Void) -> Void
    ) throws(WALError) -> StagedPlace {
        while true {
            switch try stage(tenant: tenant, count: count, length: length, each) {
            case .staged(let place): return place
            case .mustWait:
                if hasStagedGroups, !isCommitting { commitNextGroupHoldingLock() } else { roomCondition.wait(lock) }
            }
        }
    }

    /// Waits for a group's outcome, in the committer's role where that is free. Under the lock, which is given up
    /// meanwhile.
    func waitBlocking(_ outcome: CommitOutcome, groupNumber: UInt64) throws(WALError) {
        while true {
            if let result = outcome.result { return try result.get() }
            if !isCommitting, hasStagedGroups {
                commitNextGroupHoldingLock()
            } else {
                outcomeConditions[Int(groupNumber & 1)].wait(lock)
            }
        }
    }

    /// Sequence numbers of a durable place. Under the lock.
    func sequences(of place: StagedPlace) -> ClosedRange<UInt64> {
        let first = place.outcome.firstSequences[place.frame] + UInt64(place.position)
        return first...first + UInt64(place.count) - 1
    }

    /// Stages for a caller that suspends, and lets the committer's thread write.
    func appendSuspending(
        tenant: TenantName, count: Int, length: Int,
        _ each: (Int, (RecordKind, UInt64, RawSpan) -> Void) -> Void
    ) async throws(WALError) -> ClosedRange<UInt64> {
        while true {
            let staging = try lock.withLock { () throws(WALError) in
                let staging = try stage(tenant: tenant, count: count, length: length, each)
                if !isCommitting { committerWake.signal() }
                return staging
            }
            switch staging {
            case .staged(let place):
                try await wait(place.outcome)
                return lock.withLock { sequences(of: place) }
            case .mustWait(_, let generation):
                await withCheckedContinuation { continuation in
                    lock.withLock {
                        // What was in the way may be gone since the lock was given up.
                        if isStopped || refusal != nil || roomGeneration != generation {
                            continuation.resume()
                        } else {
                            roomWaiters.append(continuation)
                        }
                    }
                }
            }
        }
    }

    /// Suspends until a group's outcome is known.
    func wait(_ outcome: CommitOutcome) async throws(WALError) {
        await withCheckedContinuation { continuation in
            lock.withLock {
                if outcome.result != nil { continuation.resume() } else { outcome.continuations.append(continuation) }
            }
        }
        try lock.withLock { () throws(WALError) in try outcome.result!.get() }
    }

    /// Stages without waiting for anything.
    func enqueue(
        tenant: TenantName, length: Int, _ each: (Int, (RecordKind, UInt64, RawSpan) -> Void) -> Void
    ) throws(WALError) -> CommitOutcome {
        try lock.withLock { () throws(WALError) in
            switch try stage(tenant: tenant, count: 1, length: length, each) {
            case .staged(let place):
                if !isCommitting { committerWake.signal() }
                return place.outcome
            case .mustWait(let error, _): throw error
            }
        }
    }
}
