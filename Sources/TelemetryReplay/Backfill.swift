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
struct Backfill<Storage: JournalStorage>: BacklogAccount {
    let log: WriteAheadLogEngine<Storage>
    let subscriber: TenantName
    let backfill: TenantName
    let boundary: TenantName
    /// By tenant, through which number its backlog goes, of those that are asked for, and of all.
    let ceilings: [TenantName: UInt64]
    private let allCeilings: [TenantName: UInt64]
    private let progress = Progress()

    /// How far backlogs have come.
    ///
    /// Safe to share although unchecked: touched by the task only that runs the replay.
    private final class Progress: @unchecked Sendable {
        var filledThrough: [TenantName: UInt64] = [:]
    }

    /// `begins`: who has no backlog under way gets a boundary; else what is under way is gone on with. `tenants`: of whom;
    /// nil: of all. Throws `.invalidOption` where the name is too long for two more of its kind; as registering and flushing
    /// do.
    init(
        _ log: WriteAheadLogEngine<Storage>, _ subscriber: TenantName, of tenants: Set<TenantName>?, begins: Bool
    ) async throws(WALError) {
        self.log = log
        self.subscriber = subscriber
        (backfill, boundary) = try Self.names(of: subscriber)
        let isNew = !log.subscribers.contains(backfill)
        try log.register(subscriber: subscriber)
        try log.register(subscriber: backfill)
        try log.register(subscriber: boundary)
        var pending: [TenantName: UInt64] = [:]
        var boundaries: [TenantName: UInt64] = [:]
        for status in log.tenants {
            let own = Self.through(status, subscriber)
            let end = isNew ? 0 : status.acknowledgedThrough[boundary] ?? 0
            if !isNew, Self.through(status, backfill) < end {
                // It goes on; where a crash came before the subscriber was moved, it is now.
                pending[status.name] = end
                continue
            }
            let last = begins && tenants?.contains(status.name) ?? true ? status.nextSequence - 1 : own
            log.acknowledge(through: own, of: status.name, subscriber: backfill)
            boundaries[status.name] = last
            if own < last { pending[status.name] = last }
        }
        // Each behind the one before: a boundary without where its backlog begins would have all sent again.
        try await log.flushAcknowledgements()
        for (tenant, end) in boundaries { log.acknowledge(through: end, of: tenant, subscriber: boundary) }
        try await log.flushAcknowledgements()
        for (tenant, end) in pending { log.acknowledge(through: end, of: tenant, subscriber: subscriber) }
        try await log.flushAcknowledgements()
        allCeilings = pending
        ceilings = pending.filter { tenants?.contains($0.key) ?? true }
    }

    /// Through which number a subscriber has a tenant's records, or nobody has them any more.
    private static func through(_ status: TenantStatus, _ name: TenantName) -> UInt64 {
        max(status.acknowledgedThrough[name] ?? 0, status.droppedThrough)
    }

    private static func names(of subscriber: TenantName) throws(WALError) -> (TenantName, TenantName) {
        do {
            return (try TenantName("\(subscriber)~backfill"), try TenantName("\(subscriber)~boundary"))
        } catch {
            throw .invalidOption("subscriber \(subscriber): the name is too long to be sent newest first: \(error)")
        }
    }

    /// Takes note of how far a tenant's backlog is delivered.
    func noteFilled(_ tenant: TenantName, through sequence: UInt64) {
        progress.filledThrough[tenant] = max(progress.filledThrough[tenant] ?? 0, sequence)
    }

    /// The subscriber has a tenant's records through a number: the log keeps nothing of them for who has no backlog, or none
    /// any more.
    func follow(_ tenant: TenantName, through sequence: UInt64) {
        if let end = allCeilings[tenant], progress.filledThrough[tenant] ?? 0 < end { return }
        log.acknowledge(through: sequence, of: tenant, subscriber: backfill)
        log.acknowledge(through: sequence, of: tenant, subscriber: boundary)
    }

    /// All that is old was delivered, or cannot be.
    func acknowledgeAll() {
        for (tenant, end) in ceilings {
            noteFilled(tenant, through: end)
            log.acknowledge(through: end, of: tenant, subscriber: backfill)
        }
    }

    /// Ends the account, if all that is old is durably acknowledged. Returns whether it is.
    func endIfDone() -> Bool {
        // Who cannot be looked at may have a backlog.
        guard log.residences().allSatisfy({ $0.fault == nil }) else { return false }
        let statuses = log.tenants
        let filled = Dictionary(uniqueKeysWithValues: statuses.map { ($0.name, Self.through($0, backfill)) })
        guard allCeilings.allSatisfy({ filled[$0.key] ?? 0 >= $0.value }) else { return false }
        // First what a crash may leave alone: without a boundary there is no backlog.
        log.unregister(subscriber: boundary)
        log.unregister(subscriber: backfill)
        return true
    }

    /// Whether a backlog is under way, of whatever run.
    static func isPending(_ log: WriteAheadLogEngine<Storage>, _ subscriber: TenantName) -> Bool {
        guard let (backfill, _) = try? names(of: subscriber) else { return false }
        return log.subscribers.contains(backfill)
    }
}

/// Who keeps account of what is old.
protocol BacklogAccount: Sendable {
    /// All that is old was delivered, or cannot be.
    func acknowledgeAll()
    /// Ends the account, if all that is old is durably acknowledged. Returns whether it is.
    func endIfDone() -> Bool
}
