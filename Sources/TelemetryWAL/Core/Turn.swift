import WALFormat

/// What one commit carries.
struct Turn {
    var group: StagedGroup?
    var control: [ControlRecord] = []
    var cursors: [CursorKey: UInt64] = [:]
    var subscriberRecords: [ControlRecord] = []
    /// Erasures that it writes.
    var erasures: [Int: TenantErasure] = [:]
    /// Totals of drops that it writes.
    var drops: Set<RetentionLedger.Key> = []
    /// Subscribers that left since the turn was taken: their cursors in it count no more.
    var departed: Set<TenantName> = []
    var flags: CommitHeader.Flags = []
    /// Begin a fresh file even though the present one has room.
    var forcesFreshFile = false
    /// Which of the takings of acknowledgements rides on it; 0: none.
    var acknowledgementNumber: UInt64 = 0
}

struct CursorKey: Hashable {
    var subscriber: TenantName
    var tenantIndex: Int
}
