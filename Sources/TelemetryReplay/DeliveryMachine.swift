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

    enum Phase { case waiting, underWay, beingBuried }

    struct Flight: Sendable {
        var stream: Int
        var section: UInt64
        var batch: ExportBatch
        var phase = Phase.waiting
        /// The stream's `blockCount` when it was sent.
        var sentIn: UInt64 = 0
        /// The how manieth request it was.
        var send: UInt64 = 0
    }

    struct StreamKey: Hashable, Sendable {
        var lane: Int
        var tenant: TenantName
    }

    /// A moment at which a stream may be able to send again.
    struct Alarm: Comparable, Sendable {
        var time: UInt64
        var stream: Int
        static func < (left: Alarm, right: Alarm) -> Bool { (left.time, left.stream) < (right.time, right.stream) }
    }

    let options: ReplayOptions
    let window: Int
    /// By lane, by how much each tenant's weight is multiplied.
    let laneWeights: [Int]
    var streams: [DeliveryStream] = []
    var indices: [StreamKey: Int] = [:]
    var flights: [UInt64: Flight] = [:]
    var lastIdentifier: UInt64 = 0
    /// Those who may have something to send, in turn. `ringHead`: who was before it had a turn.
    var ring: [Int] = []
    var ringHead = 0
    var alarms = Heap<Alarm>()
    var requestsUnderWay = 0
    /// How many may be under way at the moment, and the last request that was made before it was lowered.
    var requestLimit: Int
    var lastBeforeLowering: UInt64 = 0
    var sends: UInt64 = 0
    var changedTroubles: Set<TenantName> = []
    /// When it is looked again for room to be taken.
    var nextLookForRoom: UInt64 = 0
    var byteRate: TokenBucket?
    var recordRate: TokenBucket?
    var random: DeliveryRandom
    var ended: [Int] = []
    /// Streams with something that was read and has not ended; such that fail, are slow or were halted.
    var unfinished: Set<Int> = []
    var troubled: Set<Int> = []
    var lettersUnderWay = 0
    /// Streams that wait for nothing but the durability of their acknowledgements.
    var durabilityWaiters: Set<Int> = []
    var letters: [DeadLetter] = []
    /// Since when room is lacking and nothing can be sent.
    var standsStillSince: UInt64?
    /// Who had no room when `full` was asked last.
    var lastFull: Set<StreamKey> = []
    /// Nothing more comes: what waits is sent however little it is.
    package var isDraining = false
    /// Bytes of what was read and not let go of, and of requests under way.
    package internal(set) var heldBytes = 0
    /// Records that were read of tenants that nothing more is sent of in this run.
    package internal(set) var haltedRecords: UInt64 = 0
    /// What came of all records.
    package internal(set) var totals = DeliveryCounters()
    /// What was worth a line: tenant and reason, the latest of each.
    package internal(set) var troubles: [TenantName: String] = [:]

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

    mutating func stream(_ lane: Int, _ tenant: TenantName) -> Int {
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
        for tenant in full {
            let key = StreamKey(lane: lane, tenant: tenant)
            // Who is halted stays so.
            if let index = indices[key], streams[index].haltReason == nil { lastFull.insert(key) }
        }
        return full
    }

    /// Whether somebody had no room when `full` was asked last: there may be more of him.
    package var holdsBack: Bool { !lastFull.isEmpty }

    /// Nothing more is read of a lane.
    package mutating func end(lane: Int) { lastFull = lastFull.filter { $0.lane != lane } }

    /// Tenants whose trouble is another one since this was asked last, and what it is.
    package mutating func takeTroubles() -> [(tenant: TenantName, trouble: String)] {
        defer { changedTroubles = [] }
        return changedTroubles.sorted().compactMap { tenant in troubles[tenant].map { (tenant, $0) } }
    }

    /// Whether somebody can take something who could not when `full` was asked last.
    package func hasRoomAgain(at now: UInt64) -> Bool {
        lastFull.contains { key in indices[key].map { !isFull($0, at: now) } ?? true }
    }

    func isFull(_ index: Int, at now: UInt64) -> Bool {
        streams[index].haltReason != nil || streams[index].isSlow && streams[index].blockedUntil > now
            || (streams[index].failures > 0 || streams[index].isSlow || streams[index].blockedUntil > now)
                && streams[index].queuedBytes >= options.maximumBatchBytes
    }

    // MARK: - Acknowledging

    /// Through which numbers there is nothing left to deliver, since this was asked last.
    package mutating func takeAcknowledgements() -> [Position] {
        guard !ended.isEmpty else { return [] }
        defer { ended = [] }
        return ended.compactMap { index in
            guard let (through, bytes) = streams[index].takeEnded() else { return nil }
            heldBytes -= bytes
            enqueue(index)
            if streams[index].isEmpty { unfinished.remove(index) }
            return Position(lane: streams[index].lane, tenant: streams[index].tenant, through: through)
        }
    }

    /// Of tenants that wait for the durability of acknowledgements, the last of these.
    package var acknowledgedPositions: [Position] {
        durabilityWaiters.sorted().compactMap { index in
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
        if streams[index].outstanding < window { durabilityWaiters.remove(index) }
        enqueue(index)
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
