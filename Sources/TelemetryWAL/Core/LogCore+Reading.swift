import Logging
import WALFormat
import WALStorage

extension LogCore {
    /// Where a subscriber's walk gets what it reads: all that is durable, of one tenant or of all.
    func walkSource(of tenant: TenantName?, for subscriber: TenantName) -> WalkSource<Storage> {
        var generation = UInt64.max
        return WalkSource(
            supply: { [self] (place, given, _) in
                lock.withLock { supply(of: tenant, for: subscriber, behind: place, given, since: &generation) }
            },
            segment: { [self] (tenant, sequence, _) in
                lock.withLock { segments.entry(of: tenant, above: sequence)?.name }
            },
            floor: { [self] tenant in
                lock.withLock {
                    state.index(of: tenant).map { wantedBehind(subscriber, tenant: $0) } ?? 0
                }
            },
            isTornBeginning: { [self] in isTornBeginning($0, in: $1) },
            hasLeft: { [self] readable in
                lock.withLock {
                    !files.contains {
                        $0.sequence == readable.header.fileSequence && !$0.isCompacted && $0.name != leavingFile
                    }
                }
            },
            erasedThrough: { [self] (tenant, _) in lock.withLock { state.erasedThrough(of: tenant) } })
    }

    /// Whether a life in a file shows that the file had left before the log was opened: none that was begun since.
    func isTornBeginning(_ life: JournalFileLife, in sequence: UInt64) -> Bool {
        lock.withLock { life.isTornBeginning(in: sequence, of: files, newest: machine.lastFileSequence) }
    }

    /// What there is behind a place in the journal, and in segments that came since a generation of them. Under the
    /// lock.
    private func supply(
        of tenant: TenantName?, for subscriber: TenantName, behind place: WalkSource<Storage>.Place?,
        _ given: [TenantName: UInt64], since generation: inout UInt64
    ) -> WalkSource<Storage>.Supply {
        var supply = WalkSource<Storage>.Supply(throughCommit: durableThrough)
        func through(_ index: Int) -> UInt64 {
            given[state.tenants[index].name] ?? wantedBehind(subscriber, tenant: index)
        }
        var index: Int?
        if let tenant {
            guard let known = state.index(of: tenant) else { return supply }
            index = known
        }
        if generation != segmentGeneration {
            generation = segmentGeneration
            let candidates = index.map { $0..<$0 + 1 } ?? state.tenants.indices
            supply.tenants = candidates.filter { state.tenants[$0].segmentedThrough > through($0) }
                .map { state.tenants[$0].name }
        }
        let wanted = index.map { [($0, max(through($0), state.tenants[$0].segmentedThrough) + 1)] }
        supply.files = readableFiles(of: wanted, behind: place)
        return supply
    }

    /// The same of the journal alone, of some tenants or of all. Under the lock.
    func journalSupply(
        of wanted: [(index: Int, from: UInt64)]?, behind place: WalkSource<Storage>.Place?
    ) -> WalkSource<Storage>.Supply {
        WalkSource<Storage>.Supply(
            files: readableFiles(of: wanted, behind: place), throughCommit: durableThrough)
    }

    /// Through which number a tenant's records are in segments, or gone. Under the lock.
    func segmentedThrough(_ tenant: TenantName) -> UInt64 {
        state.index(of: tenant).map { state.tenants[$0].segmentedThrough } ?? 0
    }

    func wantedBehind(_ subscriber: TenantName, _ tenant: TenantName) -> UInt64 {
        state.index(of: tenant).map { wantedBehind(subscriber, tenant: $0) } ?? 0
    }

    /// Through which number a subscriber is given nothing of a tenant: it has the records, or they were dropped. Under
    /// the lock.
    func wantedBehind(_ subscriber: TenantName, tenant index: Int) -> UInt64 {
        max(state.acknowledgedThrough(subscriber, tenant: index), state.tenants[index].droppedThrough)
    }

    /// The files that hold some tenants' records (or anyone's, for nil) that are in no segment, from a sequence number of
    /// each on, or from a place in the journal on. Under the lock.
    func readableFiles(
        of wanted: [(index: Int, from: UInt64)]?, behind position: (fileSequence: UInt64, offset: UInt64)?
    ) -> [ReadableFile] {
        files.indices.compactMap { number in
            let file = files[number]
            if file.isCompacted { return nil }
            var start = file.header.commitsStart
            var end = file.endOffset
            if let wanted {
                let extents = file.summarisedExtents ?? file.extents
                let starts = wanted.compactMap { wanted -> UInt64? in
                    guard let extent = extents[wanted.index], extent.lastSequence >= wanted.from else { return nil }
                    return extent.firstOffset
                }
                guard let first = starts.min() else { return nil }
                start = first
                end = max(end, start)
            }
            if let position {
                if file.sequence < position.fileSequence { return nil }
                if file.sequence == position.fileSequence { start = max(start, position.offset) }
            }
            guard start < end else { return nil }
            return readable(file, range: start..<end, next: number + 1 < files.count ? files[number + 1] : nil)
        }
    }

