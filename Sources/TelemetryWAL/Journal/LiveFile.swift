import WALFormat

/// Where a tenant's records lie in a journal file.
struct TenantExtent: Equatable {
    var firstSequence: UInt64
    var lastSequence: UInt64
    /// Offset of the first and of the last commit that holds records of the tenant.
    var firstOffset: UInt64
    var lastOffset: UInt64
}

/// A journal file that is part of the log: its place in it, how far it goes, and whose records it holds.
struct LiveFile {
    var name: String
    var header: JournalFileHeader
    /// Offset behind the last durable commit.
    var endOffset: UInt64
    /// By the tenant's index in the log's state.
    var extents: [Int: TenantExtent] = [:]
    /// Byte ranges that are damaged or could not be read; readers pass over them.
    var damage: [Range<UInt64>] = []
    /// Readers that are inside the file at the moment.
    var pins = 0
    /// Whether the file may be used again: not after a failed write or with damage in it.
    var isRecyclable = true

    var sequence: UInt64 { header.fileSequence }

    mutating func add(tenantIndex: Int, sequences: ClosedRange<UInt64>, offset: UInt64) {
        if extents[tenantIndex]?.lastOffset != nil {
            extents[tenantIndex]!.lastSequence = sequences.upperBound
            extents[tenantIndex]!.lastOffset = offset
        } else {
            extents[tenantIndex] = TenantExtent(
                firstSequence: sequences.lowerBound, lastSequence: sequences.upperBound, firstOffset: offset,
                lastOffset: offset)
        }
    }

    /// Whether every subscriber has everything in the file.
    func isDelivered(in state: LogState) -> Bool {
        extents.allSatisfy { $1.lastSequence <= state.acknowledgedByAll(tenant: $0) }
    }
}
