import Logging
import TelemetryWAL
import WALFormat
import WALStorage

/// One run of a replayer: the shell around `DeliveryMachine`. Requests, reads, waits are child tasks; all that they come to
/// is taken up one after the other by the task that runs it.
///
/// Safe to share although unchecked: `run` is called once, and all variables are its task's own.
final class ReplayRun: @unchecked Sendable {
    private enum Event: Sendable {
        case read(lane: Int, Result<DeliveryReading, WALError>)
        case finished(UInt64, ExportResult)
        case buried(UInt64, failure: String?)
        case flushed(Result<Void, WALError>)
        case durable(lane: Int)
        case alarm(UInt64)
        case stop
        case timeout
    }

    /// What is new, or what was there before.
    private struct Lane {
        let source: any ReplaySource
        var isReading = false
        /// There may be more to read; else nothing is until something becomes durable.
        var mayHaveMore = true
        /// When it may be read again, after a failure.
        var readsFrom: UInt64 = 0
        /// Somebody waits for something to become durable; something has while it was read.
        var isFollowed = false
        var hasNews = false
        /// Read again, or for again, with the next read.
        var again: [(tenant: TenantName, behind: UInt64?)] = []
        /// Tenants whose records cannot be had now, and when that is tried again.
        var unavailable: [TenantName: UInt64] = [:]
        /// The first of these times, or an earlier one.
        var unavailableFrom = UInt64.max
    }

    private let subscriber: TenantName
    private let exporter: any TelemetryExporter
    private let deadLetters: (any DeadLetterStore)?
    private let backlog: (any BacklogAccount)?
    private let options: ReplayOptions
    private let isFollowing: Bool
    private let stop: DurabilitySignal?
    private let progress: (@Sendable (Int, Int) -> Void)?
    private let clock = ContinuousClock()
    private let start: ContinuousClock.Instant
    private var machine: DeliveryMachine
    private var lanes: [Lane]
    private var failure: WALError?
    private var isStopping = false
    private var isOutOfTime = false
    /// There was more to read when it ended.
    private var wasCut = false
    private var isFlushing = false
    private var lastFlush: UInt64 = 0
    private var nextAlarm = UInt64.max
    private var lastLookAtBacklog: UInt64 = 0
    private var summary = ReplaySummary()
    /// What was told of: a walk comes by the same places again.
    private var told: Set<String> = []

    /// Bytes that are read at a time, the time that must pass between two flushes of acknowledgements, that before
    /// another attempt where the device failed, and that before what has become durable is looked at: more may come.
    private static var readLength: Int { 4 << 20 }
    private static var flushInterval: UInt64 { 2_000_000 }
    private static var patience: UInt64 { 1_000_000_000 }
    private static var gatheringTime: Duration { .milliseconds(5) }

    /// `sources`: what is new, and what was there before, if that is apart; `backlog` keeps account of the latter.
    /// `deadLetters`: nil where what is refused stays where it is.
    init(
        sources: [any ReplaySource], subscriber: TenantName, exporter: any TelemetryExporter,
        deadLetters: (any DeadLetterStore)?, options given: ReplayOptions, isFollowing: Bool, stop: DurabilitySignal?,
        progress: (@Sendable (Int, Int) -> Void)?, backlog: (any BacklogAccount)? = nil
    ) {
        (self.subscriber, self.exporter, self.deadLetters) = (subscriber, exporter, deadLetters)
        (self.isFollowing, self.stop, self.progress) = (isFollowing, stop, progress)
        self.backlog = backlog
        var options = given
        options.maximumBufferedBytes = max(2, options.maximumBufferedBytes)
        options.maximumBatchBytes = max(1, min(options.maximumBatchBytes, options.maximumBufferedBytes / 2, 1 << 30))
        options.maximumBatchRecords = max(1, options.maximumBatchRecords)
        options.tenantWeights = options.tenantWeights.mapValues { min(max($0, 1), 1000) }
        self.options = options
        start = clock.now
        machine = DeliveryMachine(
            options: options, inOrder: exporter.deliversInOrder,
            laneWeights: options.order == .oldestFirst ? [1, 1] : options.order.laneWeights,
            seed: UInt64.random(in: 0 ... .max), at: 0)
        machine.isDraining = !isFollowing
        lanes = sources.map { Lane(source: $0) }
    }

    private var now: UInt64 { UInt64(max(0, (clock.now - start).nanoseconds)) }

