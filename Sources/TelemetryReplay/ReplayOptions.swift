import Logging
import WALFormat

/// How a replayer goes about it.
public struct ReplayOptions: Sendable {
    /// In which order a subscriber gets what it lacks.
    public enum Order: String, Sendable, CaseIterable {
        /// Each tenant's records in the order of their numbers.
        case oldestFirst = "oldest-first"
        /// What is appended from now on first; what is there already fills in behind, with a sixteenth of what is sent.
        case newestFirst = "newest-first"
        /// The same, half and half.
        case interleaved = "interleaved"

        /// How turns are shared between what is new and what is old.
        var laneWeights: [Int] {
            switch self {
            case .oldestFirst: [1]
            case .newestFirst: [16, 1]
            case .interleaved: [1, 1]
            }
        }
    }

    /// Most records in a request.
    public var maximumBatchRecords = 1000
    /// Most payload bytes in a request; a single larger record goes alone.
    public var maximumBatchBytes = 1 << 20
    /// How long a record may wait for others to be sent with.
    public var maximumBatchAge: Duration = .milliseconds(200)
    /// Most bytes in memory of records that are not yet delivered, what requests under way take included; what is
    /// under way when this is reached may add `maximumConcurrentRequests` batches, and compression half as much again.
    public var maximumBufferedBytes = 64 << 20
    /// Most requests under way at a time. Fewer are while the receiver cannot take them.
    public var maximumConcurrentRequests = 8
    /// Most batches of a tenant that were sent and are not durably acknowledged: as many may come twice after a crash.
    /// 1 for exporters that ask for order.
    public var maximumRequestsPerTenant = 4
    /// Most payload bytes and records a second, over all tenants; nil: as many as the receiver takes.
    public var maximumBytesPerSecond: Double?
    public var maximumRecordsPerSecond: Double?
    /// How much a tenant is sent where there is more than the receiver takes: so many times another one's share. 1 to 1000;
    /// 1 where it is not said.
    public var tenantWeights: [TenantName: Int] = [:]
    public var order = Order.oldestFirst
    /// Whose records are sent; nil: everybody's.
    public var tenants: Set<TenantName>?
    /// Waiting time before a tenant's first repetition; it doubles with each, with random jitter between half and all of it.
    public var initialBackoff: Duration = .milliseconds(100)
    public var maximumBackoff: Duration = .seconds(10)
    /// How long a tenant's requests may fail in a row until it is given up for this run; nil: for ever.
    public var giveUpAfter: Duration?
    /// Records in a row that may go to the dead letters until the tenant waits between them: it may be the receiver that is
    /// at fault.
    public var maximumRefusalsInARow = 16
    /// How long what is under way may go on when the replayer is to stop.
    public var shutdownTimeout: Duration = .seconds(10)
    public var logger = Logger(label: "telemetry-replay")

    public init() {}
}
