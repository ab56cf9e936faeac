import Logging
import WALFormat
import WALStorage

/// Erasing a tenant that has, or had, journals of its own: see `Journals` and, for one journal, `LogCore.erase`.
extension Journals {
    /// Has erasures gone on with that a crash, or a failure, kept from some of a tenant's journals: what one says of numbers
    /// holds where they are. When the log is opened.
    func spreadErasures() {
        for tenant in residencesByTenant.keys.sorted() {
            let residences = currentTable.residences(of: tenant)
            let cores = openCores(with: tenant)
            let through = cores.map { core in core.lock.withLock { core.state.erasedThrough(of: tenant) } }.max() ?? 0
            if through == 0 { continue }
            for core in cores {
                // The last numbers below that which were given there.
                let last = residences.indices.filter {
                    residences[$0].firstSequence <= through && journal(of: residences[$0]).core === core
                }.map { $0 + 1 < residences.count ? min(through, residences[$0 + 1].firstSequence - 1) : through }.max()
                guard let last, core.lock.withLock({ core.mayGoOn(erasing: tenant, through: last, of: through) }) else {
                    continue
                }
                do throws(WALError) { core.endWaiting(for: try core.beginErasure(of: tenant)) } catch {
                    options.logger.error(
                        "a tenant's erasure cannot be gone on with",
                        metadata: [
                            "tenant": "\(tenant)", "path": "\(core.storage.rootDescription)", "error": "\(error)",
                        ])
                }
            }
        }
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
        // Whatever comes, nobody waits for those that were begun.
        defer { for (core, erasure) in begun { core.endWaiting(for: erasure) } }
        // The one that takes its records first: what is erased there is above all numbers elsewhere, and says whoever opens the
        // log that it is to be gone on with.
        let cores = try cores(with: tenant)
        let present = try core(of: tenant)
        do {
            // Bytes go when no journal shows the records any more.
            defer { for (core, erasure) in begun { core.release(erasure) } }
            for core in cores.filter({ $0 === present }) + cores.filter({ $0 !== present }) {
                do throws(WALError) {
                    begun.append((core, try core.beginErasure(of: tenant, isHeld: cores.count > 1)))
                } catch {
                    if case .unknownTenant = error { continue }
                    throw error
                }
            }
        }
        guard let first = begun.first else { throw .unknownTenant(tenant) }
        var whole = ErasureReport(tenant: tenant, through: first.erasure.report.through, undelivered: 0)
        for (core, erasure) in begun {
            let report = try core.finish(erasure)
            whole = whole.joined(by: report, in: core === shared ? nil : core.storage.rootDescription)
        }
        return whole
    }
}