    func run() async throws(WALError) -> ReplaySummary {
        await withTaskGroup(of: Event.self) { group in
            if let stop {
                group.addTask {
                    await stop.wait()
                    return .stop
                }
            }
            while true {
                if Task.isCancelled { isStopping = true }
                read(&group)
                acknowledge()
                // A section of nothing but numbers that nobody can deliver ends when it is cut off.
                repeat { send(&group) } while acknowledge()
                flush(&group)
                if isAtEnd {
                    acknowledgeBacklog()
                    break
                }
                wait(&group)
                guard let event = await group.next() else {
                    // It would be a mistake of ours; what is not delivered stays in the log, and comes with the next run.
                    summary.note("the replayer stands still: there is something to send, and nothing that it waits for")
                    break
                }
                take(event, &group)
            }
            wasCut = lanes.contains { $0.isReading || $0.mayHaveMore || !$0.again.isEmpty }
            group.cancelAll()
            // What was delivered meanwhile is acknowledged.
            for await event in group {
                switch event {
                case .finished(let identifier, .delivered(let rejected, let message)):
                    machine.finish(identifier, with: .delivered(rejected: rejected, message: message), at: now)
                case .buried(let identifier, failure: nil): machine.finishDeadLetter(identifier, failure: nil, at: now)
                default: break
                }
            }
            acknowledge()
        }
        do throws(WALError) { try await flushAll() } catch { failure = failure ?? error }
        if failure == nil { _ = backlog?.endIfDone() }
        conclude()
        if let failure { throw failure }
        return summary
    }

    /// Whether nothing is left to do, or is to be done any more.
    private var isAtEnd: Bool {
        if isOutOfTime { return true }
        if failure != nil || Task.isCancelled { return machine.requestCount == 0 || Task.isCancelled }
        if !machine.isIdle || lanes.contains(where: \.isReading) { return false }
        if isStopping { return true }
        if isFollowing { return false }
        // Who had no room comes to have some.
        return lanes.allSatisfy { !$0.mayHaveMore && $0.again.isEmpty } && !machine.holdsBack
    }

    // MARK: - Reading

    private func read(_ group: inout TaskGroup<Event>) {
        guard failure == nil, !isStopping else { return }
        let now = now
        if !lanes.contains(where: \.isReading) {
            // What is being read follows what would be dropped.
            for position in lanes[0].source.canReadAgain ? machine.evictions(at: now) : [] {
                lanes[position.lane].again.append((position.tenant, position.through))
            }
        }
        if isFollowing {
            for lane in lanes.indices where lanes[lane].unavailableFrom <= now {
                for (tenant, time) in lanes[lane].unavailable where time <= now {
                    lanes[lane].unavailable[tenant] = nil
                    lanes[lane].again.append((tenant, nil))
                }
                lanes[lane].unavailableFrom = lanes[lane].unavailable.values.min() ?? .max
            }
        }
        for lane in lanes.indices where !lanes[lane].isReading && machine.room > 0 && lanes[lane].readsFrom <= now {
            guard lanes[lane].mayHaveMore || !lanes[lane].again.isEmpty || machine.hasRoomAgain(at: now) else {
                continue
            }
            let (source, again) = (lanes[lane].source, lanes[lane].again)
            lanes[lane].again = []
            lanes[lane].isReading = true
            let full = machine.full(lane: lane, at: now)
            let limit = min(machine.room, Self.readLength)
            group.addTask {
                do throws(WALError) {
                    return .read(
                        lane: lane, .success(try await source.read(byteLimit: limit, full: full, again: again)))
                } catch { return .read(lane: lane, .failure(error)) }
            }
        }
    }

    private func take(_ reading: DeliveryReading, of lane: Int) {
        let now = now
        for item in reading.items {
            switch item {
            case .batch(let batch): machine.add(batch, lane: lane, at: now)
            case .failure(let error, let tenant): note(error, of: tenant, lane: lane, at: now)
            }
        }
        lanes[lane].mayHaveMore = !reading.isAtEnd || lanes[lane].hasNews
        lanes[lane].hasNews = false
    }

