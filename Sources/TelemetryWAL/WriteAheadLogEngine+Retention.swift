import WALFormat
import WALStorage

extension WriteAheadLogEngine {
    /// The policy that holds for a tenant, which need not be in the log yet.
    public func retention(of tenant: TenantName) -> RetentionPolicy {
        core.lock.withLock { core.retention.policy(of: tenant) }
    }

    /// Sets a tenant's policy until the log is closed: policies are the options', not the log's. What a smaller budget or
    /// a shorter age has go goes soon after. Throws `.invalidOption`.
    public func setRetention(_ policy: RetentionPolicy, of tenant: TenantName) throws(WALError) {
        try policy.checked()
        for core in journals.openCores(with: tenant) {
            try core.lock.withLock { () throws(WALError) in try core.setRetention(policy, of: tenant) }
        }
    }

    /// Drops now what is older than its policy keeps it, and what is over the budget of a tenant that drops its oldest;
    /// blocks the calling thread until that is durable. The log does the same by itself from time to time. Returns what
    /// went. Throws `.failed`, `.closed`, `.journalFull`.
    @discardableResult
    public func applyRetentionBlocking() throws(WALError) -> [RetentionDrop] {
        var drops: [RetentionDrop] = []
        for core in journals.all { drops += try core.applyRetention() }
        return drops
    }
}

extension WriteAheadLogReader {
    /// What `applyRetentionBlocking` would drop at a time (nanoseconds since 1970, UTC), were these the policies. Ages of
    /// what is in segments are taken from the segments; reads their summaries. Throws `.invalidOption`.
    public func retentionPlan(
        _ standard: RetentionPolicy, own: [TenantName: RetentionPolicy] = [:], at now: UInt64
    ) throws(WALError) -> [RetentionDrop] {
        try standard.checked()
        for policy in own.values { try policy.checked() }
        var ledger = RetentionLedger(standard: standard, own: own)
        var state = recovered.state
        var plan: [RetentionDrop] = []
        for (index, tenant) in recovered.state.tenants.enumerated() {
            ledger.add(tenant)
            let policy = ledger.policy(of: tenant.name)
            if policy.age != nil {
                for entry in recovered.segments.entries(of: tenant.name) {
                    state.refineBacklog(with: entry.summary(of: tenant.name, in: storage, format), tenant: index)
                }
            }
            if let drop = ledger.agedOut(tenant: index, at: now, in: state) {
                ledger.note(drop, tenant: index)
                plan.append(drop)
            }
            guard policy.whenFull == .dropOldest else { continue }
            let taken = state.tenants[index].backlog.appendedLength
            if let drop = ledger.overBudget(tenant: index, taken: taken, adding: 0, in: state, slack: false) {
                ledger.note(drop, tenant: index)
                plan.append(drop)
            }
        }
        for journal in journals.dropFirst() {
            if case .success(let view) = journal.view { plan += try view.retentionPlan(standard, own: own, at: now) }
        }
        return plan
    }
}
