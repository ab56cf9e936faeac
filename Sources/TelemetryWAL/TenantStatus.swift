import WALFormat

/// A tenant as the log sees it.
public struct TenantStatus: Sendable {
    public let name: TenantName
    /// The number that the next record gets: as many as were ever appended, plus one.
    public let nextSequence: UInt64
    /// Sequence numbers that journal and segments still hold, nil where they hold none.
    public let held: ClosedRange<UInt64>?
    /// Per subscriber, through which sequence number it has acknowledged.
    public let acknowledgedThrough: [TenantName: UInt64]
    /// Through which number records were dropped, whoever lacked them; 0: none.
    public let droppedThrough: UInt64
    /// What was dropped since the log began, or not taken, by cause.
    public let drops: [DropCause: DropTotal]
    /// The tenant was erased, or is about to be; nil: never.
    public let erasure: TenantErasure?
    /// Records in the log that some subscriber lacks, by their numbers; all that are there while nobody subscribes.
    public let backlog: UInt64
    /// Bytes of these with 16 bytes each, uncompressed: what counts against a budget. After the log was opened it is an
    /// estimate where a subscriber has a part of what one journal file held.
    public let backlogLength: UInt64
    /// About when the log received the first of them, nanoseconds since 1970 (UTC); nil where there is none.
    public let oldestReceived: UInt64?

    static func all(in state: LogState, files: [LiveFile], segments: SegmentCatalog) -> [TenantStatus] {
        state.tenants.enumerated().map { index, tenant in
            let extents = files.compactMap { $0.extents[index] }
            let entries = segments.entries(of: tenant.name)
            let firsts = extents.map(\.firstSequence) + entries.prefix(1).map(\.covered.lowerBound)
            let lasts = extents.map(\.lastSequence) + entries.suffix(1).map(\.covered.upperBound)
            var held: ClosedRange<UInt64>?
            if let first = firsts.min(), let last = lasts.max() { held = first...max(first, last) }
            let unheld = held.map { $0.lowerBound - 1 } ?? tenant.nextSequence - 1
            let released = state.releasedThrough(tenant: index)
            return TenantStatus(
                name: tenant.name, nextSequence: tenant.nextSequence, held: held,
                acknowledgedThrough: Dictionary(
                    uniqueKeysWithValues: state.cursors.keys.map {
                        ($0, state.acknowledgedThrough($0, tenant: index))
                    }),
                droppedThrough: tenant.droppedThrough, drops: tenant.drops, erasure: tenant.erasure,
                backlog: tenant.nextSequence - 1 - min(tenant.nextSequence - 1, max(released, unheld)),
                backlogLength: state.heldLength(tenant: index),
                oldestReceived: tenant.backlog.received(of: max(released, tenant.backlog.baseSequence) + 1))
        }
    }
}
