import TelemetryReplay
import TelemetryWAL
import WALFormat
import WALStorage

/// A receiver at the far end of a subscriber, which outlives the processes that deliver to it.
struct FarEnd {
    /// By tenant and sequence number, in which delivery a record came that was answered for; nil: the answer was lost,
    /// or nobody was left to take it.
    var arrivals: [TenantName: [UInt64: Int?]] = [:]
    /// Records that went to the dead letters.
    var buried: [TenantName: Set<UInt64>] = [:]
    /// Of each delivery, how many records of a tenant may come twice, and how many have.
    var bounds: [Int] = []
    var repeated: [Int: [TenantName: Int]] = [:]

    func has(_ tenant: TenantName, _ sequence: UInt64) -> Bool {
        arrivals[tenant]?[sequence] != nil || buried[tenant]?.contains(sequence) == true
    }
}

/// A replayer in a simulation: the state machine of the real one (`DeliveryMachine`) and what it reads from
/// (`DeliveryFeed`), with a receiver that is slow, refuses some records for good, fails for a while, or loses its answers.
/// Ends in the middle of it, as a process does that is killed.
///
/// What is promised: nothing is acknowledged that did not arrive or go to the dead letters; of what was answered for no
/// more comes twice than a window of batches of each tenant; who is passed over gets all in the end, in order of
/// requests.
final class Deliverer {
    private let actors: Actors
    private let name: TenantName
    private var random: SimulationRandom
    private var judge: Judge { actors.judge }
    private var history: History { actors.history }
    private let feed: DeliveryFeed<DirectStorage>
    private var machine: DeliveryMachine
    private let number: Int
    private var pending: [(time: UInt64, identifier: UInt64, result: ExportResult)] = []
    private var lettersUnderWay: [(time: UInt64, letter: DeliveryMachine.DeadLetter)] = []
    private var again: [(tenant: TenantName, behind: UInt64?)] = []
    /// Whose records cannot be had now.
    private var unavailable: Set<TenantName> = []
    private var mayHaveMore = true
    /// By tenant, the last number that was given, and through which it was acknowledged here.
    private var given: [TenantName: UInt64] = [:]
    private var acknowledged: [TenantName: UInt64] = [:]
    private var sawDamage = false
    private let begun: UInt64
    private let failsOneIn: Int
    private let bufferLimit: Int
    private var largestBatch = 0

    init(_ actors: Actors, _ name: TenantName, random: SimulationRandom) {
        (self.actors, self.name, self.random) = (actors, name, random)
        feed = actors.log.deliveryFeed(subscriber: name)
        var options = ReplayOptions()
        options.maximumBatchRecords = self.random.pick(1...8)
        options.maximumBatchBytes = 1 << self.random.pick(8...13)
        options.maximumBufferedBytes = 1 << self.random.pick(11...17)
        options.maximumRequestsPerTenant = self.random.pick(1...4)
        options.maximumConcurrentRequests = self.random.pick(1...6)
        options.maximumBatchAge = .microseconds(self.random.pick(0...2000))
        options.initialBackoff = .microseconds(self.random.pick(10...1000))
        options.maximumBackoff = .milliseconds(self.random.pick(1...8))
        options.maximumRefusalsInARow = self.random.pick(1...4)
        if self.random.chance(oneIn: 4) { options.maximumRecordsPerSecond = Double(self.random.pick(200...20_000)) }
        bufferLimit = options.maximumBufferedBytes
        let inOrder = self.random.chance(oneIn: 4)
        failsOneIn = self.random.pick([0, 0, 12, 4])
        begun = actors.history.scheduler.wallClock
        machine = DeliveryMachine(
            options: options, inOrder: inOrder, seed: self.random.next(), at: actors.history.scheduler.now)
        machine.isDraining = self.random.chance(oneIn: 2)
        number = actors.history.farEnds[name, default: FarEnd()].bounds.count
        let window = inOrder ? 1 : options.maximumRequestsPerTenant
        actors.history.farEnds[name, default: FarEnd()].bounds.append(window * options.maximumBatchRecords)
    }

    private var now: UInt64 { history.scheduler.now }

    func deliver() {
        for _ in 0..<random.pick(4...60) {
            guard actors.goesOn else { return }
            guard read() else { return }
            send()
            acknowledge()
            send()
            guard actors.goesOn else { return }
            wait()
            endWhatIsDue()
            acknowledge()
        }
    }

