import Logging

/// How a replayer goes about it.
public struct ReplayOptions: Sendable {
    /// Most records in a request.
    public var maximumBatchRecords = 1000
    /// Most payload bytes in a request; a single larger record goes alone.
    public var maximumBatchBytes = 1 << 20
    /// Most payload bytes that are read and not yet delivered.
    public var maximumBufferedBytes = 64 << 20
    /// Most requests under way at a time, each of another tenant.
    public var maximumConcurrentRequests = 4
    /// Waiting time before the first repetition; it doubles with each, with random jitter between half and all of it.
    public var initialBackoff: Duration = .milliseconds(100)
    public var maximumBackoff: Duration = .seconds(10)
    /// How long one batch is tried before the replayer gives its tenant up; nil: for ever.
    public var giveUpAfter: Duration? = .seconds(60)
    public var logger = Logger(label: "telemetry-replay")

    public init() {}
}

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
    /// Records of batches that the receiver refused for good; they stay in the log, unacknowledged, and so does what
    /// follows of the same tenant.
    public var refusedRecords = 0
    /// Records left undelivered because the receiver could not be reached in time.
    public var givenUpRecords = 0
    /// Places that could not be read.
    public var unreadablePlaces = 0
    /// Records that are gone for good, since their keys were forgotten.
    public var forgottenRecords: UInt64 = 0
    /// Tenants whose keys are not to be had: their records stay in the log, unacknowledged.
    public var lockedTenants = 0
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
        refusedRecords == 0 && givenUpRecords == 0 && unreadablePlaces == 0 && lockedTenants == 0
    }
}
