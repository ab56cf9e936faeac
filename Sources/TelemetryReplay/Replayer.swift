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
/// What the receiver refuses for good is in the log's `dead-letters` then, unless another store is given; `DeadLetterRedrive`
/// sends it again.
///
/// As a `Service` (`run`) it delivers until it is asked to stop: what becomes durable is sent within
/// `maximumBatchAge` and some milliseconds. `drain` delivers what is there, and returns.
public struct Replayer<Storage: JournalStorage, Exporter: TelemetryExporter>: Service {
    let log: WriteAheadLogEngine<Storage>
    let subscriber: TenantName
    let exporter: Exporter
    let deadLetters: any DeadLetterStore
    let options: ReplayOptions

    /// A replayer of a log for a subscriber. Does nothing until `run` or `drain`. `deadLetters` takes what the receiver refuses
    /// for good; nil: the log keeps it.
    public init(
        log: WriteAheadLogEngine<Storage>, subscriber: TenantName, exporter: Exporter,
        deadLetters: (any DeadLetterStore)? = nil, options: ReplayOptions = ReplayOptions()
    ) {
        self.log = log
        self.subscriber = subscriber
        self.exporter = exporter
        self.deadLetters = deadLetters ?? LogDeadLetters(log: log)
        self.options = options
    }

    /// Delivers until the service is shut down gracefully, or the task is cancelled. Then it sends what it has read,
    /// for `shutdownTimeout` at most, and returns when what was delivered is durably acknowledged. Throws `WALError` when
    /// the log itself fails; the exporter is not shut down.
    public func run() async throws { _ = try await follow() }

    /// The same; returns what it did. `progress` is told delivered records and bytes after each request. A task that is
    /// cancelled ends what is under way at once.
    public func follow(progress: (@Sendable (Int, Int) -> Void)? = nil) async throws -> ReplaySummary {
        let stop = DurabilitySignal()
        let run = try await makeRun(isFollowing: true, stop: stop, progress: progress)
        return try await withGracefulShutdownHandler {
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
        try await makeRun(isFollowing: false, stop: nil, progress: progress).run()
    }

    private func makeRun(
        isFollowing: Bool, stop: DurabilitySignal?, progress: (@Sendable (Int, Int) -> Void)?
    ) async throws(WALError) -> ReplayRun {
        let only = options.tenants.map { tenants in
            Dictionary(uniqueKeysWithValues: tenants.map { ($0, UInt64.max) })
        }
        var live = SubscriberSource(log, subscriber, ceilings: only)
        var sources: [any ReplaySource] = []
        var backlog: Backfill<Storage>?
        if options.order != .oldestFirst || Backfill.isPending(log, subscriber) {
            let account = try await Backfill(
                log, subscriber, of: options.tenants, begins: options.order != .oldestFirst)
            backlog = account
            live.alsoAcknowledges = { account.follow($0, through: $1) }
            var old = SubscriberSource(log, account.backfill, ceilings: account.ceilings)
            old.alsoAcknowledges = { account.noteFilled($0, through: $1) }
            sources.append(old)
        }
        sources.insert(live, at: 0)
        return ReplayRun(
            sources: sources, subscriber: subscriber, exporter: exporter, deadLetters: deadLetters, options: options,
            isFollowing: isFollowing, stop: stop, progress: progress, backlog: backlog)
    }
}

extension Replayer {
    /// Delivers what a view of a log shows, to whom it may concern: no cursor moves, and what is refused for good stays
    /// where it is and is counted as given up. A tenant whose requests fail is given up after `giveUpAfter`, or at once
    /// where that is nil. `sequence`: the first number of each tenant; `times`: of which times records are, nanoseconds
    /// since 1970 (UTC).
    public static func drain(
        _ view: WriteAheadLogReader<Storage>, from sequence: UInt64 = 1, during times: ClosedRange<UInt64>? = nil,
        to exporter: Exporter, options: ReplayOptions = ReplayOptions(),
        progress: (@Sendable (Int, Int) -> Void)? = nil
    ) async throws(WALError) -> ReplaySummary {
        var options = options
        options.giveUpAfter = options.giveUpAfter ?? .zero
        let feed = ViewFeed(view, of: options.tenants, from: sequence, during: times)
        return try await ReplayRun(
            sources: [ViewSource(feed: feed)], subscriber: "view", exporter: exporter, deadLetters: nil,
            options: options, isFollowing: false, stop: nil, progress: progress
        ).run()
    }
}
