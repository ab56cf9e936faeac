import WALFormat

/// Appending and waiting, for threads that block and for tasks that suspend.
extension LogFront {
    /// What a call has to stage.
    enum Load {
        case record(TelemetryRecord)
        case batch([TelemetryRecord])
    }

    @inline(__always)
    private final func stage(
        _ load: Load, tenant: TenantName, key: (any FrameKey)?, length: Int
    ) throws(WALError) -> Staging {
        switch load {
        case .record(let record): try stage(record, tenant: tenant, key: key, length: length, waits: true)
        case .batch(let records): try stage(records, tenant: tenant, key: key, length: length, waits: true)
        }
    }

    /// What a tenant's next records are encrypted with. Not under the lock: it asks whoever provides keys.
    @inline(__always)
    private final func currentKey(of tenant: TenantName) throws(WALError) -> (any FrameKey)? {
        guard let provider = options.keyProvider else {
            if options.isEncrypted {
                throw .keyUnavailable(
                    tenant: tenant, sequences: nil,
                    reason: "records of this log are encrypted, and it was opened without a key provider")
            }
            return nil
        }
        let key: (any FrameKey)?
        do throws(KeyProviderError) { key = try provider.currentKey(of: tenant) } catch {
            throw .keyUnavailable(tenant: tenant, sequences: nil, reason: error.description)
        }
        // On the disk it would mean that the frame is not encrypted.
        if key?.identifier == 0 {
            throw .keyUnavailable(tenant: tenant, sequences: nil, reason: "its key has the identifier 0")
        }
        return key
    }

    /// Bytes that a record takes. Throws `.recordTooLarge`.
    @inline(__always)
    final func checkedLength(_ record: TelemetryRecord) throws(WALError) -> Int {
        let length = RecordHeader.length + record.payload.count
        let limit = options.maximumBatchLength
        guard length <= limit else {
            throw .recordTooLarge(length: record.payload.count, limit: limit - RecordHeader.length)
        }
        return length
    }

    /// Bytes that a batch takes. Throws `.recordTooLarge`, `.batchTooLarge`, and `.invalidOption` for an empty one.
    final func checkedLength(_ records: [TelemetryRecord]) throws(WALError) -> Int {
        guard !records.isEmpty else { throw .invalidOption("the batch is empty") }
        guard records.count <= FormatLimits.maximumRecordCount else {
            throw .batchTooLarge(length: records.count, limit: FormatLimits.maximumRecordCount)
        }
        var length = RecordHeader.length * records.count
        for record in records { length += record.payload.count }
        guard length <= options.maximumBatchLength else {
            for record in records { _ = try checkedLength(record) }
            throw .batchTooLarge(length: length, limit: options.maximumBatchLength)
        }
        return length
    }

    /// Stages and returns when durable, on the calling thread: writes itself when nobody else does. Returns the first
    /// record's sequence number.
    final func appendBlocking(_ load: Load, tenant: TenantName, length: Int) throws(WALError) -> UInt64 {
        let key = try currentKey(of: tenant)
        lock.lock()
        let place: StagedPlace
        do throws(WALError) {
            place = try stageWaiting(load, tenant: tenant, key: key, length: length)
        } catch {
            lock.unlock()
            throw error
        }
        try leadOrSleep(until: place.group)
        return place.firstSequence
    }

    /// Blocks the calling thread until a group is durable.
    final func durableBlocking(through group: UInt64) throws(WALError) {
        if progress.durableThrough >= group { return }
        lock.lock()
        try leadOrSleep(until: group)
    }

    /// Writes what is staged through a group where nobody else does, or sleeps until others have. Under the lock,
    /// which is given up.
    private final func leadOrSleep(until number: UInt64) throws(WALError) {
        // It may have to lead others' groups first, which are before its own.
        while progress.durableThrough < number, refusal == nil {
            guard mayLead, fewAppend || isClosing else {
                group(numbered: number)?.hasSleepers = true
                if shouldBeginCommit { wakeCommitter() }
                break
            }
            lead()
        }
        lock.unlock()
        try sleep(until: number)
    }

