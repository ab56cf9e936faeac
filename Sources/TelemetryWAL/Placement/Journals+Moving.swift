import Logging
import Synchronization
import WALFormat
import WALStorage

/// How a tenant moves, and what becomes of what it has left: see `Journals`.
extension Journals {
    /// Has a tenant's records appended elsewhere from now on. Blocks until that is so. Holds no lock.
    func place(_ tenant: TenantName, _ placement: Placement) throws(WALError) {
        try placement.checked()
        try exclusively { () throws(WALError) in
            guard table.residences(of: tenant).last?.home ?? .shared != placement.home else { return }
            vacate()
            try move(tenant, to: placement.home)
            vacate()
        }
    }

    /// Runs what changes the table: one at a time, and while nobody is erased. Throws `.closed`.
    func exclusively(_ body: () throws(WALError) -> Void) throws(WALError) {
        try lock.withLock { () throws(WALError) in
            while isMoving || erasures > 0, !isClosed { moveEnds.wait(lock) }
            if isClosed { throw .closed }
            isMoving = true
        }
        defer {
            lock.withLock {
                isMoving = false
                moveEnds.broadcast()
            }
        }
        try body()
    }

    private func move(_ tenant: TenantName, to home: PlacementTable.Home) throws(WALError) {
        let source = try core(of: tenant)
        // There before any journal is that it may come to name: without it, none of them is believed.
        if !hasPlacements.load(ordering: .relaxed) {
            try root.begin(table)
            hasPlacements.store(true, ordering: .releasing)
        }
        let target = try journal(for: home, of: tenant)
        lock.withLock { moving = tenant }
        defer { endMove() }
        let (isKnown, group) = source.lock.withLock { (source.lookup.index(of: tenant) != nil, source.depart(tenant)) }
        do throws(WALError) {
            try source.durableBlocking(through: group)
            try source.vouch()
            let first = source.lock.withLock { source.nextSequence(of: tenant) }
            try target.arrive(tenant, from: first)
            joinCursors(of: tenant, in: [source, target])
            try target.flushAcknowledgements()
            try enter(PlacementTable.Residence(tenant: tenant, home: home, firstSequence: first), wasKnown: isKnown)
        } catch {
            // Nothing was appended elsewhere: it stays where it was, if that can be told.
            let isPlaceKnown = lock.withLock { if case .unavailable = current[tenant] { false } else { true } }
            if isPlaceKnown { source.lock.withLock { source.readmit(tenant) } }
            throw error
        }
        target.lock.withLock { target.readmit(tenant) }
        options.logger.notice(
            "a tenant has moved", metadata: ["tenant": "\(tenant)", "to": "\(target.storage.rootDescription)"])
    }

