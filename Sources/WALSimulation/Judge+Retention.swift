import TelemetryWAL
import WALFormat

/// What a log says that it dropped: only what a policy lets go, each record counted once, and what is said stays said.
extension Judge {
    /// Whether records of a tenant may go that somebody lacks.
    func mayDrop(_ tenant: TenantName) -> Bool {
        let policy = policy(tenant)
        return policy.age != nil || policy.whenFull == .dropOldest || erasureMarks[tenant] != nil
    }

    /// Holds what a view says of drops and backlogs against the policies, and against what it shows. To be asked before
    /// `check`, which must know what may be gone.
    func checkDrops(
        _ tenants: [TenantStatus], _ records: [(TenantName, UInt64, Int, Int)], at now: UInt64
    ) {
        noteMediaFaults()
        seen.dropped = Dictionary(uniqueKeysWithValues: tenants.map { ($0.name, $0.droppedThrough) })
        for (name, through) in kept.dropped where through > 0 && seen.dropped[name] == nil && !mediaFaults {
            fail("\(name)'s drops are gone, which were at \(through)")
        }
        for tenant in tenants {
            let through = tenant.droppedThrough
            let name = tenant.name
            let isErased = through <= tenant.erasure?.through ?? 0 || mediaFaults
            if through > 0, !isErased, policy(name).age == nil, policy(name).whenFull != .dropOldest {
                fail("\(name) lost records through \(through) to no policy")
            }
            if through < kept.dropped[name] ?? 0, !mediaFaults {
                fail("\(name)'s drops are back at \(through) from \(kept.dropped[name] ?? 0)")
            }
            dropped[name] = max(dropped[name] ?? 0, through)
            // Damage may have taken the record of a drop by which the log had given up more.
            if mediaFaults, mayDrop(name) {
                let highest = attempts.lazy.filter { $0.tenant == name }.compactMap(\.sequence).max()
                dropped[name] = max(dropped[name] ?? 0, highest ?? 0)
            }
            mayReclaim(name, through: dropped[name] ?? 0)
            checkTotals(tenant)
            checkAge(tenant, at: now)
            checkBacklog(tenant, records)
        }
    }

    private func checkTotals(_ tenant: TenantStatus) {
        let policy = policy(tenant.name)
        var counted: UInt64 = 0
        for (cause, total) in tenant.drops {
            let isMeant =
                switch cause {
                case .age: policy.age != nil
                case .budget: policy.budget != nil && policy.whenFull == .dropOldest
                case .space: policy.whenFull == .dropOldest
                case .newest: policy.budget != nil && policy.whenFull == .dropNewest
                case .erasure: erasureMarks[tenant.name] != nil
                }
            if !isMeant { fail("\(tenant.name) lost \(total.records) records for \(cause), which is not its policy") }
            if cause != .newest { counted += total.records }
        }
        // Numbers that a tenant had in another journal meanwhile count where it came back to, too.
        if counted > tenant.droppedThrough, placements[tenant.name] == nil {
            fail("\(tenant.name) counts \(counted) records as dropped, of \(tenant.droppedThrough)")
        }
        let handedOver = attempts.reduce(0) { $0 + ($1.tenant == tenant.name ? UInt64($1.length) + 16 : 0) }
        if tenant.drops[.budget] != nil, !mediaFaults, handedOver <= policy.budget ?? 0 {
            fail("\(tenant.name) was never over its budget and lost records to it")
        }
    }

    /// Records that went for age only are old enough.
    private func checkAge(_ tenant: TenantStatus, at now: UInt64) {
        guard let age = policy(tenant.name).age, tenant.drops.keys.allSatisfy({ $0 == .age || $0 == .newest }) else {
            return
        }
        // Damage may have taken what says that they went for an erasure.
        if mediaFaults, erasureMarks[tenant.name] != nil { return }
        for attempt in attempts where attempt.tenant == tenant.name {
            guard let sequence = attempt.sequence, sequence <= tenant.droppedThrough,
                sequence > tenant.erasure?.through ?? 0
            else { continue }
            if attempt.time + age > now {
                fail("\(tenant.name)/\(sequence) went for its age, of \(now - attempt.time) ns")
            }
        }
    }

    /// While nobody has acknowledged anything and nothing was dropped, bytes are known exactly.
    private func checkBacklog(_ tenant: TenantStatus, _ records: [(TenantName, UInt64, Int, Int)]) {
        guard !mediaFaults, !tenantsWithoutKeys.contains(tenant.name), tenant.droppedThrough == 0,
            tenant.acknowledgedThrough.values.allSatisfy({ $0 == 0 }),
            reclaimedThrough(tenant.name) == 0,
            // A journal of its own may have known of a subscriber, and what it had, that the shared one did not yet.
            placements[tenant.name] == nil || subscribers.isEmpty
        else { return }
        let there = records.reduce(0) { $0 + ($1.0 == tenant.name ? UInt64($1.3) + 16 : 0) }
        if tenant.backlogLength != there {
            fail("\(tenant.name) has \(there) bytes waiting and counts \(tenant.backlogLength)")
        }
        let policy = policy(tenant.name)
        // Each journal has the whole budget.
        if let budget = policy.budget, there > budget, placements[tenant.name] == nil {
            fail("\(tenant.name) has \(there) bytes: over its budget")
        }
    }
}
