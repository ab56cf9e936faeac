import Logging
import WALFormat
import WALStorage

/// Dropping records that somebody lacks, where a policy says so: for age and budgets now and then, on the compactor's
/// thread, and for want of room when nothing else makes any. (What an append finds to be over its tenant's budget it drops
/// itself, see `LogFront+Budget`.)
///
/// A drop is a number: through it nothing of a tenant is promised to anybody any more. It takes effect when the control
/// record that states it is durable. From then on the records are to journal and segments what delivered ones are, and
/// leave with them.
extension LogCore {
    #if Simulation
        private static var briefestPass: UInt64 { 1_000_000 }
    #else
        private static var briefestPass: UInt64 { 10_000_000 }
    #endif
    private static var longestPass: UInt64 { 60_000_000_000 }
    /// How long drops of a tenant go without being logged once more.
    private static var logInterval: UInt64 { 10_000_000_000 }

    /// How long counts of records that were not taken wait for a commit to ride on, nanoseconds.
    private static var refusalInterval: UInt64 { 5_000_000_000 }

    // MARK: - Age and budgets

    /// Drops what is too old, and what is over a budget that was made smaller, if it is time to look. Under the lock,
    /// which may be given up meanwhile; returns whether it was.
    func enforceRetention() -> Bool {
        guard let due = nextRetention, MonotonicTime.now >= due else { return false }
        if !hasSegmentTimes, retention.policies.contains(where: { $0.age != nil }) {
            readSegmentTimes()
            return true
        }
        guard !isStopped, !isClosing else {
            nextRetention = nil
            return false
        }
        _ = dropByPolicy()
        planRetention()
        return false
    }

    /// Sets when to look next. Under the lock.
    func planRetention() {
        var period: UInt64?
        for policy in retention.policies {
            if policy.budget != nil, policy.whenFull == .dropOldest { period = min(period ?? .max, Self.longestPass) }
            if let age = policy.age { period = min(period ?? .max, age / 32) }
        }
        nextRetention = period.map { .now + min(max($0, Self.briefestPass), Self.longestPass) }
    }

    /// Decides what goes by age and budget. Returns it. Under the lock.
    func dropByPolicy() -> [RetentionDrop] {
        let now = wallClockNanoseconds()
        var drops: [RetentionDrop] = []
        for index in retention.entries.indices {
            var decided = [retention.agedOut(tenant: index, at: now, in: state)]
            if let drop = decided[0] { note(drop, tenant: index) }
            if retention.entries[index].policy.whenFull == .dropOldest {
                let taken = tenantStaging[index].takenLength
                decided.append(
                    retention.overBudget(tenant: index, taken: taken, adding: 0, in: state, slack: false))
                if let drop = decided[1] { note(drop, tenant: index) }
            }
            drops += decided.compactMap(\.self)
        }
        return drops
    }

    private func note(_ drop: RetentionDrop, tenant index: Int) {
        retention.note(drop, tenant: index)
        noteDrop(drop)
    }

    func noteDrop(_ drop: RetentionDrop) {
        controlIsBlocked = false
        if dozesWithoutEnd { wakeCommitter() }
        #if Simulation
            if DeliberateBug.isActive(.dropBeforeCommit) {
                for record in retention.unwrittenRecords(in: state) { state.apply(record) }
                reclaim()
            }
        #endif
        guard mayLog(drop.tenant) else { return }
        let total = state.index(of: drop.tenant).flatMap { retention.entries[$0].totals[drop.cause] }
        logLater(
            .warning, "records that some subscriber lacks are dropped",
            [
                "tenant": "\(drop.tenant)", "cause": "\(drop.cause)", "sequences": "\(drop.sequences)",
                "bytes": "\(drop.length)", "recordsSoFar": "\(total?.records ?? 0)",
            ])
    }