    private func endMove() {
        let waiters = lock.withLock {
            moving = nil
            moveEnds.broadcast()
            defer { self.waiters = [] }
            return self.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// The moment of a move. Where it is not known whether the table was replaced, the tenant is refused until the log is
    /// opened again, which tells. `wasKnown`: the journal that it leaves may have records of it.
    private func enter(_ residence: PlacementTable.Residence, wasKnown: Bool) throws(WALError) {
        var table = self.table
        // Numbers that nobody has need no residence.
        if table.residences(of: residence.tenant).isEmpty, wasKnown, residence.firstSequence > 1 {
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
            // Above that of the one that may be there.
            asBefore.generation += 1
            do throws(WALError) { try replaceTable(asBefore) } catch let second {
                let unknown = WALError.journalUnavailable(
                    tenant: residence.tenant,
                    path: root.storage.rootDescription + "/" + PlacementRoot<Storage>.fileName,
                    reason: "it cannot be told whether the tenant has moved: \(second)")
                lock.withLock { current[residence.tenant] = .unavailable(unknown) }
                throw unknown
            }
            throw error
        }
        lock.withLock { current[residence.tenant] = journal(of: residence) }
    }

    /// Replaces the table. Journals that it names no more are to be removed, by its own word; what was dropped there stays
    /// counted.
    private func replaceTable(_ table: PlacementTable) throws(WALError) {
        var table = table
        table.generation += 1
        let named = Set(table.residences.compactMap(Key.init))
        let left = lock.withLock { dedicated.filter { !named.contains($0.key) } }
        for (key, journal) in left.sorted(by: { $0.key < $1.key }) {
            let removal = PlacementTable.Removal(tenant: key.tenant, directory: key.directory)
            if table.removals.contains(removal) { continue }
            // What it says of numbers that were never its own means nothing.
            let before = self.table
            let last = before.residences.last { Key($0) == key }.flatMap { before.lastSequence(of: $0) } ?? .max
            for var account in journal.core?.accounts(of: key.tenant) ?? [] {
                account.through = min(account.through, last)
                table.add(account)
            }
            table.removals.append(removal)
        }
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
        if table.removals.contains(.init(tenant: tenant, directory: directory)) {
            throw .journalUnavailable(
                tenant: tenant, path: root.storage(of: tenant, in: directory).rootDescription,
                reason: "it has been left, and its files cannot be removed")
        }
        switch lock.withLock({ dedicated[key] }) {
        case .open(let core, _):
            try takeSubscribers(core)
            return core
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
        // Again: who came before the journal was in the list does not know of it.
        try takeSubscribers(core)
        return core
    }

    // MARK: - What is left

    /// Takes residences out of the table of which nobody is promised anything any more, and removes journals that have no
    /// tenant then. What cannot be done now is done another time. By whoever moves a tenant, or opens the log.
    func vacate() {
        var table = self.table
        for tenant in Set(table.residences.map(\.tenant)).sorted() {
            let own = table.residences(of: tenant)
            let erased = erasedThrough(of: tenant)
            for (residence, next) in zip(own, own.dropFirst()) {
                guard let core = lock.withLock({ journal(of: residence).core }),
                    core.hasReleased(tenant, before: next.firstSequence),
                    // What an erasure has not reached yet is to be found by who goes on with it.
                    !core.lock.withLock({
                        core.lacksErasure(of: tenant, through: erased, last: next.firstSequence - 1)
                    })
                else { break }
                table.residences.removeAll { $0 == residence }
            }
        }
        do throws(WALError) {
            if hasPlacements.load(ordering: .acquiring) {
                let named = Set(table.residences.compactMap(Key.init))
                let left = lock.withLock { dedicated.filter { !named.contains($0.key) } }
                for (key, journal) in left.sorted(by: { $0.key < $1.key }) {
                    guard let core = journal.core, let present = lock.withLock({ current[key.tenant]?.core }) else {
                        continue
                    }
                    joinCursors(of: key.tenant, in: [core, present])
                    try present.flushAcknowledgements()
                }
                // Also of journals that no table has named yet: a move to them has failed.
                let isNews = left.keys.contains {
                    !table.removals.contains(.init(tenant: $0.tenant, directory: $0.directory))
                }
                if table.residences != self.table.residences || isNews { try replaceTable(table) }
            }
            try remove()
        } catch {
            options.logger.warning("what a tenant has left stays for now", metadata: ["error": "\(error)"])
        }
    }

    /// Removes the files of journals that are no part of the log any more, or of those of one tenant, which `isErased`. Throws
    /// where some of them stay, which holds up no other.
    func remove(ofTenant tenant: TenantName? = nil, isErased: Bool = false) throws(WALError) {
        var failure: WALError?
        var done: [PlacementTable.Removal] = []
        for removal in table.removals where tenant == nil || removal.tenant == tenant {
            let key = Key(tenant: removal.tenant, directory: removal.directory)
            let core = lock.withLock { () -> LogCore<Storage>? in
                let core = dedicated.removeValue(forKey: key)?.core
                if let core { byNumber[core.number] = nil }
                return core
            }
            // Whatever becomes of its last acknowledgements.
            if let core { do throws(WALError) { try core.close() } catch {} }
            do throws(WALError) {
                try root.removeJournal(of: removal.tenant, in: removal.directory, isErased: isErased)
                done.append(removal)
            } catch { failure = error }
        }
        if !done.isEmpty {
            var table = self.table
            table.removals.removeAll { done.contains($0) }
            try replaceTable(table)
        }
        if let failure { throw failure }
    }
}
