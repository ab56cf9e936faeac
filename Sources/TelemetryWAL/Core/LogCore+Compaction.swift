import CWALLinux
import Logging
import WALFormat
import WALStorage

/// The compactor's thread: it moves records that somebody lacks from the journal's oldest files into tenant segments,
/// merges small segments, and removes those that everybody has. One thread does all of it, so that nothing here happens
/// beside itself; what is decided is in `CompactorMachine` and `SegmentTiers`.
///
/// A journal file counts as settled only when its segments have their names on stable storage; segments leave only when
/// every subscriber has their records durably, or when a merge's outcome has its name. So a crash at any moment leaves
/// each record in at least one place, and sequence numbers tell where it is in two.
extension LogCore {
    #if Simulation
        static var partitionBudget: Int { 96 << 10 }
    #else
        /// Bytes of records that wait to become segments.
        static var partitionBudget: Int { 64 << 20 }
    #endif
    /// How long a compactor waits after a failure.
    private static var retryTime: UInt64 { 1_000_000_000 }
    /// So often a file that the device fails to read is tried before what can be read of it moves on without the rest.
    static var mostUnreadableAttempts: Int { 5 }

    func runCompactor() {
        cwal_lower_priority()
        let partition = SegmentPartition(storage: storage, format: format, budget: Self.partitionBudget)
        lock.lock()
        defer { lock.unlock() }
        while !isStopped {
            if eraseNext(partition) { continue }
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
                if mergeSegments() { continue }
                compactorRests = true
                compactorIsCalled = false
                roomCondition.broadcast()
                defer { compactorRests = false }
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
        var bounds: [TenantName: SegmentPartition<Storage>.Bounds] = [:]
        var lasts: [(tenant: TenantName, last: UInt64)] = []
        for (index, extent) in extents {
            let tenant = state.tenants[index]
            bounds[tenant.name] = .init(
                acknowledged: state.releasedThrough(tenant: index), covered: tenant.segmentedThrough,
                first: min(extent.firstSequence, firstLosses[sequence]?[tenant.name] ?? .max))
            lasts.append((tenant.name, extent.lastSequence))
        }
        if compactor.gathered.isEmpty { gatheredRegistrations = registrations }
        let range = file.header.commitsStart..<max(file.header.commitsStart, file.endOffset)
        var cursor = JournalCursor(
            storage: storage, format: format, keys: FrameKeys(options.keyProvider),
            files: [readable(file, range: range, next: next)], throughCommit: .max, isGentle: true,
            hasLeft: { [self] readable in
                lock.withLock { !files.contains { $0.sequence == readable.header.fileSequence } }
            },
            erasedThrough: { [self] (tenant, _) in lock.withLock { state.erasedThrough(of: tenant) } })
        let repairsLosses = givesUpLosses
        lock.unlock()
        var failure: WALError?
        var isDamaged = false
        var forgotten: UInt64 = 0
        if file.holdsLoss { partition.noteDamage() }
        if repairsLosses { stateLosses(before: sequence, in: partition) }
        while failure == nil, !lock.withLock({ isStopped }) {
            do throws(WALError) {
                guard
                    let batches = try cursor.next({ tenant, sequences, _ in
                        let through = bounds[tenant].map { max($0.acknowledged, $0.covered) } ?? 0
                        return sequences.upperBound > through ? through + 1 : nil
                    })
                else { break }
                for batch in batches { partition.add(batch, bounds[batch.tenant] ?? .init()) }
            } catch {
                if case .keyForgotten(let tenant, let sequences, _) = error {
                    partition.forget(sequences, of: tenant, bounds[tenant] ?? .init())
                    forgotten += UInt64(sequences.count)
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
            for (tenant, last) in lasts { partition.finish(tenant, through: last, bounds[tenant] ?? .init()) }
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
            if forgotten > 0 {
                logLater(
                    .notice, "records whose key was forgotten leave the log",
                    ["records": "\(forgotten)", "file": "\(file.name)"])
            }
        }
    }

    /// Writes what waits; then the files that it came from are settled. Under the lock, which is given up meanwhile.
    private func publish(_ partition: SegmentPartition<Storage>) {
        lock.unlock()
        var failure: StorageError?
        var published: [SegmentPartition<Storage>.Published]?
        do throws(StorageError) {
            published = try partition.flush(
                created: wallClockNanoseconds(),
                received: { (tenant, covered) in lock.withLock { timesReceived(covered, of: tenant) } },
                cut: { tenant in lock.withLock { decidedErasure(of: tenant) } },
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
            return
        }
        for segment in published {
            segments.add(.init(covered: segment.covered, length: segment.length), of: segment.tenant)
            state.setSegmented(segment.tenant, through: segment.covered.upperBound)
            #if Simulation
                if DeliberateBug.isActive(.countBudgetTwice), let index = state.index(of: segment.tenant) {
                    tenantStaging[index].takenLength += segment.length
                    state.countTwice(segment.length, at: index)
                }
            #endif
            mergeCandidates.insert(segment.tenant)
            releaseCandidates.insert(segment.tenant)
            compactionStatistics.segmentsWritten += 1
            compactionStatistics.bytesWritten += segment.length
            compactionStatistics.records += segment.recordCount
            compactionStatistics.recordsLost += segment.lostCount
            compactionStatistics.recordsForgotten += segment.forgottenCount
        }
        for index in files.indices where compactor.gathered.contains(files[index].sequence) {
            files[index].isCompacted = true
            unreadableAttempts[files[index].sequence] = nil
            compactionStatistics.filesCompacted += 1
        }
        compactor.forgetGathered()
        dropsMakeRoom = dropsMakeRoom || mayDropAny
        segmentGeneration += 1
        reclaim()
        wakeRoomWaiters()
    }

    /// Whether a compaction or merge goes on that left out what everybody had when so many subscribers had come: who
    /// comes later is promised what is there then. Once segments are given their names, who comes waits until they have
    /// them. Under the lock.
    private func mayGoOn(since registrations: UInt64, isNaming: Bool) -> Bool {
        guard !isStopped, registrations == self.registrations else { return false }
        isNamingSegments = isNaming
        return true
    }

    /// Under the lock.
    private func endNaming() {
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
        // Nothing moves until the key is there: policies that drop go on making room.
        if case .keyUnavailable = error { dropIfOutOfRoom() }
        wakeRoomWaiters()
    }

    // MARK: - Segments

    /// Subscribers may have all of some segments of a tenant now, or of any. Under the lock.
    func noteRelease(ofTenant index: Int?) {
        if let index {
            guard state.tenants[index].segmentedThrough > 0 else { return }
            releaseCandidates.insert(state.tenants[index].name)
        } else {
            releaseCandidates.formUnion(segments.tenants.keys)
        }
        if !releaseCandidates.isEmpty { wakeCompactor() }
    }

    /// Whether the removal of a subscriber is not durable yet: what only it lacked is not given up, since a crash would
    /// bring it back. (Journal files need not wait: the header that uses one again comes together with a checkpoint that
    /// no longer names it.) Under the lock.
    var departuresAreUnderWay: Bool {
        !pendingSubscribers.isEmpty || encodingTurn.map { !$0.subscriberRecords.isEmpty } ?? false
            || slotsUnderWay.contains { !$0.turn.subscriberRecords.isEmpty }
            || turnsToRepeat.contains { !$0.subscriberRecords.isEmpty }
    }

    /// Through which number a tenant's records may be given up. Under the lock.
    private func acknowledged(_ tenant: TenantName) -> UInt64 {
        guard !mayLackSubscribers, !departuresAreUnderWay, let index = state.index(of: tenant) else { return 0 }
        #if Simulation
            if DeliberateBug.isActive(.removeSegmentsOfOthers) {
                return state.cursors.keys.map { state.acknowledgedThrough($0, tenant: index) }.max() ?? 0
            }
        #endif
        return state.releasedThrough(tenant: index)
    }

    /// Removes segments that everybody has. Returns whether there were any. Under the lock, which is given up meanwhile.
    func removeSegments() -> Bool {
        // Asked again when the departure is durable.
        guard !departuresAreUnderWay, let tenant = releaseCandidates.popFirst() else { return false }
        // Who waits for room is told when the last of them is through, if not before.
        defer { if releaseCandidates.isEmpty { wakeRoomWaiters() } }
        // Those of a tenant that is being erased leave otherwise.
        if isBeingErased(tenant) { return true }
        let removed = segments.removeFirst(of: tenant, through: acknowledged(tenant))
        if removed.isEmpty { return true }
        let directory = SegmentName.directory(of: tenant) + "/"
        damagedSegmentsLeave = removed.contains(where: \.isDamaged)
        lock.unlock()
        var failure: StorageError?
        do throws(StorageError) {
            try storage.discard(removed.filter { !$0.isDamaged }.map { directory + $0.name })
            for entry in removed where entry.isDamaged {
                try storage.move(directory + entry.name, to: "quarantine/" + directory + entry.name)
            }
        } catch { failure = error }
        lock.lock()
        damagedSegmentsLeave = false
        compactionStatistics.segmentsRemoved += UInt64(removed.count)
        // There is room again, for journal files, too.
        preparerFailure = nil
        preparerWake.signal()
        if let failure { noteLeftover(failure) }
        return true
    }

    /// A segment that nobody needs could not be removed. It is tried again when the log is opened. Under the lock.
    private func noteLeftover(_ failure: StorageError) {
        compactionStatistics.failedRemovals += 1
        logLater(.warning, "a segment that nobody needs stays where it is", ["error": "\(failure)"])
    }

    /// Merges a row of small segments. Returns whether there was one. Under the lock, which is given up meanwhile.
    private func mergeSegments() -> Bool {
        guard let tenant = mergeCandidates.first else { return false }
        // What goes and what stays are not to come into one segment.
        if isBeingErased(tenant) {
            mergeCandidates.remove(tenant)
            return true
        }
        let entries = segments.entries(of: tenant)
        // A damaged one stands apart, whatever its length.
        guard let row = SegmentTiers.candidate(entries.map { $0.isDamaged ? .max : $0.length }) else {
            mergeCandidates.remove(tenant)
            return true
        }
        let merged = Array(entries[row])
        let (acknowledged, registrations) = (acknowledged(tenant), registrations)
        lock.unlock()
        if shortageOfSpace(for: merged.reduce(0) { $0 + $1.length }) != nil {
            // Nothing depends on it: tried again when the tenant gets its next segment.
            lock.lock()
            mergeCandidates.remove(tenant)
            return true
        }
        var merge = SegmentMerge(
            storage: storage, format: format, keys: FrameKeys(options.keyProvider),
            writer: SegmentWriter(storage: storage, format: format), tenant: tenant,
            acknowledged: acknowledged, created: wallClockNanoseconds())
        var finished: [SegmentWriter<Storage>.Finished]?
        var failure: WALError?
        do throws(WALError) {
            finished = try merge.run(merged) { lock.withLock { mayGoOn(since: registrations, isNaming: false) } }
            if finished != nil, !lock.withLock({ mayGoOn(since: registrations, isNaming: true) }) {
                merge.discard()
                finished = nil
            }
            if let finished {
                do throws(StorageError) { try storage.publish(finished.map(\.rename)) } catch { throw .storage(error) }
            }
        } catch { failure = error }
        lock.lock()
        endNaming()
        if let failure { noteFailedMerge(of: tenant, failure) }
        guard failure == nil, let finished else { return true }
        let new = finished.map {
            SegmentCatalog.Entry(covered: $0.summary.covered, length: $0.summary.length)
        }
        segments.replace(merged, of: tenant, with: new)
        compactionStatistics.segmentsMerged += UInt64(merged.count)
        compactionStatistics.bytesWritten += new.reduce(0) { $0 + $1.length }
        // Those of a tenant that is being erased are overwritten first.
        if isBeingErased(tenant) { return true }
        let directory = SegmentName.directory(of: tenant) + "/"
        lock.unlock()
        // What cannot be removed is superseded, and removed when the log is opened.
        var leftover: StorageError?
        do throws(StorageError) {
            try storage.discard(
                merged.filter { old in !new.contains { $0.name == old.name } }.map { directory + $0.name })
        } catch { leftover = error }
        lock.lock()
        if let leftover { noteLeftover(leftover) }
        return true
    }

    /// Under the lock.
    private func noteFailedMerge(of tenant: TenantName, _ failure: WALError) {
        compactionStatistics.failures += 1
        guard case .damaged(let path, _, _) = failure else {
            // Nothing depends on it: tried again when the tenant gets its next segment, others' go on.
            mergeCandidates.remove(tenant)
            logLater(.error, "segments could not be merged", ["tenant": "\(tenant)", "error": "\(failure)"])
            return
        }
        logLater(.error, "damage in a segment: its records are lost", ["error": "\(failure)"])
        segments.markDamaged(String(path.split(separator: "/").last ?? ""), of: tenant)
    }
}

/// Counters of compaction since the log was opened.
public struct CompactionStatistics: Sendable, Equatable {
    /// Journal files whose records, as far as somebody lacked them, moved into segments.
    public var filesCompacted: UInt64 = 0
    /// Records that moved.
    public var records: UInt64 = 0
    /// Records that the journal had lost when they were to move.
    public var recordsLost: UInt64 = 0
    /// Segments written out of the journal.
    public var segmentsWritten: UInt64 = 0
    /// Records that left the journal, and came into no segment, since their key was forgotten.
    public var recordsForgotten: UInt64 = 0
    /// Segments that were merged with others.
    public var segmentsMerged: UInt64 = 0
    /// Segments that every subscriber had and that were removed.
    public var segmentsRemoved: UInt64 = 0
    /// Removals of segments, of one or several, that failed: they stay until the log is opened again.
    public var failedRemovals: UInt64 = 0
    /// Bytes written to segments, merges included.
    public var bytesWritten: UInt64 = 0
    /// Compactions and merges that failed and are tried again.
    public var failures: UInt64 = 0

    func adding(_ other: CompactionStatistics) -> CompactionStatistics {
        var sum = self
        sum.filesCompacted += other.filesCompacted
        sum.records += other.records
        sum.recordsLost += other.recordsLost
        sum.segmentsWritten += other.segmentsWritten
        sum.recordsForgotten += other.recordsForgotten
        sum.segmentsMerged += other.segmentsMerged
        sum.segmentsRemoved += other.segmentsRemoved
        sum.failedRemovals += other.failedRemovals
        sum.bytesWritten += other.bytesWritten
        sum.failures += other.failures
        return sum
    }
}
