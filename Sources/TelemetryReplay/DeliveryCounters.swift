/// What came of a tenant's records.
public struct DeliveryCounters: Sendable, Equatable {
    /// Records and payload bytes that the receiver took.
    public var deliveredRecords = 0
    public var deliveredBytes = 0
    /// Requests sent, and those of them that had to be repeated.
    public var requests = 0
    public var retries = 0
    /// Batches that the receiver refused for good, those included that were halved for it.
    public var refusedRequests = 0
    /// Items that the receiver took note of and refused (OTLP's partial success).
    public var rejectedItems = 0
    /// Records that went to the dead letters.
    public var deadLetters = 0

    public init() {}
}

extension DeliveryCounters {
    mutating func add(_ other: DeliveryCounters) {
        deliveredRecords += other.deliveredRecords
        deliveredBytes += other.deliveredBytes
        requests += other.requests
        retries += other.retries
        refusedRequests += other.refusedRequests
        rejectedItems += other.rejectedItems
        deadLetters += other.deadLetters
    }
}
