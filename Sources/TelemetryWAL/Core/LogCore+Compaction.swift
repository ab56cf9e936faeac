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

    func runCompactor() {
        cwal_lower_priority()
        let partition = SegmentPartition(storage: storage, format: format, budget: Self.partitionBudget)
        lock.lock()
        defer { lock.unlock() }
        while !isStopped {
            if let retry = compactorRetry {
                guard MonotonicTime.now >= retry else {
                    compactorWake.wait(lock, until: retry)
                    continue
                }
                compactorRetry = nil
            }
            switch nextCompaction(isFull: partition.isFull) {
            case .gather(let sequence): gather(sequence, into: partition)
            case .publish: publish(partition)
            case .rest:
                if removeSegments() || mergeSegments() { continue }
                compactorRests = true
                roomCondition.broadcast()
                defer { compactorRests = false }
                compactorWake.wait(lock)
            }
        }
    }

    /// Under the lock.
    private func nextCompaction(isFull: Bool) -> CompactorMachine.Step {
        guard !mayLackSubscribers else { return .rest }
        return compactor.next(
            sealedFiles, isPressed: isPressed, isFull: isFull, segmentLength: segments.length)
    }

    private var isPressed: Bool { preparerFailure != nil }

    /// Files that take no more commits, oldest first. Under the lock.
    var sealedFiles: [CompactorMachine.File] {
        files.dropLast().map {
            CompactorMachine.File(
                sequence: $0.sequence, length: $0.header.capacity, isSettled: $0.isSettled(in: state))
        }
    }

    /// Has everything that somebody lacks move into segments, and waits until it has.
    func compact() throws(WALError) {
        lock.lock()
        defer { lock.unlock() }
        let failures = compactionStatistics.failures
        // What the present file holds moves, too, if another one can be begun.
        while isEncoding || !slotsUnderWay.isEmpty || !turnsToRepeat.isEmpty
            || (regularSpareCount < 2 && preparerHasWork)
        {
            if let refusal { throw refusal }
            preparerWake.signal()
            roomCondition.wait(lock)
        }
        if let refusal { throw refusal }
        if let last = files.last, !last.isSettled(in: state), regularSpareCount >= 2 {
            try commitControl(freshFile: true).get()
        }
        compactor.force()
        // Until it has looked, what it does now is not what was asked for.
        compactorRests = false
        wakeCompactor()
        while !(compactorRests && !compactor.isForced) {
            if isStopped { throw refusal ?? .closed }
            if compactionStatistics.failures > failures, let failure = compactorFailure { throw failure }
            roomCondition.wait(lock)
        }
    }

    // MARK: - From the journal

    /// Adds a file's records to what waits. Under the lock, which is given up meanwhile.
    private func gather(_ sequence: UInt64, into partition: SegmentPartition<Storage>) {
        guard let file = files.first(where: { $0.sequence == sequence }) else { return }
        let extents = file.summarisedExtents ?? file.extents
        var bounds: [TenantName: SegmentPartition<Storage>.Bounds] = [:]
        var lasts: [(tenant: TenantName, last: UInt64)] = []
        for (index, extent) in extents {
            let tenant = state.tenants[index]
            bounds[tenant.name] = .init(
                acknowledged: state.acknowledgedByAll(tenant: index), covered: tenant.segmentedThrough)
            lasts.append((tenant.name, extent.lastSequence))
        }
        let range = file.header.commitsStart..<max(file.header.commitsStart, file.endOffset)
        var cursor = JournalCursor(
            storage: storage, format: format, files: [readable(file, range: range)], throughCommit: .max,
            isGentle: true,
            hasLeft: { [self] readable in
                lock.withLock { !files.contains { $0.sequence == readable.header.fileSequence } }
            })
        lock.unlock()
        var failure: WALError?
        if file.holdsLoss { partition.noteDamage() }
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
                guard case .damaged = error else {
                    failure = error
                    break
                }
                logger.error("damage in the journal: its records are lost", metadata: ["error": "\(error)"])
                partition.noteDamage()
                examine(sequence)
            }
        }
        // Of a file that has left meanwhile everybody has everything.
        if failure == nil, !cursor.hasMissedFile {
            for (tenant, last) in lasts { partition.finish(tenant, through: last, bounds[tenant] ?? .init()) }
        }
        partition.endFile()
        lock.lock()
        if let failure {
            // What was taken of the file is taken again.
            partition.removeAll()
            compactor.forgetGathered()
            giveUpCompaction(failure)
        } else if !isStopped {
            compactor.hasGathered(sequence)
        }
    }

    /// Writes what waits; then the files that it came from are settled. Under the lock, which is given up meanwhile.
    private func publish(_ partition: SegmentPartition<Storage>) {
        lock.unlock()
        var failure: StorageError?
        var published: [SegmentPartition<Storage>.Published]?
        do throws(StorageError) {
            published = try partition.flush(created: wallClockNanoseconds()) { !lock.withLock { isStopped } }
        } catch { failure = error }
        lock.lock()
        if let failure { giveUpCompaction(.storage(failure)) }
        guard let published else { return }
        for segment in published {
            segments.add(.init(covered: segment.covered, length: segment.length), of: segment.tenant)
            state.setSegmented(segment.tenant, through: segment.covered.upperBound)
            mergeCandidates.insert(segment.tenant)
            compactionStatistics.segmentsWritten += 1
            compactionStatistics.bytesWritten += segment.length
            compactionStatistics.records += segment.recordCount
            compactionStatistics.recordsLost += segment.lostCount
        }
        for index in files.indices where compactor.gathered.contains(files[index].sequence) {
            files[index].isCompacted = true
            compactionStatistics.filesCompacted += 1
        }
        compactor.forgetGathered()
        segmentGeneration += 1
        reclaim()
        wakeRoomWaiters()
    }

    /// Under the lock.
    private func giveUpCompaction(_ error: WALError) {
        compactionStatistics.failures += 1
        compactorFailure = error
        logLater(.error, "compaction failed and is tried again", ["error": "\(error)"])
        compactorRetry = .now + Self.retryTime
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

    /// Through which number a tenant's records may be given up. Under the lock.
    private func acknowledged(_ tenant: TenantName) -> UInt64 {
        guard !mayLackSubscribers, let index = state.index(of: tenant) else { return 0 }
        #if Simulation
            if DeliberateBug.isActive(.removeSegmentsOfOthers) {
                return state.cursors.keys.map { state.acknowledgedThrough($0, tenant: index) }.max() ?? 0
            }
        #endif
        return state.acknowledgedByAll(tenant: index)
    }

    /// Removes segments that everybody has. Returns whether there were any. Under the lock, which is given up meanwhile.
    func removeSegments() -> Bool {
        guard let tenant = releaseCandidates.popFirst() else { return false }
        // Who waits for room is told when the last of them is through, if not before.
        defer { if releaseCandidates.isEmpty { wakeRoomWaiters() } }
        let removed = segments.removeFirst(of: tenant, through: acknowledged(tenant))
        if removed.isEmpty { return true }
        let directory = SegmentName.directory(of: tenant) + "/"
        lock.unlock()
        var failure: StorageError?
        do throws(StorageError) {
            try storage.discard(removed.filter { !$0.isDamaged }.map { directory + $0.name })
            for entry in removed where entry.isDamaged {
                try storage.move(directory + entry.name, to: "quarantine/" + directory + entry.name)
            }
        } catch { failure = error }
        lock.lock()
        compactionStatistics.segmentsRemoved += UInt64(removed.count)
        // There is room again, for journal files, too.
        preparerFailure = nil
        preparerWake.signal()
        if let failure {
            // It is tried again when the log is opened.
            logLater(.warning, "a segment that everybody has stays where it is", ["error": "\(failure)"])
        }
        return true
    }

    /// Merges a row of small segments. Returns whether there was one. Under the lock, which is given up meanwhile.
    private func mergeSegments() -> Bool {
        guard let tenant = mergeCandidates.first else { return false }
        let entries = segments.entries(of: tenant)
        // A damaged one stands apart, whatever its length.
        guard let row = SegmentTiers.candidate(entries.map { $0.isDamaged ? .max : $0.length }) else {
            mergeCandidates.remove(tenant)
            return true
        }
        let merged = Array(entries[row])
        let acknowledged = acknowledged(tenant)
        lock.unlock()
        var merge = SegmentMerge(
            storage: storage, format: format, writer: SegmentWriter(storage: storage, format: format), tenant: tenant,
            acknowledged: acknowledged, created: wallClockNanoseconds())
        var finished: [SegmentWriter<Storage>.Finished]?
        var failure: WALError?
        do throws(WALError) {
            finished = try merge.run(merged) { !lock.withLock { isStopped } }
            if let finished {
                do throws(StorageError) { try storage.publish(finished.map(\.rename)) } catch { throw .storage(error) }
            }
        } catch { failure = error }
        lock.lock()
        if let failure { noteFailedMerge(of: tenant, failure) }
        guard failure == nil, let finished else { return true }
        let new = finished.map {
            SegmentCatalog.Entry(covered: $0.summary.covered, length: $0.summary.length)
        }
        segments.replace(merged, of: tenant, with: new)
        compactionStatistics.segmentsMerged += UInt64(merged.count)
        compactionStatistics.bytesWritten += new.reduce(0) { $0 + $1.length }
        let directory = SegmentName.directory(of: tenant) + "/"
        lock.unlock()
        // What cannot be removed is superseded, and removed when the log is opened.
        try? storage.discard(merged.filter { old in !new.contains { $0.name == old.name } }.map { directory + $0.name })
        lock.lock()
        return true
    }

    /// Under the lock.
    private func noteFailedMerge(of tenant: TenantName, _ failure: WALError) {
        guard case .damaged(let path, _, _) = failure else {
            giveUpCompaction(failure)
            return
        }
        logLater(.error, "damage in a segment: its records are lost", ["error": "\(failure)"])
        compactionStatistics.failures += 1
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
    /// Segments that were merged with others.
    public var segmentsMerged: UInt64 = 0
    /// Segments that every subscriber had and that were removed.
    public var segmentsRemoved: UInt64 = 0
    /// Bytes written to segments, merges included.
    public var bytesWritten: UInt64 = 0
    /// Compactions and merges that failed and are tried again.
    public var failures: UInt64 = 0
}
