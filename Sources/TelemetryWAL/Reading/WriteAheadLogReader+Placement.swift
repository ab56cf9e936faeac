import WALFormat
import WALStorage

/// One of a log's journals, as tools show it.
public struct JournalView<Storage: JournalStorage>: Sendable {
    /// Whose own it is; nil: the shared one.
    public let tenant: TenantName?
    /// Its root.
    public let path: String
    /// The view of it alone, or why there is none.
    public let view: Result<WriteAheadLogReader<Storage>, WALError>

    /// What stands before the path of a file in it.
    public var prefix: String { tenant == nil ? "" : path + "/" }
}

extension WriteAheadLogReader {
    /// All journals of the log, the shared one first.
    public var journals: [JournalView<Storage>] {
        [JournalView(tenant: nil, path: storage.rootDescription, view: .success(self))] + dedicatedJournals
    }

    /// Whether acknowledged records are lost or cannot be read, in any of the log's journals.
    public var hasLoss: Bool {
        journals.contains { journal in
            switch journal.view {
            case .success(let view): view.report.hasLoss
            case .failure: true
            }
        }
    }

    /// Where records of a tenant are, or may still be, in the order of their numbers; for nil of each tenant that is or was
    /// in a journal of its own.
    public func residences(of tenant: TenantName? = nil) -> [TenantResidence] {
        TenantResidence.all(in: placements, of: tenant, PlacementRoot(storage: storage, format: format)) { residence in
            guard residence.home != .shared, case .failure(let error) = dedicatedView(of: residence) else { return nil }
            return "\(error)"
        }
    }

    /// The table, and a view of each journal that it names. A writer may move tenants meanwhile.
    static func dedicatedViews(
        of root: PlacementRoot<Storage>, _ readsOthers: Bool,
        open: (Storage, DedicatedRoot) throws(WALError) -> WriteAheadLogReader
    ) throws(WALError) -> (PlacementTable, [(PlacementTable.Residence, Result<WriteAheadLogReader, WALError>)]) {
        let format = root.format
        guard readsOthers else { return (PlacementTable(logIdentifier: format.logIdentifier), []) }
        var attempts = 0
        while true {
            let table = try root.table()
            var views: [(PlacementTable.Residence, Result<WriteAheadLogReader, WALError>)] = []
            for residence in table.residences {
                guard case .dedicated(let directory) = residence.home else { continue }
                if let known = views.first(where: {
                    $0.0.tenant == residence.tenant && $0.0.home == residence.home
                }) {
                    views.append((residence, known.1))
                    continue
                }
                let place = root.storage(of: residence.tenant, in: directory)
                do throws(WALError) {
                    let dedicated = DedicatedRoot(
                        logIdentifier: format.logIdentifier, tenant: residence.tenant, mayCreate: false)
                    views.append((residence, .success(try open(place, dedicated))))
                } catch {
                    views.append(
                        (
                            residence,
                            .failure(
                                .journalUnavailable(
                                    tenant: residence.tenant, path: place.rootDescription, reason: "\(error)"))
                        ))
                }
            }
            attempts += 1
            // One that is gone by now may have been left in the meantime.
            let isWhole = views.allSatisfy { if case .success(let view) = $0.1 { !view.report.hasLoss } else { false } }
            if isWhole || attempts == 8 { return (table, views) }
            if try root.table() == table { return (table, views) }
        }
    }
}
