import TelemetryWAL
import WALFormat
import WALStorage

/// Where a subscriber gets what is new first, what keeps account of what is old: two more subscribers of the log. The
/// cursors of `NAME~backfill` say how far what is old has come, those of `NAME~boundary` where it ends; the subscriber's
/// own go on from there. All three are made durable in this order, so that after a crash what is not beyond its own
/// boundary is moved there anew, and nothing is left out.
///
/// A tenant whose earlier backlog is not through is given no new boundary: what has come since is sent from where
/// its own cursor is. The log keeps what a tenant was sent behind its boundary until its backlog is through.
struct Backfill<Storage: JournalStorage>: Sendable {
    let log: WriteAheadLogEngine<Storage>
    let subscriber: TenantName
    let backfill: TenantName
    let boundary: TenantName
    /// By tenant, through which number its backlog goes.
    let ceilings: [TenantName: UInt64]

    /// Throws `.invalidOption` where the name is too long for two more of its kind; as registering and flushing do.
    /// `begins`: who has no backlog under way gets a boundary; else what is under way is gone on with.
    init(
        _ log: WriteAheadLogEngine<Storage>, _ subscriber: TenantName, begins: Bool
    ) async throws(WALError) {
        self.log = log
        self.subscriber = subscriber
        (backfill, boundary) = try Self.names(of: subscriber)
        let isNew = !log.subscribers.contains(backfill)
        try log.register(subscriber: subscriber)
        try log.register(subscriber: backfill)
        try log.register(subscriber: boundary)
        var ceilings: [TenantName: UInt64] = [:]
        var boundaries: [TenantName: UInt64] = [:]
        func through(_ status: TenantStatus, _ name: TenantName) -> UInt64 { status.acknowledgedThrough[name] ?? 0 }
        for status in log.tenants {
            let own = through(status, subscriber)
            let (filled, end) = isNew ? (0, 0) : (through(status, backfill), through(status, boundary))
            if filled < end {
                // It goes on; where a crash came before the subscriber was moved, it is now.
                ceilings[status.name] = end
                continue
            }
            let last = begins ? status.nextSequence - 1 : own
            log.acknowledge(through: own, of: status.name, subscriber: backfill)
            boundaries[status.name] = last
            if own < last { ceilings[status.name] = last }
        }
        // Each behind the one before: a boundary without where its backlog begins would have all sent again.
        try await log.flushAcknowledgements()
        for (tenant, end) in boundaries { log.acknowledge(through: end, of: tenant, subscriber: boundary) }
        try await log.flushAcknowledgements()
        for (tenant, end) in ceilings { log.acknowledge(through: end, of: tenant, subscriber: subscriber) }
        try await log.flushAcknowledgements()
        self.ceilings = ceilings
    }

    private static func names(of subscriber: TenantName) throws(WALError) -> (TenantName, TenantName) {
        do {
            return (try TenantName("\(subscriber)~backfill"), try TenantName("\(subscriber)~boundary"))
        } catch {
            throw .invalidOption("subscriber \(subscriber): the name is too long to be sent newest first: \(error)")
        }
    }

    /// Has them keep nothing of who has no backlog.
    func follow(_ tenant: TenantName, through sequence: UInt64) {
        guard ceilings[tenant] == nil else { return }
        log.acknowledge(through: sequence, of: tenant, subscriber: backfill)
        log.acknowledge(through: sequence, of: tenant, subscriber: boundary)
    }

    /// Ends the account, if all that is old is durably acknowledged. Returns whether it is.
    func endIfDone() -> Bool {
        let cursors = Dictionary(
            uniqueKeysWithValues: log.tenants.map { ($0.name, $0.acknowledgedThrough[backfill] ?? 0) })
        guard ceilings.allSatisfy({ (cursors[$0.key] ?? .max) >= $0.value }) else { return false }
        log.unregister(subscriber: backfill)
        log.unregister(subscriber: boundary)
        return true
    }

    /// Whether a backlog is under way, of whatever run.
    static func isPending(_ log: WriteAheadLogEngine<Storage>, _ subscriber: TenantName) -> Bool {
        guard let (backfill, _) = try? names(of: subscriber) else { return false }
        return log.subscribers.contains(backfill)
    }
}
