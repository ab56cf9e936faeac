import Logging
import WALFormat
import WALStorage

/// The compactor's thread among segments: those that everybody has leave, and small ones are merged.
extension LogCore {
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
        if preparerFailure != nil { filesAreWaitedFor = true }
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
    func mergeSegments() -> Bool {
        guard let tenant = mergeCandidates.first else { return false }
        // What goes and what stays are not to come into one segment.
        if isBeingErased(tenant) {
            mergeCandidates.remove(tenant)
            return true
        }
        let entries = segments.entries(of: tenant)
        // A damaged one stands apart, and so does a full one, whatever their length.
        guard let row = SegmentTiers.candidate(entries.map { $0.isDamaged || $0.isFull ? .max : $0.length }) else {
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
            compactionStatistics.mergesPostponed += 1
            return true
        }
        var merge = SegmentMerge(
            storage: storage, format: format, keys: FrameKeys(options.keyProvider),
            writer: SegmentWriter(storage: storage, format: format) { [unowned self] in restFromCompaction() },
            tenant: tenant,
            acknowledged: acknowledged, created: wallClockNanoseconds())
        var finished: SegmentWriter<Storage>.Finished?
        var full: SegmentCatalog.Entry?
        var failure: WALError?
        do throws(WALError) {
            full = try merge.fullest(of: merged)
            if full == nil {
                finished = try merge.run(merged) { lock.withLock { mayGoOn(since: registrations, isNaming: false) } }
            }
            if finished != nil, !lock.withLock({ mayGoOn(since: registrations, isNaming: true) }) {
                merge.discard()
                finished = nil
            }
            if let finished {
                do throws(StorageError) { try storage.publish([finished.rename]) } catch { throw .storage(error) }
            }
        } catch { failure = error }
        lock.lock()
        endNaming()
        if let failure { noteFailedMerge(of: tenant, failure) }
        if let full { segments.markFull(full.name, of: tenant) }
        guard failure == nil, let finished else { return true }
        let new = SegmentCatalog.Entry(covered: finished.summary.covered, length: finished.summary.length)
        segments.replace(merged, of: tenant, with: [new])
        compactionStatistics.segmentsMerged += UInt64(merged.count)
        compactionStatistics.recordsForgotten += merge.forgottenCount
        if merge.forgottenCount > 0 {
            logLater(
                .notice, "records whose key was forgotten leave the log",
                ["records": "\(merge.forgottenCount)", "tenant": "\(tenant)"])
        }
        compactionStatistics.bytesWritten += new.length
        // Those of a tenant that is being erased are overwritten first.
        if isBeingErased(tenant) { return true }
        let directory = SegmentName.directory(of: tenant) + "/"
        lock.unlock()
        // What cannot be removed is superseded, and removed when the log is opened.
        var leftover: StorageError?
        do throws(StorageError) {
            try storage.discard(merged.filter { $0.name != new.name }.map { directory + $0.name })
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
