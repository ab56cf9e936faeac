/// What a replay did.
public struct ReplaySummary: Sendable, Equatable {
    /// Records that the receiver took.
    public var deliveredRecords = 0
    public var deliveredBytes = 0
    public var deliveredTenants = 0
    public var requests = 0
    /// Attempts that had to be repeated.
    public var retries = 0
    /// Items that the receiver took note of and refused (partial success).
    public var rejectedItems = 0
    /// Records that the receiver refused for good, each alone, and that are among the dead letters now.
    public var deadLetters = 0
    /// Records that stay in the log, unacknowledged, since their tenant was given up.
    public var givenUpRecords: UInt64 = 0
    /// Places that could not be read.
    public var unreadablePlaces = 0
    /// Records that are gone for good, since their keys were forgotten.
    public var forgottenRecords: UInt64 = 0
    /// Tenants whose records cannot be had, for want of a key or of their journal: they stay in the log, unacknowledged.
    public var lockedTenants = 0
    /// The replayer was stopped before it was through.
    public var wasStopped = false
    /// One line for each tenant, at most 20, that was refused or given up, and why.
    public var problems: [String] = []
    /// Problems beyond those.
    public var furtherProblems = 0

    public init() {}

    mutating func note(_ problem: String) {
        if problems.count < 20 { problems.append(problem) } else { furtherProblems += 1 }
    }

    /// Whether everything was delivered that is there to be.
    public var isComplete: Bool {
        deadLetters == 0 && givenUpRecords == 0 && unreadablePlaces == 0 && lockedTenants == 0 && !wasStopped
    }
}
