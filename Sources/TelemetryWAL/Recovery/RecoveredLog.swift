/// A file that is free for use: a spare, or one that is no part of the log any more.
struct ReusableFile {
    var name: String
    /// Bytes that it takes.
    var size: UInt64
}

/// What recovery hands to the engine.
struct RecoveredLog {
    var state: LogState
    var files: [LiveFile]
    var reusable: [ReusableFile]
    var nextFileNumber: UInt64
    var lastCommit: UInt64
    /// Highest commit that later bytes say was durable; what a reader beside a living writer may see.
    var durableThrough: UInt64
    var machine: CommitterMachine
    /// Whether damage may have swallowed the names of subscribers.
    var mayLackSubscribers: Bool
    var report: RecoveryReport
}
