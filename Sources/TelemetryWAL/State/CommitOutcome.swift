import WALFormat

/// What became of a group: waited for by appenders and tickets, set once by the committer.
///
/// Safe to share although unchecked: every variable is touched under the lock of the log that made it, only.
final class CommitOutcome: @unchecked Sendable {
    var result: Result<Void, WALError>?
    /// First sequence numbers of the group's frames, in order.
    var firstSequences: [UInt64] = []
    /// Tasks that wait.
    var continuations: [CheckedContinuation<Void, Never>] = []
}
