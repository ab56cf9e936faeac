import Logging
import ServiceLifecycle
import TelemetryWAL
import WALFormat
import WALStorage

/// Delivers what a subscriber has not acknowledged yet, and acknowledges what was delivered.
///
/// Each tenant has a stream of its own and a fate of its own (`DeliveryMachine`): its turn, its window of requests,
/// its back-off. Records are read for whoever takes some (`DeliveryFeed`): a tenant that stands still keeps neither
/// memory nor the journal's reader from the others.
///
/// At least once: a record is acknowledged when the receiver has answered for it, or when it is among the dead letters.
/// After a crash no more comes twice than `maximumRequestsPerTenant` batches of each tenant. A request that
/// the receiver took without an answer comes twice as well.
///
/// As a `Service` (`run`) it delivers until it is asked to stop: what becomes durable is sent within
/// `maximumBatchAge` and some milliseconds. `drain` delivers what is there, and returns.
public struct Replayer<Storage: JournalStorage, Exporter: TelemetryExporter>: Service {
    let log: WriteAheadLogEngine<Storage>
    let subscriber: TenantName
    let exporter: Exporter
    let deadLetters: (any DeadLetterStore)?
    let options: ReplayOptions

    /// A replayer of a log for a subscriber. Does nothing until `run` or `drain`. `deadLetters` takes what the receiver refuses
    /// for good; without it such a tenant is given up for the run, and keeps its records.
    public init(
        log: WriteAheadLogEngine<Storage>, subscriber: TenantName, exporter: Exporter,
        deadLetters: (any DeadLetterStore)? = nil, options: ReplayOptions = ReplayOptions()
    ) {
        self.log = log
        self.subscriber = subscriber
        self.exporter = exporter
        self.deadLetters = deadLetters
        self.options = options
    }

    /// Delivers until the service is shut down gracefully, or the task is cancelled. Then it sends what it has read,
    /// for `shutdownTimeout` at most, and returns when what was delivered is durably acknowledged. Throws `WALError` when
    /// the log itself fails; the exporter is not shut down.
    public func run() async throws {
        let stop = DurabilitySignal()
        let run = ReplayRun(self, isFollowing: true, stop: stop, progress: nil)
        _ = try await withGracefulShutdownHandler {
            try await run.run()
        } onGracefulShutdown: {
            stop.raise()
        }
    }

    /// Delivers everything that is durable when it is called, or until then, and returns what it did. The subscriber's
    /// cursors are durable when it returns. `progress` is told delivered records and bytes after each request.
    /// Throws `WALError` when the log itself fails; what was delivered by then is acknowledged. Cancelling the task
    /// stops it: what is under way ends, and is acknowledged if it was delivered.
    public func drain(progress: (@Sendable (Int, Int) -> Void)? = nil) async throws(WALError) -> ReplaySummary {
        try await ReplayRun(self, isFollowing: false, stop: nil, progress: progress).run()
    }
}

/// Where records go that a receiver refuses for good.
public protocol DeadLetterStore: Sendable {
    /// Keeps a record, with why it was refused. Returns when it is durable. Throws why it could not be kept: then the record
    /// is sent again later.
    func store(_ letter: DeadLetter) async throws
}

/// A record that a receiver refused for good.
public struct DeadLetter: Sendable {
    public var tenant: TenantName
    /// Whose receiver it was.
    public var subscriber: TenantName
    public var record: RecordBatch.Record
    /// What the receiver said.
    public var reason: String
}
