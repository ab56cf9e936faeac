import WALFormat
import WALStorage

/// Overwriting what appends that failed may have left of a tenant that has no record to be erased.
///
/// Nothing is said of it in the log: there is no number that it could name, and a journal that does not know the tenant does
/// not get to know it. So nobody goes on with a sweep that was not finished; whoever asked for it is told, and asks again.
extension LogCore {
    /// Sweeps that somebody waits for, of one tenant.
    struct Sweep {
        /// How often it was asked for, and how many of these an overwriting begun since has served, well or not.
        var requested = 0
        var served = 0
        var callers = 0
        var outcome: Result<ErasureReport, WALError>
    }

    /// Overwrites whatever no commit accounts for, and of the tenant what nobody is promised, wherever the log's directory
    /// holds it, and waits until that is done. Records that are appended meanwhile stay. Holds no lock.
    func sweep(_ tenant: TenantName) throws(WALError) -> ErasureReport {
        lock.lock()
        defer { lock.unlock() }
        var sweep =
            sweeps[tenant] ?? Sweep(outcome: .success(ErasureReport(tenant: tenant, through: 0, undelivered: 0)))
        sweep.requested += 1
        sweep.callers += 1
        let request = sweep.requested
        sweeps[tenant] = sweep
        defer {
            sweeps[tenant]?.callers -= 1
            if sweeps[tenant]?.callers == 0 { sweeps[tenant] = nil }
        }
        wakeCompactor()
        while true {
            if let sweep = sweeps[tenant], sweep.served >= request { return try sweep.outcome.get() }
            if let refusal { throw refusal }
            if isStopped || isClosing { throw .closed }
            roomCondition.wait(lock)
        }
    }

    /// Whether any sweep is under way or to be begun. Under the lock.
    var hasSweeps: Bool { sweeps.contains { $0.value.served < $0.value.requested } }

    /// Does a sweep. Returns whether there was one to do. Under the lock, which is given up meanwhile.
    func sweepNext() -> Bool {
        if sweeps.isEmpty { return false }
        let due = sweeps.filter { $0.value.served < $0.value.requested }
        guard refusal == nil, !isClosing, let (tenant, sweep) = due.min(by: { $0.key < $1.key }) else { return false }
        let isAgain = !erasuresBegunBefore.isEmpty || !sweepsBegunBefore.isEmpty
        var report = ErasureReport(tenant: tenant, through: 0, undelivered: 0)
        lock.unlock()
        var failure: WALError?
        do throws(StorageError) { try overwrite(&report, isAgain: isAgain) } catch { failure = .storage(error) }
        lock.lock()
        report.notOverwritten = removedUnwritten
        if failure != nil { sweepsBegunBefore.insert(tenant) } else if isAgain { sweepsBegunBefore.remove(tenant) }
        // Who waits is told that the log has ended.
        if failure != nil, isStopped || isClosing || refusal != nil {
            roomCondition.broadcast()
            return true
        }
        sweeps[tenant]?.served = sweep.requested
        sweeps[tenant]?.outcome = failure.map { .failure($0) } ?? .success(report)
        if erasuresToDo.isEmpty, !hasSweeps { removedUnwritten = [] }
        roomCondition.broadcast()
        return true
    }
}
