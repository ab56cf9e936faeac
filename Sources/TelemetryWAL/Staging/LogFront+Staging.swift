import WALFormat

extension LogFront {
    /// Where records were staged: the group to wait for, and the first record's sequence number.
    struct StagedPlace {
        var group: UInt64 = 0
        var firstSequence: UInt64 = 0
    }

    enum Staging {
        case staged(StagedPlace)
        /// No room at the moment; the error is what a caller gets who cannot wait. Who can waits for a wake-up after
        /// the given one.
        case mustWait(WALError, generation: UInt64)
    }

    private enum Room {
        /// Room for a tenant with this index, in the open group or in one of those that wait in line.
        case granted(tenantIndex: Int, round: Int?)
        case mustWait(WALError)
    }

    /// Copies a record into a group: the open one, or, if the caller `waits`, the first where it may. Under the lock.
    final func stage(
        _ record: TelemetryRecord, tenant: TenantName, key: (any FrameKey)?, length: Int, waits: Bool
    ) throws(WALError) -> Staging {
        switch try makeRoom(tenant: tenant, count: 1, length: length, waits: waits) {
        case .mustWait(let error): return .mustWait(error, generation: roomGeneration)
        case .granted(let index, let round):
            let group = round.map { closedGroups[$0] } ?? openGroup
            let frame = openFrame(in: group, ofTenant: index, named: tenant, key: key, length: length)
            record.payload.withRawSpan {
                group.append(toFrame: frame, kind: record.kind, timestamp: record.timestamp, payload: $0)
            }
            return .staged(account(in: group, tenantIndex: index, count: 1, length: length))
        }
    }

    /// Puts a batch into a group, all of it or nothing; a long one shares the caller's memory. `length` is the sum of the
    /// records' encoded lengths. Under the lock.
    final func stage(
        _ records: [TelemetryRecord], tenant: TenantName, key: (any FrameKey)?, length: Int, waits: Bool
    ) throws(WALError) -> Staging {
        switch try makeRoom(tenant: tenant, count: records.count, length: length, waits: waits) {
        case .mustWait(let error): return .mustWait(error, generation: roomGeneration)
        case .granted(let index, let round):
            let group = round.map { closedGroups[$0] } ?? openGroup
            if length >= StagedFrame.shortestBatch {
                let sequence = tenantStaging[index].nextSequence
                _ = group.beginFrame(
                    StagedFrame(
                        tenantIndex: index, tenant: tenant, key: key, firstSequence: sequence, batch: records,
                        length: length))
                // What follows of this tenant comes behind the batch: into a frame after it.
                tenantStaging[index].group = 0
            } else {
                let frame = openFrame(in: group, ofTenant: index, named: tenant, key: key, length: length)
                group.append(records, toFrame: frame)
            }
            return .staged(account(in: group, tenantIndex: index, count: records.count, length: length))
        }
    }

    @inline(__always)
    private final func account(in group: StagedGroup, tenantIndex index: Int, count: Int, length: Int) -> StagedPlace {
        let place = StagedPlace(group: group.number, firstSequence: tenantStaging[index].nextSequence)
        changeStagedLength(by: length, tenant: index)
        tenantStaging[index].account(count: count, length: length, inGroup: group.number)
        group.count(records: count, length: length)
        return place
    }

    /// The frame of a tenant in a group, with room for so many bytes. Another one where the key is another: who forgets a
    /// key loses what was appended under it, and nothing else.
    @inline(__always)
    private final func openFrame(
        in group: StagedGroup, ofTenant index: Int, named tenant: TenantName, key: (any FrameKey)?, length: Int
    ) -> Int {
        let staging = tenantStaging[index]
        if staging.group == group.number, group.isEncrypted(with: key, frame: staging.frame) {
            if group.room(inFrame: staging.frame) < length {
                group.grow(length, inFrame: staging.frame, from: &bufferPool)
            }
            return staging.frame
        }
        let frame = group.beginFrame(
            StagedFrame(
                tenantIndex: index, tenant: tenant, key: key, firstSequence: staging.nextSequence,
                body: bufferPool.take(length)))
        tenantStaging[index].group = group.number
        tenantStaging[index].frame = frame
        return frame
    }

