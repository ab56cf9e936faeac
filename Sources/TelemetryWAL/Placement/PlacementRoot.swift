import WALFormat
import WALStorage

/// What a root says of placements: its `PLACEMENTS`, and where the journals are that it names.
struct PlacementRoot<Storage: JournalStorage> {
    let storage: Storage
    let format: RootFormat

    static var fileName: String { "PLACEMENTS" }
    static var directory: String { "dedicated" }

    /// The table; an empty one where nobody was ever placed. Throws `.notALog` where it cannot be right: to go on without
    /// it would give numbers again that are given elsewhere.
    func table() throws(WALError) -> PlacementTable {
        let path = storage.rootDescription + "/" + Self.fileName
        var bytes: [UInt8]?
        var isMissed = false
        do throws(StorageError) {
            if try storage.exists(Self.fileName) {
                bytes = try storage.contents(of: Self.fileName, limit: 2 * PlacementTable.maximumLength)
            } else {
                isMissed = try storage.exists(Self.directory)
            }
        } catch { throw .storage(error) }
        guard let bytes else {
            if isMissed {
                throw .notALog(
                    path: path, reason: "it is gone, and there are journals of tenants' own; put back a copy of it")
            }
            return PlacementTable(logIdentifier: format.logIdentifier)
        }
        do throws(FormatError) {
            let table = try bytes.withRawSpan { (span: RawSpan) throws(FormatError) in try PlacementTable.decode(span) }
            guard table.logIdentifier == format.logIdentifier else {
                throw FormatError(.field, "it belongs to the log \(table.logIdentifier)")
            }
            return table
        } catch {
            if error.cause == .version { throw .unsupportedFormat(path: path, reason: error.description) }
            throw .notALog(path: path, reason: "\(error.description); put back a copy of it")
        }
    }

    /// Replaces the table, durably.
    func write(_ table: PlacementTable) throws(WALError) {
        guard table.copyLength <= PlacementTable.maximumLength,
            table.residences.count <= PlacementTable.mostResidences,
            table.accounts.count <= PlacementTable.mostAccounts,
            table.removals.count <= PlacementTable.mostResidences
        else { throw .invalidOption("too many placements for one log; move tenants back to the shared journal") }
        do throws(StorageError) { try storage.replace(Self.fileName, with: table.encoded()) } catch {
            throw .storage(error)
        }
    }

    /// Writes the first table, and makes the directory beside it, which tells its loss from then on.
    func begin(_ table: PlacementTable) throws(WALError) {
        try write(table)
        do throws(StorageError) {
            if try storage.exists(Self.directory) { return }
            let name = Self.directory + "/begin"
            _ = try storage.createTemporary(name)
            try storage.discard([name + SegmentName.temporarySuffix])
        } catch { throw .storage(error) }
    }

    /// Removes the files of a tenant's own journal, durably; its directories stay, and what in them is not the log's.
    /// FORMAT, which tells whose it is, goes last. `isErased`: their bytes are overwritten before. Throws `.notALog` where
    /// another log or tenant has it, `.storage` where it is not there at all: its volume may come back.
    func removeJournal(of tenant: TenantName, in directory: String, isErased: Bool) throws(WALError) {
        let storage = storage(of: tenant, in: directory)
        func catching<Value>(_ body: () throws(StorageError) -> Value) throws(WALError) -> Value {
            do throws(StorageError) { return try body() } catch { throw .storage(error) }
        }
        let journal = try catching { () throws(StorageError) in
            guard try storage.exists("journal") else {
                throw StorageError(
                    .notFound,
                    operation: "remove a journal; mount its volume, or, if that is gone for good, make the directory",
                    path: storage.rootDescription + "/journal")
            }
            return try storage.entries(of: "journal").sorted().filter {
                JournalFileName.number(of: $0) != nil || $0.hasSuffix(SegmentName.temporarySuffix)
            }
        }
        let hasFormat = try catching { () throws(StorageError) in try storage.exists("FORMAT") }
        if !hasFormat {
            let isOurs = try catching { () throws(StorageError) in
                for name in journal where try isOfThisLog("journal/" + name, in: storage) { return true }
                return false
            }
            if !isOurs { return }
        }
        let own = DedicatedRoot(logIdentifier: format.logIdentifier, tenant: tenant, mayCreate: false)
        let format = try LogRoot(storage: storage, dedicated: own).openForReading()
        try catching { () throws(StorageError) in
            var names: [String] = []
            for name in journal.map({ "journal/" + $0 }) where try !isOfAnotherLog(name, in: storage) {
                names.append(name)
            }
            var leftovers = SegmentCatalog.Leftovers()
            let segments = try SegmentCatalog(of: storage, format: format, isForWriter: true, leftovers: &leftovers)
            let place = SegmentName.directory(of: tenant)
            names += segments.entries(of: tenant).map { place + "/" + $0.name }
            names += leftovers.superseded + leftovers.temporary
            if isErased {
                var scrub = FileScrub<Storage>(
                    format: format, tenant: nil, through: .max, rewritesZeros: true, goesOn: { true })
                for name in names {
                    let file = try storage.open(name, forWriting: true)
                    try scrub.zero(file, 0..<(try file.size()))
                }
            }
            try storage.discard(names)
            // Also where nothing is left: what was removed before may not be so durably.
            let directories = Set(["journal"] + segments.directories + (try storage.exists(place) ? [place] : []))
            try storage.synchronize(directories: directories.sorted())
            try storage.discard(["FORMAT.tmp", "LOCK", "FORMAT"])
            try storage.synchronize(directories: [""])
        }
    }

    private func headers(of name: String, in storage: Storage) throws(StorageError) -> [JournalFileHeader] {
        try storage.open(name, forWriting: false).journalHeaders(blockSize: format.blockSize)
    }

    private func isOfThisLog(_ name: String, in storage: Storage) throws(StorageError) -> Bool {
        try headers(of: name, in: storage).contains { $0.logIdentifier == format.logIdentifier }
    }

    private func isOfAnotherLog(_ name: String, in storage: Storage) throws(StorageError) -> Bool {
        try headers(of: name, in: storage).contains { $0.logIdentifier != format.logIdentifier }
    }

    /// The storage of a tenant's own journal.
    func storage(of tenant: TenantName, in directory: String) -> Storage {
        storage.dedicated(
            at: directory.isEmpty
                ? ([Self.directory] + tenant.pathComponents).joined(separator: "/") : directory)
    }
}

/// Whose journal a root is to be that is opened as a part of a log.
struct DedicatedRoot {
    let logIdentifier: LogIdentifier
    let tenant: TenantName
    /// Whether it is made where there is none. Where one was, its absence is a volume that is not mounted.
    let mayCreate: Bool
}
