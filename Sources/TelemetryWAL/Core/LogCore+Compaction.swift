import CWALLinux
import Logging
import WALFormat
import WALStorage

/// The compactor's thread: it moves records that somebody lacks from the journal's oldest files into tenant segments,
/// merges small segments, and removes those that everybody has (`LogCore+Segments`). One thread does all of it, so that
/// nothing here happens beside itself; what is decided is in `CompactorMachine` and `SegmentTiers`.
///
/// A journal file counts as settled only when its segments have their names on stable storage; segments leave only when
/// every subscriber has their records durably, or when a merge's outcome has its name. So a crash at any moment leaves
/// each record in at least one place, and sequence numbers tell where it is in two.
extension LogCore {
    #if Simulation
        static var partitionBudget: ClosedRange<Int> { 64 << 10...96 << 10 }
    #else
        /// Bytes of records that wait to become segments: of few tenants, and of a thousand.
        static var partitionBudget: ClosedRange<Int> { 64 << 20...128 << 20 }
    #endif
    #if Simulation
        private static var mostPublishedAtATime: Int { 2 }
    #else
        /// Tenants whose segments get their names together. Commits wait while a file system's changes are made durable:
        /// better often and briefly than long.
        private static var mostPublishedAtATime: Int { 64 }
    #endif
    /// How long a compactor waits after a failure.
    private static var retryTime: UInt64 { 1_000_000_000 }
    /// So often a file that the device fails to read is tried before what can be read of it moves on without the rest.
    static var mostUnreadableAttempts: Int { 5 }

    func runCompactor() {
        cwal_lower_priority()
        let partition = SegmentPartition(storage: storage, format: format, budget: Self.partitionBudget) {
            [unowned self] in restFromCompaction()
        }
        lock.lock()
        defer { lock.unlock() }
        while !isStopped {
            if eraseNext(partition) { continue }
            if sweepNext() { continue }
            // Before all else: room that is there for the taking must not wait for writes that find none.
            if removeSegments() { continue }
            if let retry = compactorRetry {
                guard MonotonicTime.now >= retry else {
                    compactorWake.wait(lock, until: retry)
                    continue
                }
                compactorRetry = nil
            }
            if enforceRetention() { continue }
            let step = nextCompaction(isFull: partition.isFull)
            if step != .rest, lacksFreeSpace(for: partition) { continue }
            switch step {
            case .gather(let sequence): gather(sequence, into: partition)
            case .publish: publish(partition)
            case .rest:
                dropIfOutOfRoom()
                if partition.keepsMemory {
                    lock.unlock()
                    partition.releaseMemory()
                    lock.lock()
                    continue
                }
                if mergeSegments() { continue }
                compactorRests = true
                compactorIsCalled = false
                roomCondition.broadcast()
                defer {
                    compactorRests = false
                    pace.begin(at: .now)
                }
                if let next = [nextRetention, nextErasure].compactMap(\.self).min() {
                    compactorWake.wait(lock, until: next)
                } else {
                    compactorWake.wait(lock)
                }
            }
        }
        compactorRests = true
        compactorIsCalled = false
    }

    /// Under the lock.
    private func nextCompaction(isFull: Bool) -> CompactorMachine.Step {
        guard !mayLackSubscribers else { return .rest }
        // What is sealed is looked at file by file, and tenant by tenant, only where it matters.
        let sealedLength = files.dropLast().reduce(0) { $0 + $1.header.capacity }
        if compactor.mayRest(sealedLength: sealedLength, isPressed: isPressed) { return .rest }
        return compactor.next(
            sealedFiles, isPressed: isPressed, isFull: isFull, segmentLength: segments.length)
    }

    var isPressed: Bool { preparerFailure != nil }

    /// Rests for a moment, if it has worked for one and nobody waits for what it does. The compactor's thread, without
    /// the lock.
    func restFromCompaction() {
        guard pace.isDue(at: .now) else { return }
        let rest = lock.withLock { mayRestFromCompaction ? pace.rest(at: .now, waiting: bytesToMove) : 0 }
        if rest > 0 { pause(nanoseconds: rest) }
        pace.begin(at: .now)
    }

