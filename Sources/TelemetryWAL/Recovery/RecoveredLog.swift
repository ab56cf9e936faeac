import WALFormat

/// A file that is free for use: a spare, or one that is no part of the log any more.
struct ReusableFile {
    var name: String
    /// Bytes that it takes.
    var size: UInt64
}

/// What recovery hands to the engine.
struct RecoveredLog {
    var state: LogState
    var segments: SegmentCatalog
    /// What lies beside the segments and is part of no log.
    var leftovers: SegmentCatalog.Leftovers
    var files: [LiveFile]
    var reusable: [ReusableFile]
    var nextFileNumber: UInt64
    var lastCommit: UInt64
    /// Highest commit that later bytes say was durable; what a reader beside a living writer may see.
    var durableThrough: UInt64
    var machine: CommitterMachine
    /// Whether damage may have swallowed the names of subscribers.
    var mayLackSubscribers: Bool
    /// The epochs of the files that are missing, by sequence number.
    var missing: [UInt64: UInt64]
    var report: RecoveryReport

    /// Which of the log's numbers has come so near to the format's limit that a writer might pass it; nil if none has.
    /// No log gets there by itself: such numbers were written by somebody else.
    var exhaustedNumbers: String? {
        let highest = FormatLimits.maximumNumber - (1 << 40)
        if lastCommit > highest { return "commit numbers" }
        if machine.lastFileSequence > highest { return "file sequence numbers" }
        if machine.durable.records > highest { return "the count of records" }
        if state.sequenceFloor > highest { return "sequence numbers" }
        if let tenant = state.tenants.first(where: { $0.backlog.appendedLength > highest }) {
            return "the bytes of tenant \(tenant.name)"
        }
        return state.tenants.first { $0.nextSequence > highest }.map { "sequence numbers of tenant \($0.name)" }
    }
}
