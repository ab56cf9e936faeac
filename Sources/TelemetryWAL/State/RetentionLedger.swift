import WALFormat

/// What is decided about dropping records, without I/O: which numbers go, and the totals that are to be written. It is
/// ahead of `LogState` by what is not durable yet: a number counts as dropped when the control record that says so is,
/// and nothing is removed before.
///
/// Totals are cumulative and only grow, so that a record of them may be written twice, or be overtaken by a later one,
/// and each dropped record is counted once all the same.
struct RetentionLedger {
    /// Drops of one tenant for one cause.
    struct Key: Hashable {
        var tenantIndex: Int
        var cause: DropCause
    }

    struct Entry {
        var policy: RetentionPolicy
        /// Through which number records are given up, or are about to be.
        var through: UInt64
        var totals: [DropCause: DropTotal]
        /// Through which number records are erased, or are about to be.
        var erasedThrough: UInt64
    }

    private let standard: RetentionPolicy
    private var own: [TenantName: RetentionPolicy]
    /// By the tenant's index.
    private(set) var entries: [Entry] = []
    /// Totals that are to be written.
    private(set) var unwritten: Set<Key> = []

    init(standard: RetentionPolicy, own: [TenantName: RetentionPolicy]) {
        self.standard = standard
        self.own = own
    }

    /// Policy of a tenant that need not be known yet.
    func policy(of tenant: TenantName) -> RetentionPolicy { own[tenant] ?? standard }

    /// All that are set, for whomever.
    var policies: [RetentionPolicy] { [standard] + own.values }

    mutating func setPolicy(_ policy: RetentionPolicy, of tenant: TenantName, in state: LogState) {
        own[tenant] = policy
        if let index = state.index(of: tenant) { entries[index].policy = policy }
    }

    /// A tenant became known; it gets the next index.
    mutating func add(_ tenant: LogState.Tenant) {
        entries.append(
            Entry(
                policy: policy(of: tenant.name), through: tenant.droppedThrough, totals: tenant.drops,
                erasedThrough: tenant.erasedThrough))
    }

    /// Through which number nothing of a tenant is promised, what is about to be dropped included.
    func releasedThrough(tenant index: Int, in state: LogState) -> UInt64 {
        max(state.acknowledgedByAll(tenant: index), entries[index].through)
    }

    /// Whether a drop of any tenant is decided and not durable.
    func hasDropsUnderWay(in state: LogState) -> Bool {
        entries.indices.contains { entries[$0].through > state.tenants[$0].droppedThrough }
    }

    // MARK: - Deciding

    /// What has become too old by a time; nil if nothing has.
    func agedOut(tenant index: Int, at now: UInt64, in state: LogState) -> RetentionDrop? {
        guard let age = entries[index].policy.age, now > age else { return nil }
        let through = state.tenants[index].backlog.sequence(receivedBy: now - age)
        return drop(tenant: index, through: through, cause: .age, in: state)
    }

    /// What has to go for a tenant to be within its budget, with `length` bytes besides; nil if nothing has. `taken`:
    /// bytes of all records of the tenant that were ever staged. A 16th of the budget more goes, so that not each append
    /// has something to drop.
    func overBudget(
        tenant index: Int, taken: UInt64, adding length: UInt64, in state: LogState, slack: Bool = true
    ) -> RetentionDrop? {
        guard let budget = entries[index].policy.budget else { return nil }
        let released = releasedThrough(tenant: index, in: state)
        let backlog = state.tenants[index].backlog
        let total = taken + length
        guard total - min(total, backlog.length(through: released)) > budget else { return nil }
        let kept = budget - (slack ? budget / 16 : 0)
        let through = backlog.sequence(reaching: total - min(total, kept))
        return drop(tenant: index, through: through, cause: .budget, in: state)
    }

    /// The drop of a tenant's records through a number, as far as they are durable; nil if none would go.
    func drop(tenant index: Int, through sequence: UInt64, cause: DropCause, in state: LogState) -> RetentionDrop? {
        let tenant = state.tenants[index]
        let backlog = tenant.backlog
        let released = max(releasedThrough(tenant: index, in: state), backlog.baseSequence)
        let through = min(sequence, tenant.nextSequence - 1)
        guard through > released else { return nil }
        let last = backlog.received(of: through) ?? 0
        return RetentionDrop(
            tenant: tenant.name, cause: cause, sequences: released + 1...through,
            length: backlog.length(through: through) - backlog.length(through: released),
            received: min(backlog.received(of: released + 1) ?? last, last)...last)
    }

    // MARK: - Counting

    /// Records go.
    mutating func note(_ drop: RetentionDrop, tenant index: Int) {
        entries[index].through = max(entries[index].through, drop.sequences.upperBound)
        count(UInt64(drop.sequences.count), length: drop.length, received: drop.received, drop.cause, tenant: index)
    }

    /// All of a tenant's records through a number go, whether anybody lacks them or not.
    mutating func noteErasure(through sequence: UInt64, tenant index: Int) {
        entries[index].through = max(entries[index].through, sequence)
        entries[index].erasedThrough = max(entries[index].erasedThrough, sequence)
    }

    /// Records were not taken. Returns whether no such count of the tenant waited to be written before.
    mutating func noteRefused(_ records: UInt64, length: UInt64, at time: UInt64, tenant index: Int) -> Bool {
        let waited = unwritten.contains(Key(tenantIndex: index, cause: .newest))
        count(records, length: length, received: time...time, .newest, tenant: index)
        return !waited
    }

    private mutating func count(
        _ records: UInt64, length: UInt64, received: ClosedRange<UInt64>, _ cause: DropCause, tenant index: Int
    ) {
        entries[index].totals[cause, default: DropTotal()].add(records: records, length: length, received: received)
        unwritten.insert(Key(tenantIndex: index, cause: cause))
    }

    // MARK: - Writing

    /// Takes what is to be written, in an order that does not depend on hashing.
    mutating func takeUnwritten(in state: LogState) -> (keys: Set<Key>, records: [ControlRecord]) {
        let keys = unwritten
        unwritten = []
        let sorted = keys.sorted { ($0.tenantIndex, $0.cause.rawValue) < ($1.tenantIndex, $1.cause.rawValue) }
        return (keys, records(of: sorted, in: state))
    }

    /// What would be taken.
    func unwrittenRecords(in state: LogState) -> [ControlRecord] { records(of: Array(unwritten), in: state) }

    private func records(of keys: [Key], in state: LogState) -> [ControlRecord] {
        keys.compactMap { key in
            let entry = entries[key.tenantIndex]
            return entry.totals[key.cause].map {
                .dropped(
                    tenant: state.tenants[key.tenantIndex].name, cause: key.cause, through: entry.through, total: $0)
            }
        }
    }

    /// What was taken has not been written.
    mutating func giveBack(_ keys: Set<Key>) { unwritten.formUnion(keys) }
}
