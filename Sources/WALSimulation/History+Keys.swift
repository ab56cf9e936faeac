import SimulatedKeys
import TelemetryWAL
import WALFormat

/// What happens to tenants' keys: new ones come, some are away for a while, some are destroyed.
extension History {
    /// Gives a tenant another key now and then.
    func rotateSometimes() {
        guard let rotatesOneIn, keyRandom.chance(oneIn: rotatesOneIn) else { return }
        let tenant = keyRandom.pick(tenants)
        let identifier = keys.rotate(tenant)
        kernel.note("\(tenant) gets key \(identifier)")
    }

    /// Nobody can say for a while which keys a tenant has.
    func loseKeysSometimes() {
        guard let losesKeysOneIn, awayRandom.chance(oneIn: losesKeysOneIn) else { return }
        let tenant = awayRandom.pick(tenants)
        let areAway = awayRandom.chance(oneIn: 2)
        setKeys(of: tenant, areAway: areAway)
        kernel.note("the keys of \(tenant) are \(areAway ? "away" : "there")")
    }

    func setKeys(of tenant: TenantName, areAway: Bool) {
        keys.setFailing(areAway, tenant)
        let wereAway = tenantsWhoseKeysAreAway.contains(tenant)
        if areAway { tenantsWhoseKeysAreAway.insert(tenant) } else { tenantsWhoseKeysAreAway.remove(tenant) }
        if wereAway, !areAway { keysCameBack[tenant] = scheduler.wallClock }
    }

    /// Whether a tenant's keys have been away at any moment since a time.
    func wereKeysAway(_ tenant: TenantName, since time: UInt64) -> Bool {
        tenantsWhoseKeysAreAway.contains(tenant) || keysCameBack[tenant].map { $0 >= time } ?? false
    }

    /// A key is destroyed, and what was encrypted with it.
    func forgetSometimes() {
        guard let forgetsOneIn, awayRandom.chance(oneIn: forgetsOneIn) else { return }
        let tenant = awayRandom.pick(tenants)
        let retired = keys.retiredIdentifiers(of: tenant)
        guard !retired.isEmpty else { return }
        let identifier = awayRandom.pick(retired)
        keys.forget(identifier)
        registry.forgottenKeys[identifier] = judge.attempts.count
        judge.tenantsWithoutKeys.insert(tenant)
        kernel.note("key \(identifier) of \(tenant) is destroyed")
    }
}
