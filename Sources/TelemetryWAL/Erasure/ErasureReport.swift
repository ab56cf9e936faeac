import WALFormat

/// What an erasure did.
public struct ErasureReport: Sendable, Equatable {
    /// A file that was touched.
    public struct File: Sendable, Equatable {
        /// Path below the log's root; the whole path of what is in a tenant's own journal.
        public let path: String
        /// Bytes that were overwritten with zeros: what was zero before is not counted.
        public internal(set) var overwritten: UInt64
        /// The file is gone; else it goes on holding what is others'.
        public internal(set) var isRemoved: Bool
    }

    public let tenant: TenantName
    /// The last number that was erased; 0: the tenant never had a record.
    public let through: UInt64
    /// Records, by their numbers, that some subscriber lacked.
    public let undelivered: UInt64
    /// Files that held something of the tenant, or something of which nothing proves that it was not the tenant's.
    public internal(set) var files: [File] = []
    /// Files in the tenant's directories, or among the journal's, that say of themselves that they are another log's
    /// or tenant's. They were left alone.
    public internal(set) var leftAlone: [String] = []

    /// Journal files that left the log meanwhile, and that the device failed to overwrite: they were removed all the same,
    /// and bytes of the tenant's may stand in blocks that are the file system's again.
    public internal(set) var notOverwritten: [String] = []

    /// With what another journal's erasure did, whose root is at a path; nil for the log's.
    func joined(by other: ErasureReport, in root: String?) -> ErasureReport {
        var whole = ErasureReport(
            tenant: tenant, through: max(through, other.through), undelivered: undelivered + other.undelivered)
        func path(_ name: String) -> String { root.map { $0 + "/" + name } ?? name }
        whole.files =
            files
            + other.files.map { File(path: path($0.path), overwritten: $0.overwritten, isRemoved: $0.isRemoved) }
        whole.leftAlone = leftAlone + other.leftAlone.map(path)
        whole.notOverwritten = notOverwritten + other.notOverwritten.map(path)
        return whole
    }

    /// Something was done to a file.
    mutating func note(_ path: String, overwritten: UInt64, isRemoved: Bool = false) {
        if let place = files.firstIndex(where: { $0.path == path }) {
            files[place].overwritten += overwritten
            files[place].isRemoved = isRemoved
        } else if overwritten > 0 || isRemoved {
            files.append(File(path: path, overwritten: overwritten, isRemoved: isRemoved))
        }
    }

    init(tenant: TenantName, through: UInt64, undelivered: UInt64) {
        self.tenant = tenant
        self.through = through
        self.undelivered = undelivered
    }
}