    /// A stretch of a file as readers go through it. `next`: the file behind it. Under the lock.
    func readable(_ file: LiveFile, range: Range<UInt64>, next: LiveFile?) -> ReadableFile {
        var readable = ReadableFile(
            name: file.name, header: file.header, range: range, damage: file.damage,
            isDamageNews: file.isDamageNews, excusedFrames: file.excusedFrames,
            // Of a file that was read what can be read is delivered; of one that was not, all.
            isDelivered: file.isSummarised && file.sequence != files.last?.sequence && state.releasesRecords
                && file.isDelivered(in: state))
        readable.isFollowed(by: next)
        return readable
    }

    /// A reader met damage in a file that was not read when the log was opened: it is read now, so that the log knows
    /// what of it can be delivered, and sets it aside instead of using it again. Blocks the calling thread, which
    /// holds no lock.
    func examine(_ fileSequence: UInt64) {
        lock.lock()
        guard let index = files.firstIndex(where: { $0.sequence == fileSequence && $0.isSummarised }),
            index + 1 < files.count
        else {
            lock.unlock()
            return
        }
        files[index].isSummarised = false
        // Whatever becomes of reading it: it is not overwritten any more.
        files[index].holdsLoss = true
        let (file, next, state) = (files[index], files[index + 1].header, self.state)
        lock.unlock()
        do throws(StorageError) {
            let (examined, report) = try Recovery(storage: storage, format: format)
                .examine(file, next: next, state: state) { lock.withLock { self.state } }
            lock.withLock {
                guard let index = files.firstIndex(where: { $0.sequence == fileSequence }) else { return }
                files[index].summarisedExtents = files[index].extents
                files[index].extents = examined.extents
                files[index].damage = examined.damage
                files[index].isDamageNews = true
                reclaim()
            }
            WriteAheadLogEngine<Storage>.report(report, to: logger)
        } catch {
            lock.withLock {
                guard let index = files.firstIndex(where: { $0.sequence == fileSequence }) else { return }
                files[index].isSummarised = true
            }
            logger.error("a damaged file cannot be read", metadata: ["file": "\(file.name)", "error": "\(error)"])
        }
    }

    /// Raises a signal from now on when records have become durable.
    func raise(_ signal: DurabilitySignal) {
        lock.withLock {
            if !durabilitySignals.contains(where: { $0 === signal }) { durabilitySignals.append(signal) }
        }
    }

    // MARK: - Acknowledging

    /// Makes a subscriber known, so that it holds back what it has not acknowledged. `registration`: the number of that in
    /// another journal of the log; nil: there is none. Under the lock.
    func register(_ subscriber: TenantName, registration: UInt32? = nil) throws(WALError) {
        let known = state.registrations[subscriber]
        if let known, registration ?? 0 == 0 || known == registration { return }
        if let known, Subscriptions.differ(known, registration ?? 0) {
            // It has left in between, and has nothing of what it had.
            unregister(subscriber)
        } else if known == nil {
            let length = state.tenants.count * 64 + 1024
            guard checkpointFits(growingBy: length) else { throw .tooManySubscribers(limit: state.cursors.count) }
        }
        while isNamingSegments { roomCondition.wait(lock) }
        // Another thread may have been first.
        if known == nil, state.cursors[subscriber] != nil { return }
        registrations += 1
        var generator = KernelRandomness()
        let record = ControlRecord.subscriber(
            name: subscriber, isRegistered: true,
            registration: registration ?? UInt32.random(in: 1 ... .max, using: &generator))
        state.apply(record)
        pendingSubscribers.append(record)
        admission.fileStart = fileStartBound()
        wakeCommitter()
    }

    /// Forgets a subscriber and what it held back. Under the lock. In memory at once: a file that is reclaimed for it
    /// is only written together with a checkpoint that does not know the subscriber either.
    func unregister(_ subscriber: TenantName) {
        guard state.cursors[subscriber] != nil else { return }
        let record = ControlRecord.subscriber(name: subscriber, isRegistered: false)
        state.apply(record)
        pendingSubscribers.append(record)
        encodingTurn?.departed.insert(subscriber)
        for slot in slotsUnderWay { slot.turn.departed.insert(subscriber) }
        for index in turnsToRepeat.indices { turnsToRepeat[index].departed.insert(subscriber) }
        pendingCursors = pendingCursors.filter { $0.key.subscriber != subscriber }
        noteRelease(ofTenant: nil)
        controlIsBlocked = false
        wakeCommitter()
    }