    func noteRefusal(_ tenant: TenantName, index: Int, isFirst: Bool) {
        // Not for each: they ride on the next commit, or are written once in a while, for which the committer wakes up.
        if isFirst, dozesWithoutEnd { wakeCommitter() }
        guard mayLog(tenant) else { return }
        logLater(
            .warning, "records are not taken: their tenant's budget is used up",
            [
                "tenant": "\(tenant)",
                "recordsSoFar": "\(retention.entries[index].totals[.newest]?.records ?? 0)",
            ])
    }

    /// Whether counts of records that were not taken are to be written although nothing else is. Under the lock.
    var refusalsAreDue: Bool {
        retention.unwritten.contains { $0.cause == .newest } && preparerFailure == nil
            && MonotonicTime.now.since(refusalsTaken) >= Self.refusalInterval
    }

    /// When they will be, if that is to come; nil otherwise. Under the lock.
    var refusalDeadline: MonotonicTime? {
        guard refusal == nil, preparerFailure == nil, retention.unwritten.contains(where: { $0.cause == .newest })
        else { return nil }
        let deadline = refusalsTaken + Self.refusalInterval
        return deadline > .now ? deadline : nil
    }

    /// Of many drops a few are logged; the totals in each tell of those between. Under the lock.
    private func mayLog(_ tenant: TenantName) -> Bool {
        if let last = lastLoggedDrops[tenant], MonotonicTime.now.since(last) < Self.logInterval { return false }
        lastLoggedDrops[tenant] = .now
        return true
    }

    // MARK: - Times of what was there before

    /// When a tenant's records were received. Under the lock.
    func timesReceived(_ sequences: ClosedRange<UInt64>, of tenant: TenantName) -> ClosedRange<UInt64> {
        guard let index = state.index(of: tenant) else { return 0...0 }
        let backlog = state.tenants[index].backlog
        let last = backlog.received(of: sequences.upperBound) ?? 0
        return min(backlog.received(of: sequences.lowerBound) ?? last, last)...last
    }

    /// Takes from the segments' summaries when their records were received, which checkpoints tell in the rough only.
    /// Under the lock, which is given up meanwhile.
    private func readSegmentTimes() {
        hasSegmentTimes = true
        for tenant in segments.tenants.keys.sorted() {
            for entry in segments.entries(of: tenant) {
                guard !isStopped else { return }
                lock.unlock()
                let summary = entry.summary(of: tenant, in: storage, format)
                lock.lock()
                if let index = state.index(of: tenant) { state.refineBacklog(with: summary, tenant: index) }
            }
        }
    }

    // MARK: - Want of room

    /// Whether it is for want of room that no journal file can be made ready, and not for a device that fails. Under the
    /// lock.
    var lacksRoom: Bool { if case .journalFull? = preparerFailure { true } else { false } }

    /// Makes room by dropping records if some is missing that compaction cannot make. Under the lock.
    func dropIfOutOfRoom() {
        guard lacksRoom else { return }
        let isAtLimit = compactor.isAtLimit(sealedFiles, segmentLength: segments.length)
        dropForSpace(ofSegments: isAtLimit || preparerLacksDisk)
    }

    /// Has the compactor wait where the file system has less free space than is to be left. Returns whether it has.
    /// Under the lock, which is given up meanwhile.
    func lacksFreeSpace(for partition: SegmentPartition<Storage>) -> Bool {
        guard options.freeSpaceFloor > 0 else { return false }
        lock.unlock()
        let error = shortageOfSpace(for: UInt64(partition.byteCount))
        lock.lock()
        guard let error else { return false }
        giveUpCompaction(error)
        // A file system that cannot say how much it has is not full.
        if case .journalFull = error { dropForSpace(ofSegments: true) }
        return true
    }

    /// Why no more than so many bytes may be taken of the file system; nil if they may. Holds no lock.
    func shortageOfSpace(for bytes: UInt64) -> WALError? {
        guard options.freeSpaceFloor > 0 else { return nil }
        do throws(StorageError) {
            let free = try storage.freeSpace()
            if free >= options.freeSpaceFloor.addingSaturated(bytes) { return nil }
            return .journalFull(
                reason:
                    "the file system has \(free) bytes left, of which freeSpaceFloor keeps \(options.freeSpaceFloor)")
        } catch { return .storage(error) }
    }

