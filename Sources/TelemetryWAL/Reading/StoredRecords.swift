import WALFormat
import WALStorage

/// Batches read one after the other. One thread at a time; copies share their place.
public struct StoredRecords<Storage: JournalStorage> {
    private let walk: StoredWalk<Storage>

    init(_ walk: StoredWalk<Storage>) { self.walk = walk }

    /// The next batch, nil at the end. Throws `.damaged` once for each place whose bytes fail their checks, unless every
    /// subscriber has what stood there or the view's report tells of it, and `.keyForgotten` for each row of records whose
    /// key is no more, and goes on behind it with the next call; `.keyUnavailable` once for each tenant whose key is not to
    /// be had, and `.journalUnavailable` for each whose journal cannot be read, and goes on with the others; `.storage`
    /// where the device fails.
    public mutating func next() throws(WALError) -> RecordBatch? { try walk.next() }
}

/// Walks through a log's journals: see `JoinedWalk`, which does the same for subscribers. A view does not change, so that
/// all rounds are laid out when it begins.
final class StoredWalk<Storage: JournalStorage> {
    private enum Part {
        /// With whose own journal it is, and where; nil: the shared one.
        case walk(RecordWalk<Storage>, own: (tenant: TenantName, path: String)?)
        case unavailable(WALError, of: TenantName)
    }

    private var parts: [Part] = []
    /// Of whom nothing more is given: what comes later must not come before what cannot be read.
    private let locked = Names()

    /// Shared with the walks' closures, which must not keep their owner.
    private final class Names {
        var names: Set<TenantName> = []
    }

    /// `shared`: the view of the log's root; `table`: its placements.
    init(
        of tenant: TenantName?, from sequence: UInt64, during times: ClosedRange<UInt64>?,
        shared: WriteAheadLogReader<Storage>, table: PlacementTable
    ) {
        let locked = self.locked
        let unseen = shared.unseen
        let byTenant = Dictionary(grouping: table.residences, by: \.tenant)
        let boundaries = { (name: TenantName) in (byTenant[name] ?? []).map(\.firstSequence) }
        let rounds = byTenant.values.map(\.count).max() ?? 1
        for round in 0..<max(1, rounds) {
            // A tenant that was never placed is in the first round of the shared journal.
            func wants(_ home: PlacementTable.Home, _ name: TenantName, _ sequence: UInt64) -> Bool {
                if locked.names.contains(name) { return false }
                if let first = unseen[name], sequence >= first { return false }
                guard let own = byTenant[name] else { return home == .shared && round == 0 }
                guard let place = own.lastIndex(where: { $0.firstSequence <= sequence }) else { return false }
                return place == round && own[place].home == home
            }
            let here = table.residences.filter { residence in
                (tenant == nil || residence.tenant == tenant)
                    && byTenant[residence.tenant]?.firstIndex(of: residence) == round
            }
            if round == 0 || here.contains(where: { $0.home == .shared }) {
                let walk = shared.walk(of: tenant, from: sequence, during: times, boundaries) { wants(.shared, $0, $1) }
                if let walk { parts.append(.walk(walk, own: nil)) }
            }
            for residence in here where residence.home != .shared {
                switch shared.dedicatedView(of: residence) {
                case .success(let view):
                    let walk = view.walk(of: residence.tenant, from: sequence, during: times, boundaries) {
                        wants(residence.home, $0, $1)
                    }
                    if let walk {
                        parts.append(.walk(walk, own: (residence.tenant, view.storage.rootDescription)))
                    }
                case .failure(let error): parts.append(.unavailable(error, of: residence.tenant))
                }
            }
        }
        parts.reverse()
    }

    func next() throws(WALError) -> RecordBatch? {
        while let part = parts.last {
            switch part {
            case .walk(let walk, let own):
                do throws(WALError) {
                    if let batch = try walk.next() { return batch }
                } catch {
                    if case .keyUnavailable(let tenant, _, _) = error { locked.names.insert(tenant) }
                    // What a tenant's own journal cannot give holds up nobody else.
                    if case .storage = error, let own {
                        parts.removeLast()
                        locked.names.insert(own.tenant)
                        throw .journalUnavailable(tenant: own.tenant, path: own.path, reason: "\(error)")
                    }
                    throw error
                }
                parts.removeLast()
            case .unavailable(let error, let tenant):
                parts.removeLast()
                if locked.names.insert(tenant).inserted { throw error }
            }
        }
        return nil
    }
}