    // MARK: - Reading

    private func read() -> Bool {
        for position in machine.evictions(at: now) {
            again.append((position.tenant, position.through))
            actors.kernel.note("\(position.tenant) is to be read again behind \(position.through)")
        }
        guard machine.room > 0,
            mayHaveMore || !again.isEmpty || machine.hasRoomAgain(at: now) || random.chance(oneIn: 8)
        else { return true }
        for tenant in unavailable.sorted() where random.chance(oneIn: 2) {
            unavailable.remove(tenant)
            again.append((tenant, nil))
        }
        for (tenant, sequence) in again {
            feed.retryBlocking(tenant, behind: sequence)
            if let sequence { given[tenant] = sequence }
        }
        again = []
        let before = judge.promisedThrough
        let full = machine.full(at: now)
        let reading: DeliveryReading
        do throws(WALError) {
            reading = try feed.readBlocking(byteLimit: min(machine.room, 1 << random.pick(8...14)), full: full)
        } catch {
            actors.note(error, of: name, begun: begun, sawDamage: &sawDamage)
            return false
        }
        var isWhole = true
        for item in reading.items {
            switch item {
            case .failure(let error, let tenant):
                isWhole = false
                actors.note(error, of: name, begun: begun, sawDamage: &sawDamage)
                if case .keyForgotten(let tenant, let sequences, _) = error {
                    machine.addGap(sequences, of: tenant, at: now)
                } else if let tenant {
                    unavailable.insert(tenant)
                }
            case .batch(let batch):
                guard actors.check(batch, of: name, behind: given[batch.tenant] ?? 0, sawDamage: sawDamage) else {
                    return false
                }
                if given[batch.tenant] == nil { acknowledged[batch.tenant] = batch.sequences.lowerBound - 1 }
                given[batch.tenant] = batch.sequences.upperBound
                largestBatch = max(largestBatch, batch.byteCount + DeliveryReading.batchOverhead)
                machine.add(batch, at: now)
            }
        }
        mayHaveMore = !reading.isAtEnd
        if machine.heldBytes > bufferLimit + largestBatch + 6 * (2 * largestBatch + 1024) {
            judge.fail("\(name) holds \(machine.heldBytes) bytes of \(bufferLimit)")
        }
        if reading.isAtEnd, isWhole, full.isEmpty, !sawDamage { checkEnd(before) }
        return true
    }

    /// Where the feed says that it has given all, it has.
    private func checkEnd(_ promised: [TenantName: UInt64]) {
        guard actors.goesOn, !judge.mediaFaults, !actors.log.recoveryReport.hasLoss, !judge.mayHaveSkipped else {
            return
        }
        for (tenant, through) in promised.sorted(by: { $0.key < $1.key }) where !judge.mayDrop(tenant) {
            if unavailable.contains(tenant) { continue }
            let has = max(given[tenant] ?? 0, judge.subscribers[name]?.ever[tenant] ?? 0)
            let reclaimed = judge.reclaimedThrough(tenant)
            if has < through, judge.isGap(from: has, to: through + 1, of: tenant, reclaimed: reclaimed) {
                judge.fail("\(name) is told that there is no more of \(tenant) behind \(has): \(through) is durable")
            }
        }
    }

    // MARK: - The receiver

    private func send() {
        while let request = machine.nextRequest(at: now) {
            let latency = UInt64(random.pick(20...3000)) * 1000
            pending.append((now + latency, request.identifier, receive(request.batch)))
        }
        for letter in machine.takeDeadLetters() {
            lettersUnderWay.append((now + UInt64(random.pick(20...1000)) * 1000, letter))
        }
    }

    /// Each tenant has records that the receiver never takes.
    private func isPoison(_ sequence: UInt64) -> Bool { history.hasPoison && sequence % 23 == 7 }

    private func receive(_ batch: ExportBatch) -> ExportResult {
        if random.chance(oneIn: failsOneIn) {
            // It may have taken it all the same.
            if random.chance(oneIn: 3) { arrive(batch, isAnswered: false) }
            return random.chance(oneIn: 5)
                ? .denied(reason: "denied")
                : .retry(reason: "busy", after: random.chance(oneIn: 3) ? .milliseconds(random.pick(0...4)) : nil)
        }
        if batch.records.contains(where: { isPoison($0.sequence) }) { return .refused(reason: "poison") }
        arrive(batch, isAnswered: true)
        return .delivered(rejected: 0, message: nil)
    }

