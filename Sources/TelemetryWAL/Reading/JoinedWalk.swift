import WALFormat
import WALStorage

/// Reads what a subscriber lacks out of all journals of a log. Tenants move between these (`Journals`), so that each
/// tenant's records are read residence by residence: in a first round what stands in anybody's first residence, journal by
/// journal, then what stands in second ones, and so on. Mostly there is one round with one journal.
///
/// Which residence a record belongs to is asked when it is met, of the table as it is then: a tenant may come back to a
/// journal that has been read in part. Records of a residence that was not known when the rounds were last laid out wait
/// until they are laid out anew.
///
/// Safe to share although unchecked: its variables are touched by its one iterator only.
final class JoinedWalk<Storage: JournalStorage>: @unchecked Sendable {
    let journals: Journals<Storage>
    private let tenant: TenantName?
    private let subscriber: TenantName
    /// Why there is nothing to read.
    private var refusal: WALError?
    /// In all journals; those that come later take their subscribers over.
    private var hasRegistered = false
    private var parts: [Part] = []
    /// The part that is being read; behind the last one when the end was reached.
    private var place = 0
    /// In which round each residence is read.
    private var rounds: [ResidenceKey: Int] = [:]
    /// Whose keys, or journals, are not to be had: nothing of them is given in a round, nor in later ones.
    private var locked: [TenantName: Int] = [:]
    /// What is to be told of journals that are not to be had, each once.
    private var unavailable: [(tenant: TenantName, error: WALError)] = []
    private var told: Set<TenantName> = []

    private struct ResidenceKey: Hashable {
        var tenant: TenantName
        var firstSequence: UInt64
    }

    private struct Part {
        let round: Int
        /// Whose own journal it is; nil: the shared one.
        let tenant: TenantName?
        let core: LogCore<Storage>
        let walk: SubscriberWalk<Storage>
    }

    init(journals: Journals<Storage>, tenant: TenantName?, subscriber: TenantName) {
        self.journals = journals
        self.tenant = tenant
        self.subscriber = subscriber
        let shared = journals.shared
        do throws(WALError) {
            try shared.lock.withLock { () throws(WALError) in try shared.register(subscriber) }
        } catch { refusal = error }
    }

    func next() throws(WALError) -> RecordBatch? {
        if let refusal { throw refusal }
        if place >= parts.count {
            if !hasRegistered { try journals.register(subscriber) }
            hasRegistered = true
            layOutRounds()
        }
        while true {
            if let (tenant, error) = unavailable.popLast(), told.insert(tenant).inserted { throw error }
            guard place < parts.count else { return nil }
            let part = parts[place]
            do throws(WALError) {
                if let batch = try part.walk.next() { return batch }
            } catch {
                if case .keyUnavailable(let tenant, _, _) = error { locked[tenant] = 0 }
                // What a tenant's own journal cannot give holds up nobody else.
                if case .storage = error, let tenant = part.tenant {
                    locked[tenant] = min(locked[tenant] ?? .max, part.round)
                    place += 1
                    unavailable.append(
                        (
                            tenant,
                            .journalUnavailable(
                                tenant: tenant, path: part.core.storage.rootDescription, reason: "\(error)")
                        ))
                    continue
                }
                // A journal that everybody had everything of, and that has no tenant any more.
                guard case .closed = error, part.core !== journals.shared,
                    !journals.all.contains(where: { $0 === part.core })
                else { throw error }
                parts.remove(at: place)
                continue
            }
            place += 1
        }
    }

    /// Goes on from the first round, with residences that have come since.
    private func layOutRounds() {
        place = 0
        var wanted: [(round: Int, tenant: TenantName?, core: LogCore<Storage>)] = [(0, nil, journals.shared)]
        let before = parts
        var counts: [TenantName: Int] = [:]
        for (residence, core) in journals.residences where tenant == nil || residence.tenant == tenant {
            let key = ResidenceKey(tenant: residence.tenant, firstSequence: residence.firstSequence)
            // What is new is read by a walk of its own: one that was there may have passed it.
            let highest = before.filter { $0.core === core }.map(\.round).max() ?? -1
            let wasThere = residence.home == .shared && residence.firstSequence == 1
            let round = rounds[key] ?? (wasThere ? 0 : max(counts[residence.tenant] ?? 0, highest + 1))
            rounds[key] = round
            counts[residence.tenant] = round + 1
            guard let core else {
                // What comes later must not come before what cannot be read.
                locked[residence.tenant] = min(locked[residence.tenant] ?? .max, round)
                do throws(WALError) { _ = try journals.cores(with: residence.tenant) } catch {
                    unavailable.append((residence.tenant, error))
                }
                continue
            }
            guard !wanted.contains(where: { $0.round == round && $0.core === core }) else { continue }
            wanted.append((round, residence.home == .shared ? nil : residence.tenant, core))
        }
        for (round, own, core) in wanted where !parts.contains(where: { $0.round == round && $0.core === core }) {
            let walk = SubscriberWalk(
                core: core, tenant: tenant, subscriber: subscriber, registers: false,
                wants: { [unowned self] in wants($0, $1, in: core, round: round) },
                boundaries: { [journals] in journals.table.residences(of: $0).map(\.firstSequence) })
            parts.append(Part(round: round, tenant: own, core: core, walk: walk))
        }
        #if Simulation
            if DeliberateBug.isActive(.readResidencesBackwards) {
                parts.sort { ($0.round, $0.core.number) > ($1.round, $1.core.number) }
                return
            }
        #endif
        parts.sort { ($0.round, $0.core.number) < ($1.round, $1.core.number) }
    }

    /// Whether a round gives a record that a journal has.
    private func wants(_ tenant: TenantName, _ sequence: UInt64, in core: LogCore<Storage>, round: Int) -> Bool {
        if let locked = locked[tenant], locked <= round { return false }
        guard let residence = journals.residence(of: tenant, at: sequence) else {
            return core === journals.shared && round == 0
        }
        let key = ResidenceKey(tenant: tenant, firstSequence: residence.firstSequence)
        // A tenant that had not been placed when the rounds were laid out was in the shared journal.
        let known = rounds[key] ?? (core === journals.shared && residence.firstSequence == 1 ? 0 : nil)
        return residence.core === core && known == round
    }
}
