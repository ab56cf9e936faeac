import TelemetryWAL
import WALFormat
import WALStorage

/// Where a replayer reads, and acknowledges.
protocol ReplaySource: Sendable {
    /// Reads on until so many bytes were given or all was. `full`: tenants that take nothing at the moment; `again`:
    /// tenants to read for again, behind a number where what came since could not be kept.
    func read(
        byteLimit: Int, full: Set<TenantName>, again: [(tenant: TenantName, behind: UInt64?)]
    ) async throws(WALError) -> DeliveryReading
    /// Whether what was read can be read again.
    var canReadAgain: Bool { get }
    func acknowledge(through sequence: UInt64, of tenant: TenantName)
    /// Through which numbers acknowledgements are durable.
    func durablyAcknowledged(_ tenants: [TenantName]) -> [TenantName: UInt64]
    /// Returns when all acknowledgements are durable.
    func flush() async throws(WALError)
    /// Returns when there may be more to read.
    func waitForMore() async
    /// Records of a tenant that are there to be delivered and are not acknowledged.
    func undelivered(of tenants: Set<TenantName>) -> UInt64
}

/// What a subscriber lacks.
struct SubscriberSource<Storage: JournalStorage>: ReplaySource {
    let log: WriteAheadLogEngine<Storage>
    let subscriber: TenantName
    let feed: DeliveryFeed<Storage>
    /// Acknowledges for others as well whom it stands for.
    var alsoAcknowledges: @Sendable (TenantName, UInt64) -> Void = { _, _ in }

    init(_ log: WriteAheadLogEngine<Storage>, _ subscriber: TenantName, ceilings: [TenantName: UInt64]?) {
        (self.log, self.subscriber) = (log, subscriber)
        feed = log.deliveryFeed(subscriber: subscriber, ceilings: ceilings)
    }

    var canReadAgain: Bool { true }

    func read(
        byteLimit: Int, full: Set<TenantName>, again: [(tenant: TenantName, behind: UInt64?)]
    ) async throws(WALError) -> DeliveryReading {
        try await feed.read(byteLimit: byteLimit, full: full, again: again)
    }

    func acknowledge(through sequence: UInt64, of tenant: TenantName) {
        log.acknowledge(through: sequence, of: tenant, subscriber: subscriber)
        alsoAcknowledges(tenant, sequence)
    }

    func durablyAcknowledged(_ tenants: [TenantName]) -> [TenantName: UInt64] { feed.durablyAcknowledged(tenants) }
    func flush() async throws(WALError) { try await log.flushAcknowledgements() }
    func waitForMore() async { await feed.signal.wait() }

    func undelivered(of tenants: Set<TenantName>) -> UInt64 {
        log.tenants.filter { tenants.contains($0.name) }.reduce(0) { sum, status in
            sum + status.nextSequence - 1 - min(status.nextSequence - 1, status.acknowledgedThrough[subscriber] ?? 0)
        }
    }
}

/// A view of a log: no cursor moves.
struct ViewSource<Storage: JournalStorage>: ReplaySource {
    let feed: ViewFeed<Storage>

    var canReadAgain: Bool { false }

    func read(
        byteLimit: Int, full: Set<TenantName>, again: [(tenant: TenantName, behind: UInt64?)]
    ) async throws(WALError) -> DeliveryReading {
        try await feed.read(byteLimit: byteLimit)
    }

    func acknowledge(through sequence: UInt64, of tenant: TenantName) {}

    func durablyAcknowledged(_ tenants: [TenantName]) -> [TenantName: UInt64] {
        Dictionary(uniqueKeysWithValues: tenants.map { ($0, .max) })
    }

    func flush() async throws(WALError) {}
    func waitForMore() async {}
    func undelivered(of tenants: Set<TenantName>) -> UInt64 { 0 }
}