    /// Whether nobody waits for the compactor. Under the lock.
    var mayRestFromCompaction: Bool {
        !isStopped && !isClosing && !isPressed && compactCallers == 0 && erasuresToDo.isEmpty && erasureCallers.isEmpty
            && sweeps.isEmpty
            && nextRetention.map { $0 > .now } ?? true
    }

    /// Bytes of the files that take no more commits and have not become segments. Under the lock.
    private var bytesToMove: UInt64 {
        files.dropLast().reduce(0) { $1.isCompacted ? $0 : $0 + $1.header.capacity }
    }

    /// Files that take no more commits, oldest first. Under the lock.
    var sealedFiles: [CompactorMachine.File] {
        files.dropLast().map {
            CompactorMachine.File(
                sequence: $0.sequence, length: $0.header.capacity, isSettled: $0.isSettled(in: state))
        }
    }

    /// Has everything that somebody lacks move into segments, and waits until it has; or only what stands in the journal
    /// files up to one.
    func compact(through lastFile: UInt64 = .max) throws(WALError) {
        lock.lock()
        defer { lock.unlock() }
        if mayLackSubscribers {
            throw .damaged(
                path: storage.rootDescription, offset: 0,
                reason: "subscribers may be missing, so that nothing leaves the journal until the log is opened again")
        }
        compactorFailure = nil
        compactCallers += 1
        defer { compactCallers -= 1 }
        let failures = compactionStatistics.failures
        // What the present file holds moves, too, if another one can be begun.
        try waitUntilNothingIsUnderWay(spares: 2)
        if let last = files.last, last.sequence <= lastFile, last.holdsLoss || !last.isSettled(in: state),
            regularSpareCount >= 2
        {
            try commitControl(freshFile: true).get()
        }
        compactor.force(through: lastFile)
        // Until it has looked, what it does now is not what was asked for.
        compactorRests = false
        wakeCompactor()
        while !(compactorRests && !compactor.isForced) {
            if isStopped { throw refusal ?? .closed }
            if compactionStatistics.failures > failures, let failure = compactorFailure { throw failure }
            roomCondition.wait(lock)
        }
        if segments.length >= options.segmentLimit,
            sealedFiles.contains(where: { !$0.isSettled && $0.sequence <= lastFile })
        {
            throw .journalFull(reason: "segmentLimit of \(options.segmentLimit) bytes is reached")
        }
    }

    // MARK: - From the journal