    /// Drops the oldest records of a tenant whose policy allows it, where that makes room: segments of the one that has
    /// most in them, or else all that keeps the oldest journal file. At most so much at a time; it is looked at again when
    /// it is durable, and if that was not enough. `ofSegments`: it is room on the disk that is missing, so that removing
    /// segments helps. Under the lock.
    func dropForSpace(ofSegments: Bool) {
        guard !mayLackSubscribers, !isClosing, !departuresAreUnderWay, releaseCandidates.isEmpty,
            !retention.hasDropsUnderWay(in: state) || controlIsBlocked
        else { return }
        // Where control records have no room, only such help as free a file.
        let made = (ofSegments && !controlIsBlocked && dropSegments()) || dropOldestFile()
        if made {
            wantsDrops = true
            wakeCommitter()
        }
        guard made != dropsMakeRoom else { return }
        dropsMakeRoom = made
        wakeRoomWaiters()
    }

    /// Whether any policy allows it. Under the lock.
    var mayDropAny: Bool { retention.policies.contains { $0.whenFull == .dropOldest } }

    private func mayDropOldest(_ index: Int) -> Bool { retention.entries[index].policy.whenFull == .dropOldest }

    private func dropSegments() -> Bool {
        var most: (index: Int, length: UInt64)?
        for (index, tenant) in state.tenants.enumerated() where mayDropOldest(index) {
            let length = segments.entries(of: tenant.name).reduce(0) { $0 + $1.length }
            if length > most?.length ?? 0 { most = (index, length) }
        }
        guard let most else { return false }
        let wanted = min(options.journalFileSize, max(most.length / 4, 1))
        var length: UInt64 = 0
        var through: UInt64 = 0
        for entry in segments.entries(of: state.tenants[most.index].name) where length < wanted {
            length += entry.length
            through = entry.covered.upperBound
        }
        guard let drop = retention.drop(tenant: most.index, through: through, cause: .space, in: state) else {
            return false
        }
        note(drop, tenant: most.index)
        return true
    }

    private func dropOldestFile() -> Bool {
        guard files.count > 1, let oldest = files.first, !oldest.isSettled(in: state),
            !(oldest.holdsLoss && state.cursors.isEmpty)
        else { return false }
        let kept = oldest.extents.filter { $1.lastSequence > state.settledThrough(tenant: $0) }
        guard kept.allSatisfy({ mayDropOldest($0.tenantIndex) }) else { return false }
        var made = false
        for (index, extent) in kept {
            if let drop = retention.drop(tenant: index, through: extent.lastSequence, cause: .space, in: state) {
                note(drop, tenant: index)
                made = true
            }
        }
        return made
    }

    static var policiesDoNotFit: String {
        "checkpoints have no room for what policies may drop of so many tenants; raise journalFileSize"
    }

    // MARK: - On demand

    /// Drops what the policies say, and waits until that is durable. Returns what went.
    func applyRetention() throws(WALError) -> [RetentionDrop] {
        lock.lock()
        if !hasSegmentTimes { readSegmentTimes() }
        if let refusal {
            lock.unlock()
            throw refusal
        }
        let drops = dropByPolicy()
        lock.unlock()
        if !drops.isEmpty { try flushAcknowledgements() }
        return drops
    }

    /// Sets a tenant's policy. Under the lock.
    func setRetention(_ policy: RetentionPolicy, of tenant: TenantName) throws(WALError) {
        if let index = state.index(of: tenant) {
            guard policy.causes.isEmpty || checkpointFits(growingBy: 4 * (512 + tenant.utf8.count)) else {
                throw .invalidOption(Self.policiesDoNotFit)
            }
            reserveDrops(by: policy, tenant: index)
        }
        retention.setPolicy(policy, of: tenant, in: state)
        if let index = state.index(of: tenant) {
            tenantStaging[index].lengthLimit = 0
            admission.fileStart = fileStartBound()
        }
        dropsMakeRoom = mayDropAny
        nextRetention = .now
        wakeCompactor()
        wakeRoomWaiters()
    }
}