    private func arrive(_ batch: ExportBatch, isAnswered: Bool) {
        var end = history.farEnds[name] ?? FarEnd()
        defer { history.farEnds[name] = end }
        for record in batch.records {
            if let earlier = end.arrivals[batch.tenant]?[record.sequence] {
                if let earlier { noteRepetition(of: earlier, batch.tenant, &end) }
            }
            end.arrivals[batch.tenant, default: [:]][record.sequence] = .some(isAnswered ? number : nil)
        }
    }

    private func noteRepetition(of earlier: Int, _ tenant: TenantName, _ end: inout FarEnd) {
        end.repeated[earlier, default: [:]][tenant, default: 0] += 1
        // A disk that loses what it promised to keep loses cursors.
        guard !judge.mediaFaults else { return }
        if earlier == number { judge.fail("\(name) sends a record of \(tenant) again that was answered for") }
        if end.repeated[earlier]?[tenant] ?? 0 > end.bounds[earlier] {
            judge.fail("\(name) sends more than \(end.bounds[earlier]) records of \(tenant) twice")
        }
    }

    private func endWhatIsDue() {
        for ended in pending where ended.time <= now {
            machine.finish(ended.identifier, with: ended.result, at: now)
        }
        pending.removeAll { $0.time <= now }
        for (time, letter) in lettersUnderWay where time <= now {
            let fails = random.chance(oneIn: 8)
            if !fails, let record = letter.batch.records.first {
                if letter.batch.records.count > 1 || !isPoison(record.sequence) {
                    judge.fail("\(name) buries records of \(letter.batch.tenant) that nobody refused")
                }
                history.farEnds[name]?.buried[letter.batch.tenant, default: []].insert(record.sequence)
            }
            machine.finishDeadLetter(letter.identifier, failure: fails ? "no room" : nil, at: now)
        }
        lettersUnderWay.removeAll { $0.time <= now }
    }

    // MARK: - Acknowledging

    private func acknowledge() {
        for position in machine.takeAcknowledgements() {
            checkAcknowledgement(position)
            actors.acknowledge(position.tenant, through: position.through, name)
            acknowledged[position.tenant] = position.through
        }
        guard machine.waitsForDurability else { return }
        let positions = machine.acknowledgedPositions
        if random.chance(oneIn: 3) { actors.flush(name) }
        for (tenant, through) in feed.durablyAcknowledged(positions.map(\.tenant)).sorted(by: { $0.key < $1.key }) {
            machine.acknowledged(.init(lane: 0, tenant: tenant, through: through))
        }
    }

    private func checkAcknowledgement(_ position: DeliveryMachine.Position) {
        guard actors.goesOn, let first = acknowledged[position.tenant], first < position.through else { return }
        let end = history.farEnds[name] ?? FarEnd()
        let reclaimed = max(
            judge.subscribers[name]?.ever[position.tenant] ?? 0, judge.reclaimedThrough(position.tenant))
        for sequence in first + 1...position.through where !end.has(position.tenant, sequence) {
            if sawDamage || judge.mediaFaults || actors.log.recoveryReport.hasLoss || judge.mayHaveSkipped { return }
            if judge.mayDrop(position.tenant) { continue }
            if judge.isGap(from: sequence - 1, to: sequence + 1, of: position.tenant, reclaimed: reclaimed) {
                judge.fail("\(name) acknowledges \(position.tenant)/\(sequence), which arrived nowhere")
                return
            }
        }
    }

    // MARK: - Waiting

    private func wait() {
        var times = pending.map(\.time) + lettersUnderWay.map(\.time)
        if let time = machine.wakeTime(at: now) { times.append(time) }
        if times.isEmpty, !machine.isIdle, !machine.waitsForDurability {
            judge.fail("\(name) stands still: there is something to send, and nothing that it waits for")
        }
        // Something may become durable meanwhile.
        times.append(now + UInt64(random.pick(50...5000)) * 1000)
        let until = times.min() ?? now
        if until > now { history.scheduler.sleep(until - now) }
    }
}
