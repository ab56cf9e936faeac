import Logging
import WALFormat
import WALStorage

/// Erasing a tenant: first in the log's own words, then byte by byte.
///
/// The erasure is a control record (`ControlRecord.erasure`) that names the last number that goes. When it is durable,
/// nobody is shown the records any more, and recovery knows why frames of them fail their checks. Only then the
/// compactor's thread overwrites: the tenant's segments, which it removes, and in place what journal files hold, live,
/// spare or set aside (`FileScrub`). A second record says that all of it is done. Whoever opens the log between the
/// two goes on.
///
/// Others' appends go on meanwhile. Where the committer and the scrub would meet, in the present file and in spares,
/// one waits for a piece of the other's: a spare is taken out of the list while it is overwritten, and the present file's free
/// end is overwritten from its end on, piece by piece, none of which a commit may enter meanwhile.
extension LogCore {
    /// How long an erasure that failed waits before it is tried again, nanoseconds.
    private static var retryTime: UInt64 { 10_000_000_000 }

    // MARK: - On demand

    /// An erasure that somebody waits for, and that is durable.
    struct BegunErasure {
        var index: Int
        var report: ErasureReport
        var request: Int
        var isRepeated: Bool
        var isHeld: Bool
    }

    /// Erases all that was appended of a tenant before the call, and waits until that is done. Holds no lock.
    func erase(_ tenant: TenantName) throws(WALError) -> ErasureReport {
        let erasure = try beginErasure(of: tenant)
        defer { endWaiting(for: erasure) }
        return try finish(erasure)
    }

    /// Has an erasure durable, so that nobody is shown the records any more. Holds no lock. `endWaiting` is to follow.
    /// `limit`: no number above it is erased. `isHeld`: no byte is overwritten before `release`.
    func beginErasure(
        of tenant: TenantName, through limit: UInt64 = .max, isHeld: Bool = false
    ) throws(WALError) -> BegunErasure {
        lock.lock()
        guard let index = state.index(of: tenant) else {
            lock.unlock()
            throw .unknownTenant(tenant)
        }
        // What is staged belongs to it, and has to be there before it can be named.
        let staged = openGroup.isEmpty ? openGroup.number - 1 : openGroup.number
        lock.unlock()
        try durableBlocking(through: staged)
        lock.withLock {
            erasureCallers[index, default: 0] += 1
            if isHeld { heldErasures[index, default: 0] += 1 }
        }
        do throws(WALError) {
            let report = try lock.withLock { () throws(WALError) in
                try decideErasure(of: tenant, index: index, through: limit)
            }
            var erasure = BegunErasure(
                index: index, report: report, request: 0, isRepeated: false, isHeld: isHeld)
            if report.through == 0 { return erasure }
            lock.withLock {
                erasureRequests[index, default: 0] += 1
                erasure.request = erasureRequests[index] ?? 0
                erasure.isRepeated = isErased(through: report.through, tenant: index)
            }
            if !erasure.isRepeated { try flushAcknowledgements() }
            return erasure
        } catch {
            lock.withLock {
                noteCallerLeaves(tenant: index)
                if isHeld { endHolding(tenant: index) }
            }
            throw error
        }
    }

    /// Bytes may be overwritten.
    func release(_ erasure: BegunErasure) {
        if erasure.isHeld { lock.withLock { endHolding(tenant: erasure.index) } }
    }

    /// Under the lock.
    private func endHolding(tenant index: Int) {
        let count = heldErasures[index, default: 1] - 1
        heldErasures[index] = count > 0 ? count : nil
        wakeCompactor()
    }

    /// Whether what a journal of the log says, that a tenant is erased through a number, is still to be carried out here,
    /// where it cannot have numbers above `last`. An erasure takes all that a journal has: where there is more, it was asked
    /// for in vain, and that was told. Under the lock.
    func lacksErasure(of tenant: TenantName, through: UInt64, last: UInt64) -> Bool {
        guard let index = state.index(of: tenant) else { return false }
        let known = state.tenants[index]
        let last = min(last, known.nextSequence - 1)
        return last > known.erasedThrough && last <= through
    }

    func endWaiting(for erasure: BegunErasure) { lock.withLock { noteCallerLeaves(tenant: erasure.index) } }

    /// Waits until what an erasure said is done. Holds no lock.
    func finish(_ erasure: BegunErasure) throws(WALError) -> ErasureReport {
        let (index, through) = (erasure.index, erasure.report.through)
        if through == 0 { return try sweep(erasure.report.tenant) }
        lock.lock()
        defer { lock.unlock() }
        if erasure.isRepeated { erasureFailures[index] = nil }
        wakeCompactor()
        while true {
            let isServed = erasuresServed[index] ?? 0 >= erasure.request
            // Appends that failed since, and were never there, may have left their bytes.
            if !isServed, erasuresToDo.insert(index).inserted { wakeCompactor() }
            if isServed, isErased(through: through, tenant: index) {
                if let done = erasureReports[index], done.through >= through { return done }
                return erasure.report
            }
            if let failure = erasureFailures[index] { throw failure }
            if let refusal { throw refusal }
            if isStopped { throw .closed }
            roomCondition.wait(lock)
        }
    }

