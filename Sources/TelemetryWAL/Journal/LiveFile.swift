import WALFormat

/// Where a tenant's records lie in a journal file.
struct TenantExtent: Equatable {
    var firstSequence: UInt64
    var lastSequence: UInt64
    /// Offset of the first and of the last commit that holds records of the tenant.
    var firstOffset: UInt64
    var lastOffset: UInt64

    mutating func extend(by later: TenantExtent) {
        firstSequence = min(firstSequence, later.firstSequence)
        lastSequence = max(lastSequence, later.lastSequence)
        lastOffset = max(lastOffset, later.lastOffset)
    }
}

/// A journal file that is part of the log: its place in it, how far it goes, and whose records it holds.
struct LiveFile {
    var name: String
    var header: JournalFileHeader
    /// Offset behind the last durable commit.
    var endOffset: UInt64
    /// Offset behind the last commit that is vouched for, where there are others behind it: as long as the log has a writer,
    /// these may be given up, and overwritten where they are.
    var vouchedEnd: UInt64 = .max
    var extents = TenantExtents()
    /// Whether any commit of it is part of the log.
    var hasAcceptedCommit = false
    /// The latest life in its commits, those of other lives included.
    var latestLife = JournalFileLife()
    /// Byte ranges that are damaged or could not be read; readers pass over them.
    var damage: [Range<UInt64>] = []
    /// The damage was found by a reader after the log had been opened: no report of recovery tells of it, so each
    /// reader is told.
    var isDamageNews = false
    /// What the checkpoints said that the file holds, kept beside `extents` when reading it found less: what is missing
    /// must be told where it stood.
    var summarisedExtents: TenantExtents?
    /// Bodies of frames that are damaged and that every subscriber had before: readers pass over them in silence.
    var excusedFrames: [Range<UInt64>] = []
    /// What it holds was taken from checkpoints: damage in it is not known yet.
    var isSummarised = false
    /// Segments hold what of the file can be read and somebody may lack.
    var isCompacted = false
    /// A write to the file failed: it is removed and not used again when its records are delivered.
    var isSuspect = false
    /// Acknowledged records in the file are damaged or cannot be read: it is set aside and never overwritten.
    var holdsLoss = false
    /// A repair has segments state what was lost in it or before it: until they do, it stays.
    var hasLossesToState = false
    /// It is on its way to quarantine.
    var isBeingSetAside = false

    var sequence: UInt64 { header.fileSequence }

    mutating func add(tenantIndex: Int, sequences: ClosedRange<UInt64>, offset: UInt64) {
        extents.add(
            TenantExtent(
                firstSequence: sequences.lowerBound, lastSequence: sequences.upperBound, firstOffset: offset,
                lastOffset: offset), ofTenant: tenantIndex)
    }

    /// Whether nobody is promised anything in the file that can be read. What cannot be read counts as undelivered
    /// while nobody subscribes.
    func isDelivered(in state: LogState) -> Bool {
        if state.cursors.isEmpty, holdsLoss { return false }
        return extents.allSatisfy { $1.lastSequence <= state.releasedThrough(tenant: $0) }
    }

    /// Whether the log can do without the file: everything in it that can be read is delivered, or in segments.
    func isSettled(in state: LogState) -> Bool {
        if isCompacted { return true }
        if hasLossesToState { return false }
        if holdsLoss, state.cursors.isEmpty { return false }
        return extents.allSatisfy { $1.lastSequence <= state.settledThrough(tenant: $0) }
    }
}