    private func note(_ error: WALError, of tenant: TenantName?, lane: Int, at now: UInt64) {
        let isNews = told.insert("\(error)").inserted
        // Damage is bounded by what there is to be damaged; a line for each of very many would not help anybody.
        if told.count > 4096 { told.removeAll() }
        if isNews {
            summary.note("\(error)")
            options.logger.warning("records cannot be read", metadata: ["error": "\(error)"])
        }
        switch error {
        case .keyForgotten(let tenant, let sequences, _):
            if isNews { summary.forgottenRecords += UInt64(sequences.count) }
            machine.addGap(sequences, of: tenant, lane: lane, at: now)
        case .damaged: if isNews { summary.unreadablePlaces += 1 }
        default:
            guard let tenant else { return }
            let pause = UInt64(max(0, options.maximumBackoff.nanoseconds))
            lanes[lane].unavailableFrom = min(lanes[lane].unavailableFrom, now + pause)
            if lanes[lane].unavailable.updateValue(now + pause, forKey: tenant) == nil, isNews {
                summary.lockedTenants += 1
            }
        }
    }

    // MARK: - Sending

    private func send(_ group: inout TaskGroup<Event>) {
        guard failure == nil, !Task.isCancelled else { return }
        let exporter = exporter
        while let request = machine.nextRequest(at: now) {
            let (identifier, batch) = (request.identifier, request.batch)
            group.addTask { .finished(identifier, await exporter.export(batch)) }
        }
        for letter in machine.takeDeadLetters() { bury(letter, &group) }
    }

    private func bury(_ letter: DeliveryMachine.DeadLetter, _ group: inout TaskGroup<Event>) {
        guard let record = letter.batch.records.first else { return }
        let identifier = letter.identifier
        guard let store = deadLetters else {
            group.addTask { .buried(identifier, failure: nil) }
            return
        }
        let dead = DeadLetter(
            tenant: letter.batch.tenant, subscriber: subscriber, record: record, reason: letter.reason,
            refused: wallClockNanoseconds())
        options.logger.warning(
            "a record goes to the dead letters",
            metadata: [
                "tenant": "\(dead.tenant)", "sequence": "\(record.sequence)", "reason": "\(letter.reason)",
            ])
        group.addTask {
            do {
                try await store.store(dead)
                return .buried(identifier, failure: nil)
            } catch { return .buried(identifier, failure: "the dead letter cannot be written: \(error)") }
        }
    }

    /// Returns whether anything was acknowledged, so that more may be sent.
    @discardableResult
    private func acknowledge() -> Bool {
        let positions = machine.takeAcknowledgements()
        for position in positions {
            lanes[position.lane].source.acknowledge(through: position.through, of: position.tenant)
        }
        return !positions.isEmpty
    }

    /// Makes acknowledgements durable that somebody waits for, if they are not yet.
    private func flush(_ group: inout TaskGroup<Event>) {
        guard machine.waitsForDurability, !isFlushing, failure == nil else { return }
        let positions = machine.acknowledgedPositions
        // Most have been since: they ride on commits of others.
        for lane in lanes.indices {
            let tenants = positions.filter { $0.lane == lane }.map(\.tenant)
            for (tenant, through) in lanes[lane].source.durablyAcknowledged(tenants) {
                machine.acknowledged(.init(lane: lane, tenant: tenant, through: through))
            }
        }
        send(&group)
        guard machine.waitsForDurability else { return }
        isFlushing = true
        let source = lanes[0].source
        let due = lastFlush + Self.flushInterval
        let pause = due - min(due, now)
        group.addTask {
            if pause > 0 { try? await Task.sleep(for: .nanoseconds(Int64(pause))) }
            do throws(WALError) {
                try await source.flush()
                return .flushed(.success(()))
            } catch { return .flushed(.failure(error)) }
        }
    }

    /// Whether a service goes on after a failure: the device's may pass, and room comes.
    private func outlives(_ error: WALError) -> Bool {
        guard isFollowing else { return false }
        switch error {
        case .storage, .journalFull: break
        default: return false
        }
        options.logger.error("delivery has to wait", metadata: ["error": "\(error)"])
        return true
    }

    // MARK: - Waiting

    private func wait(_ group: inout TaskGroup<Event>) {
        var wake = machine.wakeTime(at: now)
        for lane in lanes {
            if isFollowing, !lane.unavailable.isEmpty { wake = min(wake ?? .max, lane.unavailableFrom) }
            if lane.readsFrom > now { wake = min(wake ?? .max, lane.readsFrom) }
        }
        guard let wake, wake < nextAlarm else { return }
        nextAlarm = wake
        let deadline = start + .nanoseconds(Int64(clamping: wake))
        let clock = clock
        group.addTask {
            try? await clock.sleep(until: deadline)
            return .alarm(wake)
        }
    }

