import Logging
import Synchronization
import WALFormat
import WALStorage

/// How a tenant moves, and what becomes of what it has left: see `Journals`.
extension Journals {
    /// Has a tenant's records appended elsewhere from now on. Blocks until that is so. Holds no lock.
    func place(_ tenant: TenantName, _ placement: Placement) throws(WALError) {
        try placement.checked()
        let isNews = try lock.withLock { () throws(WALError) in
            while moving != nil, !isClosed { moveEnds.wait(lock) }
            if isClosed { throw .closed }
            let home = currentTable.residences(of: tenant).last?.home ?? .shared
            guard home != placement.home else { return false }
            moving = tenant
            return true
        }
        guard isNews else { return }
        defer { endMove() }
        vacate()
        try move(tenant, to: placement.home)
        vacate()
    }

    func endMove() {
        let waiters = lock.withLock {
            moving = nil
            moveEnds.broadcast()
            defer { self.waiters = [] }
            return self.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private func move(_ tenant: TenantName, to home: PlacementTable.Home) throws(WALError) {
        let source = try core(of: tenant)
        // There before any journal is that it may come to name: without it, none of them is believed.
        if !hasPlacements.load(ordering: .relaxed) {
            try root.write(table)
            hasPlacements.store(true, ordering: .releasing)
        }
        let target = try journal(for: home, of: tenant)
        let group = source.lock.withLock { source.depart(tenant) }
        do throws(WALError) {
            try source.durableBlocking(through: group)
            try source.vouch()
            let first = source.lock.withLock { source.nextSequence(of: tenant) }
            try target.arrive(tenant, from: first)
            try enter(PlacementTable.Residence(tenant: tenant, home: home, firstSequence: first), source)
        } catch {
            // Nothing was appended elsewhere: it stays where it was.
            source.lock.withLock { source.readmit(tenant) }
            throw error
        }
        target.lock.withLock { target.readmit(tenant) }
        options.logger.notice(
            "a tenant has moved", metadata: ["tenant": "\(tenant)", "to": "\(target.storage.rootDescription)"])
    }

    /// The moment of a move. Where it is not known whether the table was replaced, the tenant is refused until the log is
    /// opened again, which tells.
    private func enter(
        _ residence: PlacementTable.Residence, _ source: LogCore<Storage>
    ) throws(WALError) {
        var table = self.table
        // Numbers that nobody has need no residence.
        if table.residences(of: residence.tenant).isEmpty, residence.firstSequence > 1 {
            table.residences.append(.init(tenant: residence.tenant, home: .shared, firstSequence: 1))
        }
        if let last = table.residences.lastIndex(where: { $0.tenant == residence.tenant }),
            table.residences[last].firstSequence == residence.firstSequence
        {
            table.residences.remove(at: last)
        }
        if table.residences(of: residence.tenant).last?.home != residence.home { table.residences.append(residence) }
        do throws(WALError) { try replaceTable(table) } catch {
            var asBefore = self.table
            asBefore.generation += 1
            do throws(WALError) { try replaceTable(asBefore) } catch let second {
                lock.withLock { current[residence.tenant] = .unavailable(second) }
                throw second
            }
            throw error
        }
        lock.withLock { current[residence.tenant] = journal(of: residence) }
    }

    private func replaceTable(_ table: PlacementTable) throws(WALError) {
        var table = table
        table.generation += 1
        #if Simulation
            let forgets = DeliberateBug.isActive(.forgetPlacement)
        #else
            let forgets = false
        #endif
        if !forgets { try root.write(table) }
        lock.withLock { currentTable = table }
    }

    /// The journal at a home, opened or made where it is not.
    private func journal(for home: PlacementTable.Home, of tenant: TenantName) throws(WALError) -> LogCore<Storage> {
        guard case .dedicated(let directory) = home else { return shared }
        let key = Key(tenant: tenant, directory: directory)
        let known = lock.withLock { dedicated[key] }
        switch known {
        case .open(let core, _): return core
        case .unavailable(let error): throw error
        case nil: break
        }
        guard lock.withLock({ dedicated.count }) < options.dedicatedJournalLimit else {
            throw .invalidOption(
                "\(options.dedicatedJournalLimit) tenants have journals of their own; raise dedicatedJournalLimit")
        }
        let journal = try openJournal(key, mayCreate: true)
        lock.withLock { dedicated[key] = journal }
        guard let core = journal.core else { throw .closed }
        try settleSubscribers()
        try core.adoptSubscribers(shared.lock.withLock { shared.state.subscribers }, forgetsOthers: false)
        return core
    }

    /// Takes residences out of the table of which nobody is promised anything any more, and removes journals that have no
    /// tenant then. What cannot be done now is done another time. While a move is under way, by its thread only.
    func vacate() {
        var table = self.table
        for tenant in Set(table.residences.map(\.tenant)).sorted() {
            let own = table.residences(of: tenant)
            for (residence, next) in zip(own, own.dropFirst()) {
                guard let core = lock.withLock({ journal(of: residence).core }),
                    core.hasReleased(tenant, before: next.firstSequence)
                else { break }
                table.residences.removeAll { $0 == residence }
            }
        }
        let homes = Set(table.residences.compactMap(Key.init))
        let empty = lock.withLock { dedicated.filter { !homes.contains($0.key) } }.sorted {
            ($0.key.tenant, $0.key.directory) < ($1.key.tenant, $1.key.directory)
        }
        // What was dropped there stays counted, from the moment on that the journal is no part of the log; cursors before.
        for (key, journal) in empty where self.table.residences.contains(where: { key == Key($0) }) {
            for account in journal.core?.accounts(of: key.tenant) ?? [] { table.add(account) }
        }
        guard table.residences != self.table.residences || !empty.isEmpty else { return }
        do throws(WALError) {
            for (key, journal) in empty {
                guard let core = journal.core, let present = lock.withLock({ current[key.tenant]?.core }) else {
                    continue
                }
                joinCursors(of: key.tenant, in: [core, present])
                try present.flushAcknowledgements()
            }
            if table.residences != self.table.residences { try replaceTable(table) }
            for (key, _) in empty { try remove(key) }
        } catch {
            options.logger.warning("what a tenant has left stays for now", metadata: ["error": "\(error)"])
        }
    }

    /// Closes a journal that has no tenant any more, and removes its files.
    private func remove(_ key: Key) throws(WALError) {
        guard let core = lock.withLock({ dedicated[key]?.core }) else { return }
        try core.close()
        lock.withLock {
            dedicated[key] = nil
            byNumber[core.number] = nil
        }
        do throws(StorageError) {
            let storage = core.storage
            var names = try storage.entries(of: "journal").map { "journal/" + $0 }
            for (tenant, entries) in core.segments.tenants {
                names += entries.map { SegmentName.directory(of: tenant) + "/" + $0.name }
            }
            try storage.discard(names + ["FORMAT", "LOCK"])
        } catch { throw .storage(error) }
    }
}
