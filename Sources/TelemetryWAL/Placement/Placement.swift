import WALFormat

/// In which journal a tenant's records are appended.
public enum Placement: Hashable, Sendable {
    /// In the log's own, in commits with other tenants' records: one flush serves all of them.
    case shared
    /// In a journal of the tenant's own, with segments of its own: no file has anything of another tenant, and its
    /// commits wait for no other tenant's, unless both wait for the same device. Nil for the directory below the log's root that is named after the tenant;
    /// otherwise an absolute path, which may be on another volume, and holds nothing else.
    case dedicated(directory: String? = nil)

    init(_ home: PlacementTable.Home) {
        switch home {
        case .shared: self = .shared
        case .dedicated(let directory): self = .dedicated(directory: directory.isEmpty ? nil : directory)
        }
    }

    var home: PlacementTable.Home {
        switch self {
        case .shared: .shared
        case .dedicated(let directory): .dedicated(directory: directory ?? "")
        }
    }

    /// Throws `.invalidOption` for a directory that is no absolute path.
    func checked() throws(WALError) {
        guard case .dedicated(let directory?) = self else { return }
        guard directory.hasPrefix("/"), !directory.utf8.contains(0),
            directory.utf8.count <= PlacementTable.maximumDirectoryLength
        else { throw .invalidOption("a placement's directory \(directory.debugDescription) is no absolute path") }
    }
}

/// A place where records of a tenant are, or may still be.
public struct TenantResidence: Hashable, Sendable {
    public let tenant: TenantName
    public let placement: Placement
    /// The root of the journal there.
    public let path: String
    /// The first number that was given there.
    public let firstSequence: UInt64
    /// The last one; nil where the tenant's records are appended now.
    public let lastSequence: UInt64?
    /// Why it can neither be read nor appended to; nil: it can.
    public let fault: String?
}