    /// Adds a file's records to what waits. Under the lock, which is given up meanwhile.
    private func gather(_ sequence: UInt64, into partition: SegmentPartition<Storage>) {
        guard let place = files.firstIndex(where: { $0.sequence == sequence }) else { return }
        let (file, next) = (files[place], place + 1 < files.count ? files[place + 1] : nil)
        let extents = file.summarisedExtents ?? file.extents
        let losses = firstLosses[sequence]
        let tenants = extents.map { (index, extent) in
            let tenant = state.tenants[index]
            let bounds = SegmentPartition<Storage>.Bounds(
                acknowledged: state.releasedThrough(tenant: index), covered: tenant.segmentedThrough,
                first: min(extent.firstSequence, losses?[tenant.name] ?? .max))
            return (name: tenant.name, bounds: bounds, last: extent.lastSequence)
        }
        if compactor.gathered.isEmpty { gatheredRegistrations = registrations }
        let range = file.header.commitsStart..<max(file.header.commitsStart, file.endOffset)
        var cursor = JournalCursor(
            storage: storage, format: format, keys: FrameKeys(options.keyProvider),
            files: [readable(file, range: range, next: next)], throughCommit: .max,
            isTornBeginning: { [self] in isTornBeginning($0, in: $1) },
            // Whoever waits for it waits less where threads read ahead.
            isGentle: mayRestFromCompaction,
            hasLeft: { [self] readable in
                lock.withLock { !files.contains { $0.sequence == readable.header.fileSequence } }
            },
            erasedThrough: { [self] (tenant, _) in lock.withLock { state.erasedThrough(of: tenant) } })
        cursor.keepsFramesToCarry = true
        let repairsLosses = givesUpLosses
        lock.unlock()
        // Not under the lock: there may be thousands.
        let bounds = Dictionary(uniqueKeysWithValues: tenants.lazy.map { ($0.name, $0.bounds) })
        var failure: WALError?
        var isDamaged = false
        var forgotten: UInt64 = 0
        var carried: (records: UInt64, cause: WALError)?
        var publishesAmid = true
        if file.holdsLoss { partition.noteDamage() }
        if repairsLosses { stateLosses(before: sequence, in: partition) }
        while failure == nil, !lock.withLock({ isStopped }) {
            // What has its names and is gathered again, should the rest fail, is passed over by its numbers.
            while publishesAmid, partition.exceedsBudget {
                lock.lock()
                publishesAmid = !lacksFreeSpace(for: partition) && publishSome(partition)
                // Somebody has come who may lack what was left out: gathered again.
                if partition.isEmpty, !publishesAmid { return }
                // Or there is no room for now: the file is read to its end, and not anew at each attempt.
                lock.unlock()
            }
            do throws(WALError) {
                guard
                    let batches = try cursor.next({ tenant, sequences, _ in
                        let through = bounds[tenant].map { max($0.acknowledged, $0.covered) } ?? 0
                        return sequences.upperBound > through ? through + 1 : nil
                    })
                else { break }
                for batch in batches {
                    // Without the mark, and without its records in the journal, nothing would show that who has no keys must
                    // not append.
                    if batch.key != nil { markEncrypted() }
                    partition.add(batch, bounds[batch.tenant] ?? .init())
                }
                restFromCompaction()
            } catch {
                if case .keyForgotten(let tenant, let sequences, _) = error {
                    partition.forget(sequences, of: tenant, bounds[tenant] ?? .init())
                    forgotten += UInt64(sequences.count)
                    continue
                }
                if case .keyUnavailable(let tenant, let sequences?, _) = error, let frame = cursor.carriedFrame,
                    partition.add(frame, bounds[tenant] ?? .init())
                {
                    markEncrypted()
                    carried = ((carried?.records ?? 0) + UInt64(sequences.count), carried?.cause ?? error)
                    restFromCompaction()
                    continue
                }
                guard case .damaged = error else {
                    failure = error
                    break
                }
                // A device that fails to read now may not fail for ever; what is given up here is given up for good.
                if cursor.hasMetUnreadable, unreadableAttempts[sequence] ?? 0 < Self.mostUnreadableAttempts {
                    failure = error
                    break
                }
                isDamaged = true
                logger.error("damage in the journal: its records are lost", metadata: ["error": "\(error)"])
                partition.noteDamage()
                examine(sequence)
            }
        }
        // Of a file that has left meanwhile everybody has everything.
        if failure == nil, !cursor.hasMissedFile {
            for tenant in tenants { partition.finish(tenant.name, through: tenant.last, tenant.bounds) }
        }
        if failure == nil, repairsLosses { stateLosses(before: sequence + 1, in: partition) }
        partition.endFile()
        lock.lock()
        // Whatever was to be read of it: it is set aside and not overwritten.
        if isDamaged, let index = files.firstIndex(where: { $0.sequence == sequence }) { files[index].holdsLoss = true }
        // What was given up of it stays given up until it is in segments: it may be gathered again.
        if failure != nil, cursor.hasMetUnreadable {
            unreadableAttempts[sequence] = (unreadableAttempts[sequence] ?? 0) + 1
        }
        if let failure {
            // What was taken of the file is taken again.
            partition.removeAll()
            compactor.forgetGathered()
            giveUpCompaction(failure)
        } else if !isStopped {
            compactor.hasGathered(sequence)
            if let carried {
                logLater(
                    .warning, "records whose key is not to be had move to segments as they are",
                    ["records": "\(carried.records)", "file": "\(file.name)", "error": "\(carried.cause)"])
            }
            if forgotten > 0 {
                logLater(
                    .notice, "records whose key was forgotten leave the log",
                    ["records": "\(forgotten)", "file": "\(file.name)"])
            }
        }
    }

