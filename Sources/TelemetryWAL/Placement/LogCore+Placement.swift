import WALFormat
import WALStorage

/// What a journal does when a tenant comes, and tells when one has left: see `Journals`.
extension LogCore {
    /// A tenant's numbers go on here from one on: returns when that is durable. Nothing is taken of it before `readmit`.
    /// Throws `.tooManyTenants`, `.failed`, `.closed`, `.journalFull`.
    func arrive(_ tenant: TenantName, from first: UInt64) throws(WALError) {
        try lock.withLock { () throws(WALError) in
            if let refusal { throw refusal }
            let index: Int
            if let known = lookup.index(of: tenant) {
                index = known
            } else {
                try checkRoomForTenant()
                index = addTenant(tenant)
            }
            guard tenantStaging[index].nextSequence < first else { return }
            // Of a tenant that is new here, all before is elsewhere: nothing of it counts against a budget, or as dropped.
            let isNew = state.tenants[index].nextSequence == 1 && state.tenants[index].backlog.isEmpty
            let record = ControlRecord.tenantState(
                tenant: tenant, nextSequence: first,
                backlog: isNew
                    ? BacklogSummary(
                        appendedLength: 0, releasedThrough: first - 1, releasedLength: 0, oldestReceived: 0) : nil)
            // The state takes it when it is durable: a checkpoint that has it before would look as if records were missing.
            tenantStaging[index].nextSequence = first
            pendingSubscribers.append(record)
            controlIsBlocked = false
        }
        try flushAcknowledgements()
    }

    /// When the log is opened: a tenant's numbers go on from one on at the least, and, where damage may have taken what says
    /// so and records besides, behind as many as new tenants' first numbers leave out: none is given again.
    func arriveAgain(_ tenant: TenantName, from first: UInt64) throws(WALError) {
        let (next, floor) = lock.withLock {
            (state.index(of: tenant).map { state.tenants[$0].nextSequence } ?? 1, state.sequenceFloor)
        }
        let least = first.addingSaturated(floor - 1)
        if next < least { try arrive(tenant, from: least) }
    }

    /// Has all that is durable vouched for, so that views beside the writer show it before what comes elsewhere. An idle log
    /// does so by itself, after a while.
    func vouch() throws(WALError) {
        lock.lock()
        defer { lock.unlock() }
        let wanted = durableThrough
        // What is begun later vouches for it: not what is under way now.
        while needsWatermark || (wanted > 0 && durableThrough == unvouchedCommit),
            durableThrough <= wanted + UInt64(options.commitsUnderWay)
        {
            if let refusal { throw refusal }
            if !isEncoding, slotsUnderWay.isEmpty, turnsToRepeat.isEmpty {
                try commitControl().get()
            } else {
                roomCondition.wait(lock)
            }
        }
    }

    /// Registers who subscribes to the log, and forgets others unless some may be missing there: writes down what
    /// `LogState.adopt` does.
    func adopt(_ subscriptions: Subscriptions) throws(WALError) {
        try lock.withLock { () throws(WALError) in
            for (name, registration) in subscriptions.registrations.sorted(by: { $0.key < $1.key }) {
                try register(name, registration: registration)
            }
            if subscriptions.mayLackSome { return }
            for name in state.subscribers where subscriptions.registrations[name] == nil { unregister(name) }
        }
    }

    /// By subscriber, through which number it has a tenant's records, as far as that is durable.
    func cursors(of tenant: TenantName, _ subscriptions: Subscriptions) -> [TenantName: UInt64] {
        var state = lock.withLock { self.state }
        guard let index = state.index(of: tenant) else { return [:] }
        state.adopt(subscriptions)
        return Dictionary(
            uniqueKeysWithValues: state.subscribers.map { ($0, state.acknowledgedThrough($0, tenant: index)) })
    }

    private var hasQuarantine: Bool {
        do throws(StorageError) { return try !SegmentCatalog.names(in: "quarantine", storage).isEmpty } catch {
            return true
        }
    }

    /// Whether anything damaged is yet to be set aside. Under the lock.
    private var hasDamage: Bool {
        files.contains(where: \.holdsLoss) || hasFilesToSetAside || leavingFile != nil || segments.hasDamage
            || damagedSegmentsLeave
    }

    /// What was dropped of a tenant here, and erased.
    func accounts(of tenant: TenantName) -> [PlacementTable.Account] {
        lock.withLock {
            guard let index = state.index(of: tenant) else { return [] }
            let known = state.tenants[index]
            var accounts = DropCause.allCases.compactMap { cause in
                known.drops[cause].map {
                    PlacementTable.Account(tenant: tenant, cause: cause, through: known.droppedThrough, total: $0)
                }
            }
            if let erasure = known.erasure {
                accounts.append(
                    .init(
                        tenant: tenant, cause: nil, through: erasure.through,
                        total: DropTotal(firstReceived: erasure.requested)))
            }
            return accounts
        }
    }

    /// Whether nobody is promised any of a tenant's records below a number that are here, as far as that is durable.
    func hasReleased(_ tenant: TenantName, before next: UInt64) -> Bool {
        let hasReleased = lock.withLock {
            // A journal that does not know of numbers that were given in it has lost something: that may be readable yet.
            guard let index = state.index(of: tenant), state.tenants[index].nextSequence >= next else { return false }
            if mayLackSubscribers || departuresAreUnderWay || erasesAnybody { return false }
            if number > 0, hasDamage { return false }
            return state.releasedThrough(tenant: index) >= next - 1
        }
        // What was set aside for people stays in a journal of the log. (In this order: it goes there from what was asked for
        // before.)
        return hasReleased && !(number > 0 && hasQuarantine)
    }
}
