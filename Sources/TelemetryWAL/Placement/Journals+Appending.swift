import WALFormat
import WALStorage

/// Appends, which go on in another journal where their tenant has moved meanwhile.
extension Journals {
    /// Blocks while a tenant is on its way.
    func waitWhileMoving(_ tenant: TenantName) {
        lock.withLock { while moving == tenant, !isClosed { moveEnds.wait(lock) } }
    }

    /// Suspends while a tenant is on its way.
    func suspendWhileMoving(_ tenant: TenantName) async {
        await Waiter.suspend { waiter in
            let waits = lock.withLock {
                guard moving == tenant, !isClosed else { return false }
                waiters.append(waiter)
                return true
            }
            if !waits { waiter.resume() }
        }
    }

    /// Runs an append on the journal where a tenant's records go; again, where the tenant has gone elsewhere meanwhile.
    @inline(__always)
    func appending<Value>(
        to tenant: TenantName, _ append: (LogCore<Storage>) throws(WALError) -> Value
    ) throws(WALError) -> Value {
        while true {
            let core = try core(of: tenant)
            do throws(WALError) { return try append(core) } catch {
                guard hasLeft(tenant, core, error) else { throw error }
            }
            waitWhileMoving(tenant)
        }
    }

    /// The same, suspending.
    @inline(__always)
    func appendSuspending(
        _ load: LogFront.Load, tenant: TenantName, length: Int
    ) async throws(WALError) -> UInt64 {
        while true {
            let core = try core(of: tenant)
            do throws(WALError) {
                return try await core.appendSuspending(load, tenant: tenant, length: length)
            } catch {
                guard hasLeft(tenant, core, error) else { throw error }
            }
            await suspendWhileMoving(tenant)
        }
    }

    /// The same, without waiting for anything.
    @inline(__always)
    func enqueue(_ record: TelemetryRecord, tenant: TenantName, length: Int) throws(WALError) -> Ticket {
        while true {
            let core = try core(of: tenant)
            do throws(WALError) {
                return Ticket(
                    group: try core.enqueue(record, tenant: tenant, length: length), journal: core.number)
            } catch {
                guard hasLeft(tenant, core, error), !lock.withLock({ moving == tenant }) else { throw error }
            }
        }
    }

    /// Whether a journal refused an append since the tenant is elsewhere, or about to be.
    @inline(never)
    private func hasLeft(_ tenant: TenantName, _ core: LogCore<Storage>, _ error: WALError) -> Bool {
        switch error {
        case .placementChanging: true
        // Nobody needed it any more.
        case .closed: lock.withLock { !isClosed && core !== shared && current[tenant]?.core !== core }
        default: false
        }
    }

    func durableBlocking(through ticket: Ticket) throws(WALError) {
        // Of a journal that is no more all is durable.
        try core(numbered: ticket.journal)?.durableBlocking(through: ticket.group)
    }

    func durable(through ticket: Ticket) async throws(WALError) {
        try await core(numbered: ticket.journal)?.durable(through: ticket.group)
    }
}
