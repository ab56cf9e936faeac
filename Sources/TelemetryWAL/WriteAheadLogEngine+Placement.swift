import WALFormat
import WALStorage

extension WriteAheadLogEngine {
    /// In which journal a tenant's records are appended.
    public func placement(of tenant: TenantName) -> Placement {
        journals.residences(of: tenant).last?.placement ?? .shared
    }

    /// Where records of a tenant are, or may still be, in the order of their numbers; for nil of each tenant that is or was
    /// in a journal of its own and is not where it always was.
    public func residences(of tenant: TenantName? = nil) -> [TenantResidence] { journals.residences(of: tenant) }

    /// Has a tenant's records appended to another journal from now on; blocks the calling thread until that is so, which
    /// takes some milliseconds and, where the journal is new, the time to write its first files. The tenant need not be in
    /// the log yet. The log keeps to it when it is opened again.
    ///
    /// Safe under load: appends that are on their way are durable where they were, those that come meanwhile wait, and
    /// `enqueue` throws `.placementChanging` for some milliseconds. Numbers go on without a gap. Records stay where they
    /// were appended until every subscriber has them; readers give them before those that come later, wherever these are. A
    /// journal that has no tenant any more is removed with its directory's files.
    ///
    /// A journal of a tenant's own has threads, files and limits of its own (`dedicatedJournalLimit`); what options say of
    /// the log holds for each journal. Where it cannot be opened later, as when its volume is missing, the log opens without
    /// it, and the tenant's appends throw `.journalUnavailable`.
    ///
    /// Throws `.invalidOption` for a directory that is not absolute or one journal too many, `.notALog` where the directory
    /// holds other things, `.storage`, `.journalFull`, `.failed`, `.closed`. The tenant then stays where it was, unless
    /// it cannot be told whether its move is durable: it is refused until the log is opened again.
    public func placeBlocking(_ tenant: TenantName, _ placement: Placement) throws(WALError) {
        try journals.place(tenant, placement)
    }

    /// The same as `placeBlocking`, suspending.
    public func place(_ tenant: TenantName, _ placement: Placement) async throws(WALError) {
        let journals = self.journals
        let queue = BlockingQueue(name: "wal-placement")
        let result = await queue.run { () -> Result<Void, WALError> in
            do throws(WALError) { return .success(try journals.place(tenant, placement)) } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// What opening found in the journals of tenants' own, by the paths of their roots.
    public var dedicatedReports: [(path: String, report: RecoveryReport)] { journals.reports }
}