    /// Notes that a subscriber has a tenant's records through a sequence number. Under the lock. Never moves a cursor
    /// back, nor past what is durable. A subscriber that is not registered has no cursors.
    func acknowledge(_ subscriber: TenantName, tenant: TenantName, through sequence: UInt64) {
        guard let index = state.index(of: tenant), state.cursors[subscriber] != nil else { return }
        let limit = min(sequence, state.tenants[index].nextSequence - 1)
        guard limit > state.acknowledgedThrough(subscriber, tenant: index) else { return }
        let key = CursorKey(subscriber: subscriber, tenantIndex: index)
        pendingCursors[key] = max(pendingCursors[key] ?? 0, limit)
        #if Simulation
            if DeliberateBug.isActive(.advanceCursorBeforeCommit) {
                state.apply(.cursor(subscriber: subscriber, tenant: tenant, acknowledgedThrough: limit))
                reclaim()
            }
        #endif
        controlIsBlocked = false
        if dozesWithoutEnd { wakeCommitter() }
    }

    /// Writes pending acknowledgements now and waits until they are durable.
    func flushAcknowledgements() throws(WALError) {
        lock.lock()
        defer { lock.unlock() }
        let hasPending = hasPendingControl
        #if Simulation
            if DeliberateBug.isActive(.advanceCursorBeforeCommit) { return }
        #endif
        var wanted = acknowledgementsTaken + (hasPending ? 1 : 0)
        var returned = acknowledgementsReturned
        while true {
            // First: what comes behind may be durable already.
            if acknowledgementsReturned != returned {
                returned = acknowledgementsReturned
                wanted = acknowledgementsTaken + 1
            }
            if acknowledgementsDurable >= wanted { return }
            if let refusal { throw refusal }
            // What was given back was taken together with what came later: there is no other taking to wait for.
            if !hasPendingControl, acknowledgementsTaken == acknowledgementsDurable { return }
            if acknowledgementsTaken < wanted, !isEncoding, slotsUnderWay.isEmpty, turnsToRepeat.isEmpty {
                try commitControl().get()
            } else {
                roomCondition.wait(lock)
            }
        }
    }

    // MARK: - Closing

    /// Commits what is staged, writes the mark of a clean close, ends the threads, gives the lock up.
    func close() throws(WALError) {
        lock.lock()
        if isClosing {
            // Another thread closes, or has.
            while !isReleased { roomCondition.wait(lock) }
            let failure = closeFailure
            lock.unlock()
            if let failure { throw failure }
            return
        }
        isClosing = true
        endWhatIsUnderWay()
        var rounds = files.count
        while rounds > 0, setAsideHeldBack() {
            endWhatIsUnderWay()
            rounds -= 1
        }
        hasClosingMark = true
        // A log that never had a file has nothing to mark.
        if refusal == nil,
            machine.current != nil || hasPendingControl
        {
            // Acknowledgements that find no room are given again next time; the caller is told.
            if case .failure(let error) = commitControl(closing: true) { closeFailure = error }
        }
        // Damaged files that were delivered are set aside before the next open looks at them.
        while hasFilesToSetAside {
            hurryPreparer()
            roomCondition.wait(lock)
        }
        if let refusal { closeFailure = refusal }
        let failure = closeFailure
        let file = currentFile
        stopHoldingLock(.closed)
        let threads = self.threads
        self.threads = []
        lock.unlock()
        for thread in threads { thread.join() }
        // The last acknowledgements may have released segments; the compactor's thread is gone.
        if failure == nil { lock.withLock { while removeSegments() {} } }
        var flushFailure: StorageError?
        if options.durability == .processCrash, failure == nil {
            do throws(StorageError) { try file?.synchronize() } catch { flushFailure = error }
        }
        lock.withLock {
            currentFile = nil
            spares = []
            storageLock = nil
            if closeFailure == nil, let flushFailure { closeFailure = .storage(flushFailure) }
            isReleased = true
            wakeRoomWaiters()
        }
        waitForMessages()
        if let closeFailure { throw closeFailure }
    }

    /// Under the lock, which is given up meanwhile.
    private func endWhatIsUnderWay() {
        while isEncoding || !slotsUnderWay.isEmpty || (hasStagedGroups && refusal == nil) {
            if mayLead {
                lead()
            } else {
                if shouldBeginCommit { wakeCommitter() }
                roomCondition.wait(lock)
            }
        }
    }

    /// Ends the threads without writing: as if the process had died.
    func abandon() {
        lock.withLock {
            stopHoldingLock(.closed)
            for thread in threads { thread.detach() }
            threads = []
        }
    }

    private func stopHoldingLock(_ reason: WALError) {
        isClosing = true
        isStopped = true
        isOpen = false
        if refusal == nil { refusal = reason }
        committerWake.broadcast()
        interruptCommitter()
        preparerWake.broadcast()
        compactorWake.broadcast()
        wakeRoomWaiters()
        endAllGroups()
        tellEndedGroups()
    }
}