    private func take(_ event: Event, _ group: inout TaskGroup<Event>) {
        switch event {
        case .read(let lane, let result):
            lanes[lane].isReading = false
            switch result {
            case .success(let reading): take(reading, of: lane)
            case .failure(let error):
                if !outlives(error) { failure = failure ?? error }
                lanes[lane].readsFrom = now + Self.patience
                lanes[lane].mayHaveMore = true
            }
            if isFollowing, lane == 0, !lanes[lane].mayHaveMore, !lanes[lane].isFollowed { follow(lane, &group) }
            endBacklog()
        case .finished(let identifier, let result):
            machine.finish(identifier, with: result, at: now)
            progress?(machine.totals.deliveredRecords, machine.totals.deliveredBytes)
            tellTroubles()
        case .buried(let identifier, let failure):
            machine.finishDeadLetter(identifier, failure: failure, at: now)
        case .flushed(let result):
            isFlushing = false
            lastFlush = now
            if case .failure(let error) = result {
                if !outlives(error) { failure = failure ?? error }
                lastFlush = now + Self.patience
            }
            endBacklog()
        case .durable(let lane):
            lanes[lane].isFollowed = false
            lanes[lane].mayHaveMore = true
            lanes[lane].hasNews = lanes[lane].isReading
        case .alarm(let time):
            if time == nextAlarm { nextAlarm = .max }
            endBacklog()
        case .stop:
            isStopping = true
            machine.isDraining = true
            machine.wakeAll()
            let timeout = options.shutdownTimeout
            group.addTask {
                try? await Task.sleep(for: timeout)
                return .timeout
            }
        case .timeout: isOutOfTime = true
        }
    }

    /// Waits until there is something new to read.
    private func follow(_ lane: Int, _ group: inout TaskGroup<Event>) {
        let source = lanes[lane].source
        lanes[lane].isFollowed = true
        group.addTask {
            await source.waitForMore()
            try? await Task.sleep(for: Self.gatheringTime)
            return .durable(lane: lane)
        }
    }

    /// What was there before is through.
    private func endBacklog() {
        guard isFollowing, lanes.count > 1, !lanes[1].isReading, !lanes[1].mayHaveMore, lanes[1].again.isEmpty,
            now > lastLookAtBacklog + 1_000_000_000
        else { return }
        lastLookAtBacklog = now
        acknowledgeBacklog()
        guard backlog?.endIfDone() ?? true else { return }
        lanes.removeLast()
        machine.end(lane: 1)
    }

    /// What is old is through: numbers at its end that nobody can deliver are, too.
    private func acknowledgeBacklog() {
        guard lanes.count > 1, !lanes[1].isReading, !lanes[1].mayHaveMore, lanes[1].again.isEmpty,
            lanes[1].unavailable.isEmpty, machine.isIdle, !machine.holdsBack, machine.halted.isEmpty
        else { return }
        backlog?.acknowledgeAll()
    }

    private func flushAll() async throws(WALError) { try await lanes[0].source.flush() }

    // MARK: - What it came to

    /// Each trouble is told once, and then when it is another one.
    private func tellTroubles() {
        for (tenant, trouble) in machine.takeTroubles() {
            options.logger.warning("delivery", metadata: ["tenant": "\(tenant)", "trouble": "\(trouble)"])
        }
    }

    private func conclude() {
        let totals = machine.totals
        summary.deliveredRecords = totals.deliveredRecords
        summary.deliveredBytes = totals.deliveredBytes
        summary.requests = totals.requests
        summary.retries = totals.retries
        summary.rejectedItems = totals.rejectedItems
        summary.deadLetters = totals.deadLetters
        summary.deliveredTenants = machine.counters.count { $0.value.deliveredRecords > 0 }
        summary.wasStopped = !machine.isIdle || wasCut
        for (tenant, trouble) in machine.troubles.sorted(by: { $0.key < $1.key }) {
            summary.note("tenant \(tenant): \(trouble)")
        }
        let halted = Set(machine.halted.keys)
        summary.givenUpRecords = lanes.reduce(0) { sum, lane in
            sum + (lane.source.canReadAgain ? lane.source.undelivered(of: halted) : machine.haltedRecords)
        }
        if deadLetters == nil {
            // They stay where they are.
            summary.givenUpRecords += UInt64(totals.deadLetters)
            summary.deadLetters = 0
        }
    }
}