    /// Nobody may be left to be told what an erasure did. Under the lock.
    private func noteCallerLeaves(tenant index: Int) {
        erasureCallers[index, default: 0] -= 1
        guard erasureCallers[index] == 0 else { return }
        erasureCallers[index] = nil
        forgetErasure(tenant: index)
    }

    private func forgetErasure(tenant index: Int) {
        guard erasureCallers[index] == nil, !isBeingErased(tenant: index) else { return }
        erasureReports[index] = nil
        erasureFailures[index] = nil
    }

    /// Has the erasure of what is durable of a tenant written before long. Under the lock.
    private func decideErasure(
        of tenant: TenantName, index: Int, through limit: UInt64
    ) throws(WALError) -> ErasureReport {
        if let refusal { throw refusal }
        let through = min(state.tenants[index].nextSequence - 1, limit)
        if isErased(through: through, tenant: index) {
            return ErasureReport(tenant: tenant, through: through, undelivered: 0)
        }
        guard checkpointFits(growingBy: 2 * (512 + tenant.utf8.count)) else {
            throw .invalidOption("checkpoints have no room for an erasure; raise journalFileSize")
        }
        erasureFailures[index] = nil
        let causes = retention.entries[index].policy.causes.union(retention.entries[index].totals.keys)
        state.reserveDrops(causes.union([.erasure]).count, tenant: index)
        state.reserveErasure(tenant: index)
        let drop = retention.drop(tenant: index, through: through, cause: .erasure, in: state)
        if let drop { retention.note(drop, tenant: index) }
        retention.noteErasure(through: through, tenant: index)
        if erasureEnds[index]?.contains(through) != true { erasureEnds[index, default: []].append(through) }
        addPendingErasure(
            TenantErasure(through: through, requested: wallClockNanoseconds(), isComplete: false), ofTenant: index)
        admission.fileStart = fileStartBound()
        controlIsBlocked = false
        erasureUndelivered[index, default: 0] += UInt64(drop?.sequences.count ?? 0)
        return ErasureReport(tenant: tenant, through: through, undelivered: 0)
    }

    /// Has an erasure written, or what another says beyond it. Under the lock.
    func addPendingErasure(_ erasure: TenantErasure, ofTenant index: Int) {
        pendingErasures[index] = pendingErasures[index]?.later(erasure) ?? erasure
    }

    /// The records of erasures, in an order that does not depend on hashing. Under the lock.
    func erasureRecords(_ erasures: [Int: TenantErasure]) -> [ControlRecord] {
        erasures.sorted { $0.key < $1.key }.map { $1.record(of: state.tenants[$0].name) }
    }

    /// Whether all of a tenant through a number is erased, or there never was any. Under the lock.
    private func isErased(through sequence: UInt64, tenant index: Int) -> Bool {
        guard let erasure = state.tenants[index].erasure else { return sequence == 0 }
        return erasure.isComplete && erasure.through >= sequence
    }

    /// Through which number a tenant is erased, or about to be; 0: not at all. Under the lock.
    func decidedErasure(of tenant: TenantName) -> UInt64 {
        state.index(of: tenant).map { retention.entries[$0].erasedThrough } ?? 0
    }

    /// Through which numbers a tenant is erased, or may be when the log is opened again. Under the lock.
    func erasureEnds(of tenant: TenantName) -> [UInt64] {
        guard let index = state.index(of: tenant) else { return [] }
        let durable = state.tenants[index].erasedThrough
        return (erasureEnds[index] ?? []) + (durable > 0 ? [durable] : [])
    }

    /// Whether an erasure of a tenant was decided that is not complete. Under the lock.
    func isBeingErased(_ tenant: TenantName) -> Bool {
        state.index(of: tenant).map(isBeingErased(tenant:)) ?? false
    }

    private func isBeingErased(tenant index: Int) -> Bool {
        state.isBeingErased(tenant: index)
            || retention.entries[index].erasedThrough > state.tenants[index].erasedThrough
    }

    /// Whether any tenant is being erased, or about to be. Under the lock.
    var erasesAnybody: Bool {
        !erasuresToDo.isEmpty || hasSweeps || state.tenants.indices.contains { isBeingErased(tenant: $0) }
    }

