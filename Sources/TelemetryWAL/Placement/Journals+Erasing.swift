import Logging
import WALFormat
import WALStorage

/// Erasing a tenant that has, or had, journals of its own: see `Journals` and, for one journal, `LogCore.erase`.
extension Journals {
    /// Has erasures gone on with that a crash, or a failure, kept from some of a tenant's journals: what one says of numbers
    /// holds where they are. When the log is opened.
    func spreadErasures() {
        for tenant in residencesByTenant.keys.sorted() {
            let through = erasedThrough(of: tenant)
            for core in openCores(with: tenant) {
                let stay = stay(of: tenant, in: core)
                if through == 0 || stay.first > through { continue }
                let isToDo = core.lock.withLock { core.lacksErasure(of: tenant, through: through, last: stay.last) }
                if !isToDo { continue }
                do throws(WALError) {
                    core.endWaiting(for: try core.beginErasure(of: tenant, through: through))
                } catch {
                    options.logger.error(
                        "a tenant's erasure cannot be gone on with",
                        metadata: [
                            "tenant": "\(tenant)", "path": "\(core.storage.rootDescription)", "error": "\(error)",
                        ])
                }
            }
        }
    }

    /// Through which number any journal says that a tenant is erased, those that were removed included.
    func erasedThrough(of tenant: TenantName) -> UInt64 {
        let here = openCores(with: tenant).map { core in
            min(stay(of: tenant, in: core).last, core.lock.withLock { core.state.erasedThrough(of: tenant) })
        }
        let elsewhere = table.accounts.filter { $0.tenant == tenant && $0.cause == nil }.map(\.through)
        return (here + elsewhere).max() ?? 0
    }

    /// The first and the last number of a tenant that a journal can have: what it says of others, as after damage, when it
    /// leaves numbers out, means nothing.
    private func stay(of tenant: TenantName, in core: LogCore<Storage>) -> (first: UInt64, last: UInt64) {
        let residences = currentTable.residences(of: tenant)
        let isHere = residences.map { journal(of: $0).core === core }
        // The shared one, which it left before all its residences.
        guard let first = isHere.firstIndex(of: true), let last = isHere.lastIndex(of: true) else {
            return (1, (residences.first?.firstSequence ?? 1) - 1)
        }
        return (residences[first].firstSequence, currentTable.lastSequence(of: residences[last]) ?? .max)
    }

    /// Has nobody moved, and nothing of a tenant's left that is to be removed.
    private func beginErasing(_ tenant: TenantName) throws(WALError) {
        while true {
            // What was left there is to be gone, too.
            if table.removals.contains(where: { $0.tenant == tenant }) {
                try exclusively { () throws(WALError) in try remove(ofTenant: tenant, isErased: true) }
            }
            let isReady = lock.withLock {
                while isMoving, !isClosed { moveEnds.wait(lock) }
                // Whoever moved somebody meanwhile may have left more.
                if !isClosed, currentTable.removals.contains(where: { $0.tenant == tenant }) { return false }
                erasures += 1
                return true
            }
            if isReady { return }
        }
    }

    /// Erases what each journal has of a tenant: first in the words of all of them, then byte by byte. Nobody is moved
    /// meanwhile.
    func erase(_ tenant: TenantName) throws(WALError) -> ErasureReport {
        try beginErasing(tenant)
        defer {
            lock.withLock {
                erasures -= 1
                moveEnds.broadcast()
            }
        }
        var begun: [(core: LogCore<Storage>, erasure: LogCore<Storage>.BegunErasure)] = []
        // Journals that do not know the tenant.
        var strangers: [LogCore<Storage>] = []
        // Whatever comes, nobody waits for those that were begun.
        defer { for (core, erasure) in begun { core.endWaiting(for: erasure) } }
        // The one that takes its records first: what is erased there is above all numbers elsewhere, and says whoever opens the
        // log that it is to be gone on with.
        let cores = try cores(with: tenant)
        let present = try core(of: tenant)
        do {
            // Bytes go when no journal shows the records any more, or one has failed and whoever asked is told.
            defer { for (core, erasure) in begun { core.release(erasure) } }
            for core in cores.filter({ $0 === present }) + cores.filter({ $0 !== present }) {
                do throws(WALError) {
                    // A journal that a move to it has failed may know of numbers that were given elsewhere since.
                    let through = begun.first?.erasure.report.through ?? .max
                    begun.append(
                        (core, try core.beginErasure(of: tenant, through: through, isHeld: cores.count > 1)))
                } catch {
                    guard case .unknownTenant = error else { throw error }
                    strangers.append(core)
                }
            }
        }
        guard let first = begun.first else { throw .unknownTenant(tenant) }
        var whole = ErasureReport(tenant: tenant, through: first.erasure.report.through, undelivered: 0)
        for (core, erasure) in begun {
            let report = try core.finish(erasure)
            whole = whole.joined(by: report, in: core === shared ? nil : core.storage.rootDescription)
        }
        // Appends that failed in a process before this one may have left bytes where nothing tells whose they are.
        for core in strangers {
            let report = try core.sweep(tenant)
            whole = whole.joined(by: report, in: core === shared ? nil : core.storage.rootDescription)
        }
        return whole
    }
}