    /// Sees to it that a group takes so much of a tenant.
    @inline(__always)
    private final func makeRoom(
        tenant: TenantName, count: Int, length: Int, waits: Bool
    ) throws(WALError) -> Room {
        guard isOpen else { throw refusal ?? .closed }
        let known = lookup.index(of: tenant)
        guard hasStagingRoom(tenant: known, length: length) else {
            statistics.backPressure += 1
            return .mustWait(.stagingFull(limit: options.stagingLimit))
        }
        if waits, !closedGroups.isEmpty, let known {
            if let error = try makeRoomInBudget(of: tenant, index: known, count: count, length: length) {
                statistics.backPressure += 1
                return .mustWait(error)
            }
            if let round = roundForAppend(tenant: known, named: tenant, count: count, length: length) {
                return .granted(tenantIndex: known, round: round)
            }
        }
        // The header is counted even if the tenant has a frame: an upper bound costs nothing.
        let header = FrameHeader.length(tenantLength: tenant.utf8.count) + openGroup.sealOverhead
        let grown = openGroup.encodedLength + header + length
        if let known, grown <= admittedLength, openGroupTakes(count: count, length: length),
            tenantStaging[known].takenLength + UInt64(length) <= tenantStaging[known].lengthLimit
        {
            return .granted(tenantIndex: known, round: nil)
        }
        return try makeRoomSlowly(
            tenant: tenant, known: known, header: header, count: count, length: length, waits: waits)
    }

    @inline(__always)
    private final func openGroupTakes(count: Int, length: Int) -> Bool {
        openGroup.rawLength + length <= Self.groupTarget(options)
            && openGroup.frameCount < FormatLimits.maximumFrameCount - 64
            && openGroup.recordCount + count <= FormatLimits.maximumRecordCount
    }

    /// The same where the open group is full, the tenant is new, or the journal's room has to be looked at.
    @inline(never)
    private final func makeRoomSlowly(
        tenant: TenantName, known: Int?, header: Int, count: Int, length: Int, waits: Bool
    ) throws(WALError) -> Room {
        if let known {
            if let error = try makeRoomInBudget(of: tenant, index: known, count: count, length: length) {
                statistics.backPressure += 1
                return .mustWait(error)
            }
        } else {
            try checkPresence(of: tenant)
            try checkRoomForTenant()
            try checkBudget(retention.policy(of: tenant), count: count, length: length)
        }
        func worst() -> Int {
            (openGroup.encodedLength + header + length).roundedUp(toMultipleOf: format.blockSize)
        }
        // Headers of many tenants count as well: a group must fit into a fresh file.
        if !openGroup.isEmpty,
            !openGroupTakes(count: count, length: length) || admission.fileStart + worst() > admission.usableEnd
        {
            closeOpenGroup()
        }
        let position = positionBehindClosedGroups()
        guard admission.allows(admission.placing(worst(), at: position)) else {
            statistics.backPressure += 1
            if let failure = preparerFailure, !preparerHasWork {
                if decidedDropsMakeRoom {
                    wantsDrops = true
                    wakeCommitter()
                } else if compactionMakesRoom {
                    wakeCompactor()
                } else {
                    wantsRotation = true
                    wakeCommitter()
                    if !rotationMakesRoom { throw failure }
                }
                // The preparer has nothing to do before that: called, it would only call back.
            } else {
                hurryPreparer()
            }
            return .mustWait(.journalFull(reason: "the next journal file is being made"))
        }
        let index = known ?? addTenant(tenant)
        if known == nil {
            if waits, let round = roundForAppend(tenant: index, named: tenant, count: count, length: length) {
                return .granted(tenantIndex: index, round: round)
            }
        }
        // As far as the group's end stays in the file that it is in now, nothing needs to be asked again.
        let here = admission.usableEnd - position.offset
        admittedLength = worst() <= here ? here : admission.usableEnd - admission.fileStart
        return .granted(tenantIndex: index, round: nil)
    }
}
