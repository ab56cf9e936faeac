import TelemetryWAL
import WALFormat

/// What is promised of subscribers: none is forgotten, and no cursor goes back before what was flushed, nor past what was
/// acknowledged.
extension Judge {
    /// What the subscribers had said at a moment is on disk.
    func flushed(_ then: [TenantName: Subscriber]) {
        for name in then.keys.sorted() { flushed(name, then) }
    }

    func flushed(_ name: TenantName, _ then: [TenantName: Subscriber]) {
        guard let said = then[name], said.isRegistered, !said.mayBeGone, subscribers[name]?.mayBeGone == false else {
            return
        }
        subscribers[name]?.isDurable = true
        subscribers[name]?.durable.merge(said.acknowledged) { max($0, $1) }
    }

    /// The same, said by somebody who is none of them.
    func flushedByAnother(_ then: [TenantName: Subscriber]) {
        for (name, said) in then where said.isKnownToLog && !said.mayBeGone && subscribers[name]?.mayBeGone == false {
            subscribers[name]?.isDurable = true
            subscribers[name]?.durable.merge(said.given) { max($0, $1) }
        }
    }

    /// Holds the subscribers and cursors of a log just opened against what was acknowledged. `unavailable`: tenants with a
    /// journal that could not be opened, and with it what it knows of cursors.
    func checkCursors(
        _ names: [TenantName], unavailable: Set<TenantName>, _ cursor: (TenantName, TenantName) -> UInt64
    ) {
        for (name, subscriber) in subscribers.sorted(by: { $0.key < $1.key }) {
            let isThere = names.contains(name)
            if !isThere, subscriber.isDurable, !subscriber.mayBeGone, !mediaFaults {
                fail("subscriber \(name) is forgotten")
            }
            var left = subscriber
            left.isRegistered = isThere
            left.isDurable = isThere
            left.mayBeGone = false
            left.isKnownToLog = isThere
            left.given = [:]
            if !isThere { left.acknowledged = [:] }
            for tenant in Set(attempts.map(\.tenant)).sorted() where isThere {
                let place = cursor(name, tenant)
                // Damage may bring back a subscriber that had left.
                let limit = (mediaFaults ? subscriber.ever : subscriber.acknowledged)[tenant] ?? 0
                if place > limit { fail("\(name)'s cursor of \(tenant) is \(place): past \(limit)") }
                if unavailable.contains(tenant) { continue }
                if place < subscriber.durable[tenant] ?? 0, !mediaFaults, !subscriber.mayBeGone {
                    fail("\(name)'s cursor of \(tenant) is \(place): back from \(subscriber.durable[tenant] ?? 0)")
                }
                left.acknowledged[tenant] = place
                left.durable[tenant] = place
            }
            if !isThere { left.durable = [:] }
            subscribers[name] = left
        }
        for name in names where subscribers[name] == nil { fail("subscriber \(name) was never registered") }
    }
}
