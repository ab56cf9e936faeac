import WALFormat

/// Tenants' budgets, where appends meet them.
extension LogFront {
    /// Throws `.recordTooLarge` or `.batchTooLarge` where a budget would have to be larger.
    final func checkBudget(_ policy: RetentionPolicy, count: Int, length: Int) throws(WALError) {
        guard let budget = policy.budget, UInt64(length) > budget else { return }
        let header = RecordHeader.length
        if count == 1 { throw .recordTooLarge(length: length - header, limit: Int(budget) - header) }
        throw .batchTooLarge(length: length, limit: Int(budget))
    }

    /// Sees to it that a tenant's budget has room for so many bytes, as its policy has it. Returns an error where that
    /// takes until what is staged is durable; throws `.tenantFull`, `.dropped` and, where it never will have room,
    /// `.recordTooLarge` or `.batchTooLarge`. Under the lock.
    final func makeRoomInBudget(
        of tenant: TenantName, index: Int, count: Int, length: Int
    ) throws(WALError) -> WALError? {
        let staging = tenantStaging[index]
        if staging.takenLength.addingSaturated(UInt64(length)) <= staging.lengthLimit { return nil }
        try checkPresence(of: tenant)
        let policy = retention.entries[index].policy
        guard let budget = policy.budget else {
            tenantStaging[index].lengthLimit = .max
            return nil
        }
        try checkBudget(policy, count: count, length: length)
        if hasBudget(index, length: length, budget) { return nil }
        switch policy.whenFull {
        case .backPressure:
            statistics.backPressure += 1
            throw .tenantFull(tenant: tenant, limit: budget)
        case .dropNewest:
            let isFirst = retention.noteRefused(
                UInt64(count), length: UInt64(length), at: wallClockNanoseconds(), tenant: index)
            noteRefusedRecords(of: tenant, index: index, isFirst: isFirst)
            throw .dropped(tenant: tenant, records: count)
        case .dropOldest:
            let taken = tenantStaging[index].takenLength
            if let drop = retention.overBudget(tenant: index, taken: taken, adding: UInt64(length), in: state) {
                retention.note(drop, tenant: index)
                noteDecidedDrop(drop)
            }
            return hasBudget(index, length: length, budget) ? nil : .tenantFull(tenant: tenant, limit: budget)
        }
    }

    /// Whether a budget has room for so many bytes. Brings the tenant's limit up to date.
    private final func hasBudget(_ index: Int, length: Int, _ budget: UInt64) -> Bool {
        let released = retention.releasedThrough(tenant: index, in: state)
        let limit = state.tenants[index].backlog.length(through: released).addingSaturated(budget)
        tenantStaging[index].lengthLimit = limit
        return tenantStaging[index].takenLength + UInt64(length) <= limit
    }
}