    /// Stages, waiting for room where there is none. Under the lock, which is given up meanwhile.
    private final func stageWaiting(
        _ load: Load, tenant: TenantName, key first: (any FrameKey)?, length: Int
    ) throws(WALError) -> StagedPlace {
        var key = first
        while true {
            switch try stage(load, tenant: tenant, key: key, length: length) {
            case .staged(let place): return place
            case .mustWait:
                if mayLead { lead() } else { roomCondition.wait(lock) }
                if options.keyProvider == nil { continue }
                // It may be another one by now.
                lock.unlock()
                let failure: WALError?
                do throws(WALError) {
                    key = try currentKey(of: tenant)
                    failure = nil
                } catch { failure = error }
                lock.lock()
                if let failure { throw failure }
            }
        }
    }

    /// Blocks the calling thread until a group is durable.
    final func sleep(until group: UInt64) throws(WALError) {
        if progress.durableThrough >= group || progress.sleep(untilGroup: group) { return }
        throw lock.withLock { refusal ?? .closed }
    }

    /// Writes of fewer nanoseconds may block a thread of Swift's pool.
    private static let shortWrite = 1_000_000.0

    /// Whether a task may write its group on its own thread, which saves it two hand-offs. Only if it seems to be alone:
    /// other tasks that are ready to append cannot be seen while they wait for the thread that it would block. So it
    /// must be the task that appended last, or groups that gathered while nobody blocked must have stayed alone.
    /// Under the lock.
    private final func mayLeadSuspending() -> Bool {
        let task = unsafe withUnsafeCurrentTask { unsafe $0?.hashValue } ?? 0
        defer { lastTask = task }
        guard mayLead, expectedAppends < 2, writeDuration < Self.shortWrite else { return false }
        if task == lastTask, task != 0 { return true }
        if soloCredit == 0 { return false }
        soloCredit -= 1
        return true
    }

    /// Stages and suspends until durable; a lone task writes on its own thread.
    final func appendSuspending(_ load: Load, tenant: TenantName, length: Int) async throws(WALError) -> UInt64 {
        var place = StagedPlace()
        while true {
            // Anew after each wait.
            let key = try currentKey(of: tenant)
            var failure: WALError?
            var roomMissed: UInt64?
            await Waiter.suspend { waiter in
                lock.lock()
                do throws(WALError) {
                    switch try stage(load, tenant: tenant, key: key, length: length) {
                    case .staged(let staged):
                        place = staged
                        if mayLeadSuspending() {
                            lead()
                            lock.unlock()
                            waiter.resume()
                            return
                        }
                        (group(numbered: staged.group) ?? openGroup).waiters.append(waiter)
                        if shouldBeginCommit { wakeCommitter() }
                        lock.unlock()
                        return
                    case .mustWait(_, let generation): roomMissed = generation
                    }
                } catch { failure = error }
                if let roomMissed, roomGeneration == roomMissed, !isStopped, refusal == nil {
                    roomWaiters.append(waiter)
                    if shouldBeginCommit { wakeCommitter() }
                    lock.unlock()
                } else {
                    lock.unlock()
                    waiter.resume()
                }
            }
            if let failure { throw failure }
            if roomMissed != nil { continue }
            if progress.durableThrough >= place.group { return place.firstSequence }
            if progress.hasEnded { throw lock.withLock { refusal ?? .closed } }
            // It led another's group, which was before its own.
            try await durable(through: place.group)
            return place.firstSequence
        }
    }

    /// Suspends until a group is durable.
    final func durable(through number: UInt64) async throws(WALError) {
        if progress.durableThrough >= number { return }
        await Waiter.suspend { waiter in
            lock.lock()
            if progress.durableThrough < number, !progress.hasEnded, let group = group(numbered: number) {
                group.waiters.append(waiter)
                if shouldBeginCommit { wakeCommitter() }
                lock.unlock()
            } else {
                lock.unlock()
                waiter.resume()
            }
        }
        if progress.durableThrough < number { throw lock.withLock { refusal ?? .closed } }
    }

    /// Stages without waiting for anything; returns the group to wait for.
    final func enqueue(_ record: TelemetryRecord, tenant: TenantName, length: Int) throws(WALError) -> UInt64 {
        let key = try currentKey(of: tenant)
        lock.lock()
        defer { lock.unlock() }
        switch try stage(record, tenant: tenant, key: key, length: length, waits: false) {
        case .staged(let place):
            if shouldBeginCommit { wakeCommitter() }
            return place.group
        case .mustWait(let error, _):
            if shouldBeginCommit { wakeCommitter() }
            throw error
        }
    }
}
