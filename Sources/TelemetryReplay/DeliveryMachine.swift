import HeapModule
import TelemetryWAL
import WALFormat
import WALStorage

/// Decides what is sent to a receiver, when, and what may be acknowledged: a state machine without I/O and without a
/// clock. It is told what was read and how requests ended, each with the time, and says which request is next, what
/// is acknowledged, and when to ask again. `Replayer` is a shell of tasks around it, the simulator another.
///
/// *Who is next.* Tenants take turns (deficit round robin, Shreedhar and Varghese 1995): each turn is worth a batch's
/// bytes times the tenant's weight. A tenant has a window of sections (`DeliveryStream`), all have a number of requests
/// under way, which is halved where the receiver cannot take one and grows by one with each that it takes.
///
/// *What fails.* A tenant whose request the receiver cannot take now waits, longer each time, and then sends one
/// request alone until one is taken; nobody waits with it. A request that is refused for good is halved until the record
/// that is to blame stands alone, which goes to the dead letters. Where a row of records does, one after the
/// other, the tenant waits between them as after a failure: a receiver that refuses everything is to blame itself, and
/// must not have a whole log moved to the dead letters.
///
/// *Memory.* What is read and not acknowledged is counted. Where it comes to the limit and nothing can be sent, those
/// who stand still lose what waits of them: it is read again later (`evictions`).
package struct DeliveryMachine: Sendable {
    /// A request that is to be sent.
    package struct Request: Sendable {
        package let identifier: UInt64
        package let lane: Int
        package let batch: ExportBatch
    }

    /// A record that the receiver refuses for good.
    package struct DeadLetter: Sendable {
        package let identifier: UInt64
        package let batch: ExportBatch
        package let reason: String
    }

    /// Where a tenant stands, or is to be read from.
    package struct Position: Sendable, Hashable {
        package var lane: Int
        package var tenant: TenantName
        package var through: UInt64

        package init(lane: Int, tenant: TenantName, through: UInt64) {
            (self.lane, self.tenant, self.through) = (lane, tenant, through)
        }
    }

    private enum Phase { case waiting, underWay, beingBuried }

    private struct Flight: Sendable {
        var stream: Int
        var section: UInt64
        var batch: ExportBatch
        var phase = Phase.waiting
        /// The stream's `blockCount` when it was sent.
        var sentIn: UInt64 = 0
    }

    struct StreamKey: Hashable, Sendable {
        var lane: Int
        var tenant: TenantName
    }

    /// A moment at which a stream may be able to send again.
    private struct Alarm: Comparable, Sendable {
        var time: UInt64
        var stream: Int
        static func < (left: Alarm, right: Alarm) -> Bool { (left.time, left.stream) < (right.time, right.stream) }
    }

    private let options: ReplayOptions
    private let window: Int
    /// By lane, by how much each tenant's weight is multiplied.
    private let laneWeights: [Int]
    private var streams: [DeliveryStream] = []
    private var indices: [StreamKey: Int] = [:]
    private var flights: [UInt64: Flight] = [:]
    private var lastIdentifier: UInt64 = 0
    /// Those who may have something to send, in turn. `ringHead`: who was before it had a turn.
    private var ring: [Int] = []
    private var ringHead = 0
    private var alarms = Heap<Alarm>()
    private var requestsUnderWay = 0
    /// How many may be under way at the moment, and the last request that was made before it was lowered.
    private var requestLimit: Int
    private var lastBeforeLowering: UInt64 = 0
    private var byteRate: TokenBucket?
    private var recordRate: TokenBucket?
    private var random: DeliveryRandom
    private var ended: [Int] = []
    /// Streams with something that was read and has not ended; such that fail, are slow or were halted; such with
    /// acknowledgements whose durability is not known.
    private var unfinished: Set<Int> = []
    private var troubled: Set<Int> = []
    private var undurable: Set<Int> = []
    private var lettersUnderWay = 0
    /// Streams that wait for nothing but the durability of their acknowledgements.
    private var durabilityWaiters: Set<Int> = []
    private var letters: [DeadLetter] = []
    /// Since when room is lacking and nothing can be sent.
    private var standsStillSince: UInt64?
    /// Who had no room when `full` was asked last.
    private var lastFull: Set<StreamKey> = []
    /// Nothing more comes: what waits is sent however little it is.
    package var isDraining = false
    /// Bytes of what was read and not let go of, and of requests under way.
    package private(set) var heldBytes = 0
    /// Records that were read of tenants that nothing more is sent of in this run.
    package private(set) var haltedRecords: UInt64 = 0
    /// Bytes and records of each batch that was delivered since this was taken.
    package private(set) var totals = DeliveryCounters()
    /// What was worth a line: tenant and reason, the latest of each.
    package private(set) var troubles: [TenantName: String] = [:]

    /// `inOrder`: one request of a tenant at a time. `seed`: of the jitter.
    package init(
        options: ReplayOptions, inOrder: Bool = false, laneWeights: [Int] = [1], seed: UInt64, at now: UInt64
    ) {
        self.options = options
        self.laneWeights = laneWeights
        window = inOrder ? 1 : max(1, options.maximumRequestsPerTenant)
        requestLimit = max(1, options.maximumConcurrentRequests)
        byteRate = options.maximumBytesPerSecond.map { TokenBucket(rate: max(1, $0), at: now) }
        recordRate = options.maximumRecordsPerSecond.map { TokenBucket(rate: max(1, $0), at: now) }
        random = DeliveryRandom(seed: seed)
    }

    // MARK: - What is read

    private mutating func stream(_ lane: Int, _ tenant: TenantName) -> Int {
        let key = StreamKey(lane: lane, tenant: tenant)
        if let known = indices[key] { return known }
        let weight = (options.tenantWeights[tenant] ?? 1) * laneWeights[lane]
        streams.append(DeliveryStream(lane: lane, tenant: tenant, weight: max(1, weight)))
        indices[key] = streams.count - 1
        return streams.count - 1
    }

    /// Takes records that were read.
    package mutating func add(_ batch: RecordBatch, lane: Int = 0, at now: UInt64) {
        let index = stream(lane, batch.tenant)
        if streams[index].haltReason != nil {
            haltedRecords += UInt64(batch.count)
            return
        }
        heldBytes += batch.byteCount + DeliveryStream.batchOverhead
        streams[index].add(.batch(batch), at: now)
        unfinished.insert(index)
        enqueue(index)
    }

    /// Passes numbers whose records nobody can deliver any more: they are acknowledged in their turn.
    package mutating func addGap(_ sequences: ClosedRange<UInt64>, of tenant: TenantName, lane: Int = 0, at now: UInt64)
    {
        let index = stream(lane, tenant)
        if streams[index].haltReason != nil { return }
        streams[index].add(.gap(sequences), at: now)
        unfinished.insert(index)
        enqueue(index)
    }

    /// How many bytes may be read now; 0: none.
    package var room: Int { max(0, options.maximumBufferedBytes - heldBytes) }

    /// Tenants that take nothing at the moment: what is read of them would have to wait in memory.
    package mutating func full(lane: Int = 0, at now: UInt64) -> Set<TenantName> {
        var full: Set<TenantName> = []
        for index in troubled where streams[index].lane == lane && isFull(index, at: now) {
            full.insert(streams[index].tenant)
        }
        lastFull = lastFull.filter { $0.lane != lane }
        for tenant in full { lastFull.insert(StreamKey(lane: lane, tenant: tenant)) }
        return full
    }

    /// Whether somebody can take something who could not when `full` was asked last.
    package func hasRoomAgain(at now: UInt64) -> Bool {
        lastFull.contains { key in indices[key].map { !isFull($0, at: now) } ?? true }
    }

    private func isFull(_ index: Int, at now: UInt64) -> Bool {
        streams[index].haltReason != nil
            || (streams[index].failures > 0 || streams[index].isSlow || streams[index].blockedUntil > now)
                && streams[index].queuedBytes >= options.maximumBatchBytes
    }

    // MARK: - Sending

    /// Puts a stream into the ring, if it may have something to send.
    private mutating func enqueue(_ index: Int) {
        guard !streams[index].isInRing else { return }
        streams[index].isInRing = true
        ring.append(index)
    }

    /// The next request; nil: there is none at the moment. It is under way until `finish`.
    package mutating func nextRequest(at now: UInt64) -> Request? {
        while let alarm = alarms.min, alarm.time <= now {
            alarms.removeMin()
            if streams[alarm.stream].alarm == alarm.time { streams[alarm.stream].alarm = 0 }
            enqueue(alarm.stream)
        }
        guard requestsUnderWay < requestLimit, rateDelay(at: now) == 0 else { return nil }
        while ringHead < ring.count {
            let index = ring[ringHead]
            guard let identifier = candidate(index, at: now) else {
                // It comes again when something has changed.
                streams[index].isInRing = false
                streams[index].deficit = min(0, streams[index].deficit)
                advanceRing()
                continue
            }
            if streams[index].deficit <= 0 {
                streams[index].deficit += options.maximumBatchBytes * streams[index].weight
                ring.append(index)
                advanceRing()
                continue
            }
            standsStillSince = nil
            return send(identifier, of: index)
        }
        return nil
    }

    private mutating func advanceRing() {
        ringHead += 1
        if ringHead > 256, ringHead > ring.count / 2 {
            ring.removeFirst(ringHead)
            ringHead = 0
        }
    }

    private mutating func send(_ identifier: UInt64, of index: Int) -> Request? {
        guard var flight = flights[identifier] else { return nil }
        flight.phase = .underWay
        flight.sentIn = streams[index].blockCount
        flights[identifier] = flight
        streams[index].waiting.removeFirst()
        streams[index].requestsUnderWay += 1
        streams[index].counters.requests += 1
        totals.requests += 1
        requestsUnderWay += 1
        // Whoever sends it makes one piece of it.
        heldBytes += flight.batch.payloadLength
        // What a record takes beside its payload is not for nothing either.
        streams[index].deficit -= flight.batch.payloadLength + 64 * flight.batch.records.count
        byteRate?.take(flight.batch.payloadLength)
        recordRate?.take(flight.batch.records.count)
        return Request(identifier: identifier, lane: streams[index].lane, batch: flight.batch)
    }

    /// The request that a stream can send now; nil: none. Cuts it off from what waits, if none is there already.
    private mutating func candidate(_ index: Int, at now: UInt64) -> UInt64? {
        while true {
            if streams[index].haltReason != nil { return nil }
            if streams[index].blockedUntil > now {
                setAlarm(streams[index].blockedUntil, for: index)
                return nil
            }
            if streams[index].requestsUnderWay >= (streams[index].failures > 0 ? 1 : window) { return nil }
            if let first = streams[index].waiting.first { return first }
            if streams[index].isQueueEmpty { return nil }
            if streams[index].outstanding >= window {
                if streams[index].sections.count < window { durabilityWaiters.insert(index) }
                return nil
            }
            let isWhole =
                streams[index].queuedBytes >= options.maximumBatchBytes
                || streams[index].queuedRecords >= options.maximumBatchRecords
            let due = streams[index].waitsSince + UInt64(max(0, options.maximumBatchAge.nanoseconds))
            if !isWhole, !isDraining, now < due {
                setAlarm(due, for: index)
                return nil
            }
            guard
                let (section, runs) = streams[index].cut(
                    records: options.maximumBatchRecords, bytes: options.maximumBatchBytes, at: now)
            else { return nil }
            heldBytes += runs.reduce(0) { $0 + $1.records.count } * DeliveryStream.recordOverhead
            if streams[index].isSlow, streams[index].queuedBytes < options.maximumBatchBytes {
                streams[index].isSlow = false
                updateTrouble(index)
            }
            for run in runs {
                let batch = ExportBatch(tenant: streams[index].tenant, kind: run.kind, records: run.records)
                streams[index].waiting.append(makeFlight(Flight(stream: index, section: section, batch: batch)))
            }
            if runs.isEmpty { ended.append(index) }
        }
    }

    private mutating func setAlarm(_ time: UInt64, for index: Int) {
        guard streams[index].alarm != time else { return }
        streams[index].alarm = time
        alarms.insert(Alarm(time: time, stream: index))
    }

    private mutating func updateTrouble(_ index: Int) {
        if streams[index].failures > 0 || streams[index].isSlow || streams[index].haltReason != nil
            || streams[index].blockedUntil > 0
        {
            troubled.insert(index)
        } else {
            troubled.remove(index)
        }
    }

    private mutating func makeFlight(_ flight: Flight) -> UInt64 {
        lastIdentifier += 1
        flights[lastIdentifier] = flight
        return lastIdentifier
    }

    private mutating func rateDelay(at now: UInt64) -> UInt64 {
        max(byteRate?.delay(at: now) ?? 0, recordRate?.delay(at: now) ?? 0)
    }

    // MARK: - How requests end

    /// A request that was under way has ended.
    package mutating func finish(_ identifier: UInt64, with result: ExportResult, at now: UInt64) {
        guard let flight = flights[identifier], flight.phase == .underWay else { return }
        let index = flight.stream
        requestsUnderWay -= 1
        heldBytes -= flight.batch.payloadLength
        streams[index].requestsUnderWay -= 1
        switch result {
        case .delivered(let rejected, let message):
            requestLimit = min(requestLimit + 1, max(1, options.maximumConcurrentRequests))
            note(index) { counters in
                counters.deliveredRecords += flight.batch.records.count
                counters.deliveredBytes += flight.batch.payloadLength
                counters.rejectedItems += rejected
            }
            if rejected > 0 {
                tell(index, "the receiver rejected \(rejected) items: \(message ?? "")")
            } else if streams[index].failures > 0 {
                troubles[streams[index].tenant] = nil
            }
            if streams[index].failures > 0 || streams[index].refusals > 0 || streams[index].blockedUntil > 0 {
                streams[index].failures = 0
                streams[index].failingSince = nil
                streams[index].refusals = 0
                streams[index].blockedUntil = 0
                updateTrouble(index)
            }
            settle(identifier, flight)
        case .retry(let reason, let after):
            lowerLimit(identifier)
            note(index) { $0.retries += 1 }
            fail(identifier, flight, reason, after: after, at: now)
        case .denied(let reason):
            lowerLimit(identifier)
            note(index) { $0.retries += 1 }
            // Nothing changes until somebody does something about it.
            if options.giveUpAfter != nil {
                putBack(identifier, flight)
                halt(index, reason)
            } else {
                fail(identifier, flight, reason, after: options.maximumBackoff, at: now)
            }
        case .refused(let reason):
            note(index) { $0.refusedRequests += 1 }
            refuse(identifier, flight, reason, at: now)
        }
        enqueue(index)
    }

    private mutating func note(_ index: Int, _ change: (inout DeliveryCounters) -> Void) {
        change(&streams[index].counters)
        change(&totals)
    }

    private mutating func tell(_ index: Int, _ trouble: String) { troubles[streams[index].tenant] = trouble }

    /// The receiver may have too much to do. Requests that were sent before it was given less count once.
    private mutating func lowerLimit(_ identifier: UInt64) {
        guard identifier > lastBeforeLowering else { return }
        requestLimit = max(1, requestLimit / 2)
        lastBeforeLowering = lastIdentifier
    }

    private mutating func settle(_ identifier: UInt64, _ flight: Flight) {
        flights[identifier] = nil
        streams[flight.stream].change(openRequestsOf: flight.section, by: -1)
        ended.append(flight.stream)
    }

    private mutating func putBack(_ identifier: UInt64, _ flight: Flight) {
        flights[identifier]?.phase = .waiting
        // In their order, as they were cut off.
        let place = streams[flight.stream].waiting.firstIndex { $0 > identifier }
        streams[flight.stream].waiting.insert(identifier, at: place ?? streams[flight.stream].waiting.count)
    }

    /// The receiver cannot take a request now.
    private mutating func fail(
        _ identifier: UInt64, _ flight: Flight, _ reason: String, after: Duration?, at now: UInt64
    ) {
        let index = flight.stream
        tell(index, reason)
        putBack(identifier, flight)
        block(index, after: after, sentIn: flight.sentIn, at: now)
        giveUpIfLate(index, reason, at: now)
    }

    private mutating func giveUpIfLate(_ index: Int, _ reason: String, at now: UInt64) {
        guard let patience = options.giveUpAfter, let since = streams[index].failingSince else { return }
        if now - since >= UInt64(max(0, patience.nanoseconds)) { halt(index, reason) }
    }

    /// Has a tenant wait, longer with each time: between half and all of what it would be, so that those who were refused
    /// together do not come again together (AWS, "Exponential Backoff and Jitter").
    private mutating func block(_ index: Int, after: Duration?, sentIn: UInt64, at now: UInt64) {
        if streams[index].failingSince == nil { streams[index].failingSince = now }
        // What was under way together fails together: that is one failure.
        if streams[index].blockCount == sentIn || streams[index].failures == 0 {
            streams[index].failures += 1
            streams[index].blockCount += 1
        }
        let most = UInt64(max(1, options.maximumBackoff.nanoseconds))
        let doublings = UInt64(min(streams[index].failures - 1, 30))
        let pause = min(most, UInt64(max(1, options.initialBackoff.nanoseconds)) << doublings)
        let jittered = pause / 2 + random.next(below: pause / 2 + 1)
        let asked = UInt64(max(0, after?.nanoseconds ?? 0))
        streams[index].blockedUntil = max(streams[index].blockedUntil, now + max(jittered, asked))
        updateTrouble(index)
    }

    /// Sends nothing more of a tenant in this run.
    private mutating func halt(_ index: Int, _ reason: String) {
        guard streams[index].haltReason == nil else { return }
        streams[index].haltReason = reason
        tell(index, reason)
        haltedRecords += UInt64(streams[index].queuedRecords)
        heldBytes -= streams[index].clear()
        for identifier in streams[index].waiting {
            haltedRecords += UInt64(flights.removeValue(forKey: identifier)?.batch.records.count ?? 0)
        }
        streams[index].waiting = []
        unfinished.remove(index)
        durabilityWaiters.remove(index)
        updateTrouble(index)
    }

    /// The receiver will never take a request as it is.
    private mutating func refuse(_ identifier: UInt64, _ flight: Flight, _ reason: String, at now: UInt64) {
        let index = flight.stream
        let isSuspect = streams[index].refusals >= options.maximumRefusalsInARow
        if isSuspect {
            block(index, after: nil, sentIn: flight.sentIn, at: now)
            tell(index, "the receiver refuses everything: \(reason)")
            putBack(identifier, flight)
            giveUpIfLate(index, "refused: \(reason)", at: now)
            guard streams[index].haltReason == nil, let place = streams[index].waiting.firstIndex(of: identifier) else {
                return
            }
            streams[index].waiting.remove(at: place)
        }
        let records = flight.batch.records
        guard records.count > 1 else {
            streams[index].refusals += 1
            tell(index, "refused: \(reason)")
            flights[identifier]?.phase = .beingBuried
            lettersUnderWay += 1
            letters.append(DeadLetter(identifier: identifier, batch: flight.batch, reason: reason))
            return
        }
        // The halves stand where the whole would.
        flights[identifier] = nil
        let halves = [records[..<(records.count / 2)], records[(records.count / 2)...]].map { half in
            makeFlight(
                Flight(
                    stream: index, section: flight.section,
                    batch: ExportBatch(tenant: flight.batch.tenant, kind: flight.batch.kind, records: Array(half))))
        }
        #if Simulation
            if DeliberateBug.isActive(.loseHalfOfRefused) {
                streams[index].waiting.insert(halves[0], at: 0)
                return
            }
        #endif
        streams[index].waiting.insert(contentsOf: halves, at: 0)
        streams[index].change(openRequestsOf: flight.section, by: 1)
    }

    /// Records that are to go to the dead letters. Each is under way until `finishDeadLetter`.
    package mutating func takeDeadLetters() -> [DeadLetter] {
        defer { letters = [] }
        return letters
    }

    /// A dead letter is durable, or could not be written: then the record is sent again, some time.
    package mutating func finishDeadLetter(_ identifier: UInt64, failure: String?, at now: UInt64) {
        guard let flight = flights[identifier], flight.phase == .beingBuried else { return }
        lettersUnderWay -= 1
        if let failure {
            fail(identifier, flight, failure, after: nil, at: now)
        } else {
            note(flight.stream) { $0.deadLetters += 1 }
            settle(identifier, flight)
        }
        enqueue(flight.stream)
    }

    // MARK: - Acknowledging

    /// Through which numbers there is nothing left to deliver, since this was asked last.
    package mutating func takeAcknowledgements() -> [Position] {
        guard !ended.isEmpty else { return [] }
        defer { ended = [] }
        return ended.compactMap { index in
            guard let (through, bytes) = streams[index].takeEnded() else { return nil }
            heldBytes -= bytes
            undurable.insert(index)
            enqueue(index)
            if streams[index].isEmpty { unfinished.remove(index) }
            return Position(lane: streams[index].lane, tenant: streams[index].tenant, through: through)
        }
    }

    /// Acknowledgements whose durability is not known, the last of each tenant.
    package var acknowledgedPositions: [Position] {
        undurable.sorted().compactMap { index in
            streams[index].acknowledged.last.map {
                Position(lane: streams[index].lane, tenant: streams[index].tenant, through: $0)
            }
        }
    }

    /// Whether a tenant waits for nothing but the durability of its acknowledgements.
    package var waitsForDurability: Bool { !durabilityWaiters.isEmpty }

    /// Acknowledgements through a number are durable.
    package mutating func acknowledged(_ position: Position) {
        guard let index = indices[StreamKey(lane: position.lane, tenant: position.tenant)] else { return }
        streams[index].acknowledged.removeAll { $0 <= position.through }
        if streams[index].acknowledged.isEmpty { undurable.remove(index) }
        if streams[index].outstanding < window { durabilityWaiters.remove(index) }
        enqueue(index)
    }

    // MARK: - Standing still

    /// Looks at all streams again: what is asked of them has changed.
    package mutating func wakeAll() { for index in unfinished.sorted() { enqueue(index) } }

    /// When something may be possible that is not now; nil: not before something else happens. To be asked when there was
    /// no next request.
    package mutating func wakeTime(at now: UInt64) -> UInt64? {
        var times: [UInt64] = []
        if let alarm = alarms.min { times.append(alarm.time) }
        if ringHead < ring.count, requestsUnderWay < requestLimit {
            let delay = rateDelay(at: now)
            if delay > 0 { times.append(now + delay) }
        }
        if room == 0 { times.append((standsStillSince ?? now) + Self.patience) }
        return times.min()
    }

    /// How long those who stand still may keep room that others need.
    private static var patience: UInt64 { 100_000_000 }

    /// Takes room from those who stand still, where it is lacking and nothing can be sent: they are to be read for again
    /// from these positions on.
    package mutating func evictions(at now: UInt64) -> [Position] {
        guard room == 0, requestsUnderWay < requestLimit else {
            standsStillSince = nil
            return []
        }
        let since = standsStillSince ?? now
        standsStillSince = since
        let isLate = now - since >= Self.patience
        let target = options.maximumBufferedBytes * 3 / 4
        var positions: [Position] = []
        let candidates = (isLate ? unfinished : troubled.intersection(unfinished)).filter { index in
            streams[index].queuedBytes > 0
        }.sorted { (streams[$1].queuedBytes, $0) < (streams[$0].queuedBytes, $1) }
        for index in candidates where heldBytes > target {
            guard let (through, bytes) = streams[index].dropQueue() else { continue }
            heldBytes -= bytes
            streams[index].isSlow = true
            updateTrouble(index)
            if streams[index].isEmpty { unfinished.remove(index) }
            positions.append(
                Position(lane: streams[index].lane, tenant: streams[index].tenant, through: through))
        }
        if !positions.isEmpty { standsStillSince = nil }
        return positions
    }

    // MARK: - State

    /// Whether nothing is under way, and nothing waits but of tenants that nothing more is sent of.
    package var isIdle: Bool {
        requestsUnderWay == 0 && lettersUnderWay == 0 && unfinished.isEmpty
    }

    /// Requests that are under way at the moment.
    package var requestCount: Int { requestsUnderWay }

    /// Tenants that nothing more is sent of in this run, and why.
    package var halted: [TenantName: String] {
        streams.reduce(into: [:]) { halted, stream in
            if let reason = stream.haltReason { halted[stream.tenant] = reason }
        }
    }

    /// By tenant, what came of its records.
    package var counters: [TenantName: DeliveryCounters] {
        streams.reduce(into: [:]) { all, stream in all[stream.tenant, default: .init()].add(stream.counters) }
    }
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

extension Duration {
    /// In nanoseconds, as far as they fit.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflows { return seconds < 0 ? .min : .max }
        let (sum, exceeds) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return exceeds ? (seconds < 0 ? .min : .max) : sum
    }
}

/// Random numbers of a seed, for jitter (SplitMix64, Steele, Lea, Flood 2014).
struct DeliveryRandom: Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next(below limit: UInt64) -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return (value ^ (value >> 31)) % max(1, limit)
    }
}