    /// Writes what waits; then the files that it came from are settled. Under the lock, which is given up meanwhile.
    private func publish(_ partition: SegmentPartition<Storage>) {
        // Once at least: whoever has come since it was gathered may lack what came to nothing.
        repeat {
            guard publishSome(partition) else {
                // Files may be settled by what has its names.
                reclaim()
                return wakeRoomWaiters()
            }
        } while !partition.isEmpty
        for index in files.indices where compactor.gathered.contains(files[index].sequence) {
            files[index].isCompacted = true
            unreadableAttempts[files[index].sequence] = nil
            compactionStatistics.filesCompacted += 1
        }
        compactor.forgetGathered()
        dropsMakeRoom = dropsMakeRoom || mayDropAny
        reclaim()
        wakeRoomWaiters()
    }

    /// Writes what waits of some tenants, or of all where losses are among it: a damaged file is settled only together
    /// with all that is to be said of it. Returns whether that went well. Under the lock, which is given up meanwhile.
    private func publishSome(_ partition: SegmentPartition<Storage>) -> Bool {
        lock.unlock()
        var failure: StorageError?
        var published: [SegmentPartition<Storage>.Published]?
        do throws(StorageError) {
            published = try partition.flush(
                most: partition.hasLosses ? .max : Self.mostPublishedAtATime, created: wallClockNanoseconds(),
                received: { (tenant, covered) in lock.withLock { timesReceived(covered, of: tenant) } },
                cuts: { tenant in lock.withLock { erasureEnds(of: tenant) } },
                lossCause: lock.withLock { givesUpLosses } ? .givenUp : .damaged
            ) { isNaming in
                lock.withLock { mayGoOn(since: gatheredRegistrations, isNaming: isNaming) }
            }
        } catch { failure = error }
        lock.lock()
        endNaming()
        if let failure { giveUpCompaction(.storage(failure)) }
        guard let published else {
            if failure == nil {
                // Somebody has come who may lack what was left out: gathered again.
                partition.removeAll()
                compactor.forgetGathered()
            }
            return false
        }
        // Readers look for segments again before they pass over what these cover.
        segmentGeneration += 1
        for segment in published {
            segments.add(.init(covered: segment.covered, length: segment.length), of: segment.tenant)
            state.setSegmented(segment.tenant, through: segment.covered.upperBound)
            #if Simulation
                if DeliberateBug.isActive(.countBudgetTwice), let index = state.index(of: segment.tenant) {
                    tenantStaging[index].takenLength += segment.length
                    state.countTwice(segment.length, at: index)
                }
            #endif
            // Others are looked at one by one, under the lock.
            if segments.entries(of: segment.tenant).count >= SegmentTiers.fanIn {
                mergeCandidates.insert(segment.tenant)
            }
            if let index = state.index(of: segment.tenant),
                state.releasedThrough(tenant: index) >= segment.covered.upperBound
            {
                releaseCandidates.insert(segment.tenant)
            }
            compactionStatistics.segmentsWritten += 1
            compactionStatistics.bytesWritten += segment.length
            compactionStatistics.records += segment.recordCount
            compactionStatistics.recordsCarried += segment.carriedCount
            compactionStatistics.recordsLost += segment.lostCount
            compactionStatistics.recordsForgotten += segment.forgottenCount
        }
        return true
    }

    /// Whether a compaction or merge goes on that left out what everybody had when so many subscribers had come: who
    /// comes later is promised what is there then. Once segments are given their names, who comes waits until they have
    /// them. Under the lock.
    func mayGoOn(since registrations: UInt64, isNaming: Bool) -> Bool {
        guard !isStopped, registrations == self.registrations else { return false }
        isNamingSegments = isNaming
        return true
    }

    /// Under the lock.
    func endNaming() {
        guard isNamingSegments else { return }
        isNamingSegments = false
        roomCondition.broadcast()
    }

    /// Under the lock.
    func giveUpCompaction(_ error: WALError) {
        compactionStatistics.failures += 1
        compactorFailure = error
        logLater(.error, "compaction failed and is tried again", ["error": "\(error)"])
        compactorRetry = .now + Self.retryTime
        // Nobody waits for drops that are not looked at before the next attempt.
        dropsMakeRoom = false
        if case .storage(let cause) = error, cause.code == .noSpace { dropForSpace(ofSegments: true) }
        // A frame that can neither be opened nor taken over whole: policies that drop go on making room.
        if case .keyUnavailable = error { dropIfOutOfRoom() }
        wakeRoomWaiters()
    }
}