    /// An erasure's record is durable. Under the lock.
    func noteErasure(_ record: ControlRecord) {
        state.apply(record)
        guard case .erasure(let tenant, let through, _, let isComplete) = record, let index = state.index(of: tenant)
        else { return }
        retention.noteErasure(through: through, tenant: index)
        if isComplete { erasureEnds[index] = erasureEnds[index]?.filter { $0 > through } }
        if state.isBeingErased(tenant: index) {
            erasuresToDo.insert(index)
        } else if isComplete {
            erasuresToDo.remove(index)
            if erasuresToDo.isEmpty, !hasSweeps { removedUnwritten = [] }
        }
        tenantStaging[index].lengthLimit = 0
        wakeCompactor()
        roomCondition.broadcast()
    }

    // MARK: - The compactor's part

    /// Goes on with an erasure that is not complete. Returns whether there was one to go on with. Under the lock, which
    /// is given up meanwhile.
    func eraseNext(_ partition: SegmentPartition<Storage>) -> Bool {
        if erasuresToDo.isEmpty { return false }
        let now = MonotonicTime.now
        let due = erasuresToDo.filter { heldErasures[$0] == nil && erasureRetries[$0].map { $0 <= now } ?? true }
        guard refusal == nil, !isClosing, let index = due.min() else { return false }
        guard let erasure = state.tenants[index].erasure else { return false }
        let (tenant, through) = (state.tenants[index].name, erasure.through)
        // Of any tenant: what an attempt leaves half done may be another's as well.
        let isAgain = !erasuresBegunBefore.isEmpty || !sweepsBegunBefore.isEmpty
        let requests = erasureRequests[index] ?? 0
        // It may hold some of the tenant's.
        partition.removeAll()
        compactor.forgetGathered()
        // With what attempts before have done.
        var report = ErasureReport(
            tenant: tenant, through: through,
            undelivered: erasure.isComplete ? 0 : erasureUndelivered[index] ?? 0)
        if erasuresBegunBefore.contains(index), let before = erasureReports[index] { report.files = before.files }
        lock.unlock()
        var failure: WALError?
        do throws(WALError) {
            do throws(StorageError) {
                // What says that these bytes may go must be there for as long as they may be gone.
                if options.durability == .processCrash {
                    try lock.withLock({ currentFile ?? sealedFile })?.synchronize()
                }
                try overwrite(&report, isAgain: isAgain)
            } catch { throw .storage(error) }
            lock.withLock {
                report.notOverwritten = removedUnwritten
                erasureReports[index] = report
                if !erasure.isComplete {
                    addPendingErasure(
                        TenantErasure(through: through, requested: erasure.requested, isComplete: true), ofTenant: index
                    )
                }
            }
            if !erasure.isComplete { try flushAcknowledgements() }
        } catch { failure = error }
        lock.lock()
        erasureReports[index] = report
        if let failure {
            erasuresBegunBefore.insert(index)
            erasureRetries[index] = .now + Self.retryTime
            // When the log is closed amid it, the next writer goes on.
            if !isClosing {
                erasureFailures[index] = failure
                logLater(
                    .error, "a tenant's erasure is not complete and is tried again",
                    ["tenant": "\(tenant)", "error": "\(failure)"])
            }
        } else {
            erasuresBegunBefore.remove(index)
            if isAgain { sweepsBegunBefore.remove(tenant) }
            erasureRetries[index] = nil
            // One more of what was erased before says nothing of what goes with the next.
            if !erasure.isComplete { erasureUndelivered[index] = nil }
            erasuresServed[index] = requests
            if erasureRequests[index] ?? 0 > requests {
                erasuresToDo.insert(index)
            } else if !state.isBeingErased(tenant: index) {
                // Unless another was begun meanwhile. Who asked for this one may have put it in again just before.
                erasuresToDo.remove(index)
                if erasuresToDo.isEmpty, !hasSweeps { removedUnwritten = [] }
            }
            tell(report)
            forgetErasure(tenant: index)
        }
        roomCondition.broadcast()
        return true
    }

    /// Nobody need wait for an erasure, as when it is another process's that this one goes on with: it is logged, too.
    /// Under the lock.
    private func tell(_ report: ErasureReport) {
        let isWhole = report.leftAlone.isEmpty && report.notOverwritten.isEmpty
        logLater(
            isWhole ? .notice : .warning,
            isWhole
                ? "a tenant is erased"
                : "a tenant is erased, but not every file in the log's directory was overwritten",
            [
                "tenant": "\(report.tenant)", "through": "\(report.through)", "files": "\(report.files.count)",
                "leftAlone": "\(report.leftAlone)", "notOverwritten": "\(report.notOverwritten)",
            ])
    }

    /// When an erasure that failed is tried again; nil if none is. Under the lock.
    var nextErasure: MonotonicTime? {
        guard refusal == nil, !isClosing else { return nil }
        return erasuresToDo.filter { heldErasures[$0] == nil }.compactMap { erasureRetries[$0] }.min()
    }
}
