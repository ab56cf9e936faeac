import WALFormat
import WALStorage

extension WriteAheadLogEngine {
    /// Erases all records of a tenant that were appended before the call, delivered or not, and returns when none of
    /// their bytes is left in the log's directory; blocks the calling thread. What is appended of the tenant from then
    /// on stays, under numbers that go on. Others' appends, reads and acknowledgements go on meanwhile.
    ///
    /// The erasure itself is durable first: nobody is shown the records any more, whatever happens. Then segments are
    /// overwritten with zeros and removed, and journal files are overwritten in place where they hold something of the
    /// tenant, or something of which nothing proves that it is not the tenant's: live ones, spares, and those in
    /// quarantine. That needs no free space, and costs reading the whole journal. A crash, or an error, leaves it half
    /// done: whoever opens the log next goes on with it, and so does this one from time to time.
    ///
    /// Appends that fail leave bytes behind although they are no records: each call overwrites anew, whether there is more to
    /// be erased or not. (Where there is nothing to be erased but these, nobody goes on after a crash or an error: call it
    /// again.) Of a tenant that the log does not know, since all that was appended of it failed in processes before
    /// this one, they stay until their place is used again, or anybody is erased.
    ///
    /// What stays is the tenant's name, how many records it had, and that it was erased. Out of reach is what the file
    /// system or the device keep beside: snapshots, blocks that were given back before, or with a compaction or merge that
    /// was under way and ended without an outcome, cells of a flash memory that were written anew elsewhere. What a subscriber's reading has taken in already it may still give.
    ///
    /// The tenant's dead letters go first, which are in a log of their own: after a crash between the two call it again.
    ///
    /// Throws `.unknownTenant`; `.journalFull` where there is no room for its record, and it is done when there is;
    /// `.storage` where a file cannot be overwritten, `.failed`, `.closed`, `.invalidOption`.
    @discardableResult
    public func eraseBlocking(_ tenant: TenantName) throws(WALError) -> ErasureReport {
        try Self.erase(tenant, journals, deadLetters)
    }

    private static func erase(
        _ tenant: TenantName, _ journals: Journals<Storage>, _ deadLetters: DeadLetterLog<Storage>
    ) throws(WALError) -> ErasureReport {
        guard let letters = try deadLetters.erase(tenant) else {
            let report = try journals.erase(tenant)
            // One that was on its way.
            _ = try deadLetters.erase(tenant)
            return report
        }
        // Their numbers are others.
        let erased = ErasureReport(
            tenant: tenant, through: 0, undelivered: 0
        ).joined(by: letters.report, in: letters.directory)
        do throws(WALError) {
            var report = try journals.erase(tenant)
            _ = try deadLetters.erase(tenant)
            report.files += erased.files
            report.leftAlone += erased.leftAlone
            report.notOverwritten += erased.notOverwritten
            return report
        } catch {
            if case .unknownTenant = error { return erased }
            throw error
        }
    }

    /// Whether a tenant's record of a number was erased, or is about to be.
    package func isErased(_ tenant: TenantName, through sequence: UInt64) -> Bool {
        let inJournals = journals.openCores(with: tenant).map { core in
            core.lock.withLock { core.state.erasedThrough(of: tenant) }
        }
        let inTable = journals.table.accounts.filter { $0.tenant == tenant && $0.cause == nil }.map(\.through)
        return sequence <= (inJournals + inTable).max() ?? 0
    }

    /// The same as `eraseBlocking`, suspending.
    @discardableResult
    public func erase(_ tenant: TenantName) async throws(WALError) -> ErasureReport {
        let (journals, deadLetters) = (self.journals, self.deadLetters)
        let queue = BlockingQueue(name: "wal-erase")
        let result = await queue.run { () -> Result<ErasureReport, WALError> in
            do throws(WALError) { return .success(try Self.erase(tenant, journals, deadLetters)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
