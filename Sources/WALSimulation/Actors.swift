import TelemetryWAL
import WALFormat

/// The threads that use a log in a round: producers, tasks, subscribers, and a look from outside.
final class Actors {
    let history: History
    let log: WriteAheadLog
    var judge: Judge { history.judge }
    var kernel: SimulatedKernel { history.kernel }

    init(_ history: History, _ log: WriteAheadLog) {
        self.history = history
        self.log = log
    }

    /// Starts them; returns their threads.
    func start() -> [UInt64] {
        var numbers: [UInt64] = []
        for producer in 0..<history.producerCount {
            var random = history.random.split()
            numbers.append(history.scheduler.spawn("producer \(producer)") { self.produce(producer, &random) })
        }
        for name in history.subscriberNames {
            var random = history.random.split()
            numbers.append(history.scheduler.spawn("\(name)") { self.subscribe(name, &random) })
        }
        if history.taskCount > 0 { numbers.append(startTasks()) }
        if history.hasOnlooker {
            let onlooker = Onlooker(history, random: history.random.split())
            numbers.append(history.scheduler.spawn("onlooker", in: history.newCompanion()) { onlooker.look() })
        }
        if history.hasEraser {
            let eraser = Eraser(self, random: history.random.split())
            numbers.append(history.scheduler.spawn("eraser") { eraser.erase() })
        }
        if history.hasMover {
            let mover = Mover(self, random: history.random.split())
            numbers.append(history.scheduler.spawn("mover") { mover.move() })
        }
        return numbers
    }

    private func startTasks() -> UInt64 {
        let pool = TaskPool(history.scheduler, random: history.random.split())
        for number in 0..<history.taskCount {
            let producer = TaskProducer(self, number: history.producerCount + number, random: history.random.split())
            pool.begin { await producer.produce() }
        }
        return history.scheduler.spawn("tasks") { pool.run() }
    }

    var goesOn: Bool { !kernel.process.isDead && !history.hasFailed }

    // MARK: - Producers

    private func produce(_ producer: Int, _ random: inout SimulationRandom) {
        for call in 0..<min(random.pick(1...30), history.options.mostCalls) {
            guard goesOn else { return }
            let tenant = random.pick(history.tenants)
            history.rotateSometimes()
            history.loseKeysSometimes()
            history.forgetSometimes()
            switch random.below(20) {
            case 0..<9: appendOne(tenant, producer, length: length(&random))
            case 9..<13: appendBatch(tenant, producer, &random)
            case 13..<18: enqueueSome(tenant, producer, &random)
            default: history.scheduler.sleep(UInt64(random.pick(1...40)) * 1_000_000)
            }
            kernel.note("call \(call) of producer \(producer) is through")
        }
    }

    func length(_ random: inout SimulationRandom) -> Int {
        switch random.below(20) {
        case 0: random.pick(8000...64_000)
        case 1..<5: random.pick(600...5000)
        default: random.pick(12...600)
        }
    }

    func record(_ number: Int, length: Int) -> TelemetryRecord {
        judge.setLength(length, of: number)
        return TelemetryRecord(
            kind: .opaque, timestamp: UInt64(number), payload: PayloadCode.payload(number: number, length: length))
    }

    /// One record of the first tenant, for the last look.
    func appendOne() { appendOne(history.tenants[0], 0, length: 100) }

    private func appendOne(_ tenant: TenantName, _ producer: Int, length: Int) {
        let number = judge.attempt(tenant, producer: producer, count: 1)
        do throws(WALError) {
            let receipt = try log.appendBlocking(record(number, length: length), tenant: tenant)
            kernel.note("receipt \(tenant)/\(receipt.sequence) for record \(number)")
            judge.owes(number..<number + 1, from: receipt.sequence)
        } catch { refused(number..<number + 1, error) }
    }

    private func appendBatch(_ tenant: TenantName, _ producer: Int, _ random: inout SimulationRandom) {
        let count = random.pick(1...12)
        let first = judge.attempt(tenant, producer: producer, count: count)
        let isLong = random.chance(oneIn: 4)
        let records = (first..<first + count).map { record($0, length: random.pick(isLong ? 500...3000 : 12...200)) }
        do throws(WALError) {
            let receipt = try log.appendBlocking(contentsOf: records, tenant: tenant)
            kernel.note("receipt \(tenant)/\(receipt.sequences) for records \(first)..<\(first + count)")
            judge.owes(first..<first + count, from: receipt.sequences.lowerBound)
        } catch { refused(first..<first + count, error) }
    }

    private func enqueueSome(_ tenant: TenantName, _ producer: Int, _ random: inout SimulationRandom) {
        var numbers: [Int] = []
        var last: Ticket?
        for _ in 0..<random.pick(1...8) {
            let number = judge.attempt(tenant, producer: producer, count: 1)
            do throws(WALError) {
                last = try log.enqueue(record(number, length: length(&random)), tenant: tenant)
                numbers.append(number)
            } catch { refused(number..<number + 1, error) }
        }
        guard let last, random.below(4) > 0 else { return }
        do throws(WALError) {
            try log.durableBlocking(through: last)
            kernel.note("durable: records \(numbers)")
            for number in numbers { judge.owes(number..<number + 1) }
        } catch { kernel.note("durable: \(error)") }
    }

    func refused(_ numbers: Range<Int>, _ error: WALError) {
        kernel.note("refused \(numbers): \(error)")
        switch error {
        case .stagingFull, .recordTooLarge, .batchTooLarge, .tooManyTenants, .invalidOption, .tenantFull, .dropped:
            judge.refused(numbers)
        case .placementChanging where history.hasMover: judge.refused(numbers)
        case .keyUnavailable(let tenant, _, _)
        where tenant == judge.attempts[numbers.lowerBound].tenant
            && history.wereKeysAway(tenant, since: judge.attempts[numbers.lowerBound].time):
            judge.refused(numbers)
        case .journalUnavailable where history.hasMover && history.anyFaultHappened: judge.refused(numbers)
        case .closed, .failed, .storage, .journalFull: break
        default: judge.fail("an append failed in a strange way: \(error)")
        }
        // Reading must not be needed to get out of this: time passes, and somebody acknowledges.
        history.scheduler.sleep(5_000_000)
    }

    // MARK: - Subscribers

    private func subscribe(_ name: TenantName, _ random: inout SimulationRandom) {
        for _ in 0..<min(random.pick(1...6), history.options.mostCalls) {
            guard goesOn else { return }
            if !register(name) { return }
            switch random.below(12) {
            case 0:
                judge.unregisters(name)
                // Whoever comes again by that name gets everything again.
                history.farEnds[name] = nil
                log.unregister(subscriber: name)
                kernel.note("unregistered")
                flush(name)
                return
            case 1..<3: history.scheduler.sleep(UInt64(random.pick(1...60)) * 1_000_000)
            case 3..<6: flush(name)
            default:
                if history.delivers(name) {
                    Deliverer(self, name, random: random.split()).deliver()
                } else {
                    read(name, &random)
                }
            }
        }
    }

    private func register(_ name: TenantName) -> Bool {
        judge.registers(name)
        do throws(WALError) { try log.register(subscriber: name) } catch {
            kernel.note("register: \(error)")
            // Where there are several journals, it has to be durable in the first of them.
            switch (error, history.hasMover) {
            case (.journalFull, true), (.storage, true), (.failed, true), (.closed, true): break
            default: judge.fail("a subscriber is refused: \(error)")
            }
            return false
        }
        judge.subscribers[name]?.isKnownToLog = true
        return true
    }

    func flush(_ name: TenantName) {
        let before = judge.subscribers
        do throws(WALError) {
            try log.flushAcknowledgementsBlocking()
            kernel.note("acknowledgements are durable")
            judge.flushed(name, before)
        } catch { kernel.note("flush: \(error)") }
    }

    private func read(_ name: TenantName, _ random: inout SimulationRandom) {
        let tenant = random.chance(oneIn: 2) ? random.pick(history.tenants) : nil
        let records = tenant.map { log.records(of: $0, subscriber: name) } ?? log.records(subscriber: name)
        let begun = history.scheduler.wallClock
        var walk = records.makeBlockingIterator()
        var last: [TenantName: UInt64] = [:]
        let most = random.pick(1...10)
        var failures = 0
        var sawDamage = false
        for _ in 0..<most {
            guard goesOn, failures < 16 else { return }
            do throws(WALError) {
                guard let batch = try walk.next() else { return }
                guard check(batch, of: name, behind: last[batch.tenant] ?? 0, sawDamage: sawDamage) else { return }
                last[batch.tenant] = batch.sequences.upperBound
                if random.below(4) > 0 { acknowledge(batch.tenant, through: batch.sequences.upperBound, name) }
            } catch {
                failures += 1
                note(error, of: name, begun: begun, sawDamage: &sawDamage)
            }
        }
    }

    /// Holds a batch against what was appended, and against the last number that the subscriber was given before. Returns
    /// whether it may be used.
    func check(_ batch: RecordBatch, of name: TenantName, behind last: UInt64, sawDamage: Bool) -> Bool {
        var before = last
        for record in batch.records {
            guard let number = judge.recognize(record.payload, tenant: batch.tenant, sequence: record.sequence) else {
                return false
            }
            if record.sequence <= before {
                judge.fail("\(name) reads \(batch.tenant)/\(record.sequence) behind \(before)")
                return false
            }
            // Numbers are skipped only where damage was told, now or when the log was opened, or where it has said itself
            // meanwhile that it has them.
            let acknowledged = judge.subscribers[name]?.acknowledged[batch.tenant] ?? 0
            let reclaimed = max(acknowledged, judge.reclaimedThrough(batch.tenant))
            if before > 0, !sawDamage, !log.recoveryReport.hasLoss, !judge.mayHaveSkipped,
                judge.isGap(from: before, to: record.sequence, of: batch.tenant, reclaimed: reclaimed),
                !judge.mayDrop(batch.tenant) || record.sequence - 1 > droppedThrough(batch.tenant)
            {
                judge.fail("\(name) reads \(batch.tenant)/\(record.sequence) behind \(before): some are missing")
            }
            before = record.sequence
            if !kernel.process.isDead { judge.delivered(number, sequence: record.sequence) }
        }
        return true
    }

    /// Takes note of what could not be read, which must have a reason.
    func note(_ error: WALError, of name: TenantName, begun: UInt64, sawDamage: inout Bool) {
        if case .damaged = error { sawDamage = true }
        judge.noteMediaFaults()
        kernel.note("reading: \(error)")
        switch error {
        case .journalUnavailable where history.hasMover && history.anyFaultHappened: break
        case .keyUnavailable(let tenant, _, _) where history.wereKeysAway(tenant, since: begun): break
        case .keyForgotten(_, _, let identifier) where judge.registry.forgottenKeys[identifier] != nil: break
        case .damaged where judge.mediaFaults || judge.isBegunInParts("\(error)"): break
        case .closed, .failed, .storage, .journalFull: break
        default: if goesOn { judge.fail("\(name) cannot read: \(error)") }
        }
    }

    private func droppedThrough(_ tenant: TenantName) -> UInt64 {
        log.tenants.first { $0.name == tenant }?.droppedThrough ?? 0
    }

    func acknowledge(_ tenant: TenantName, through: UInt64, _ name: TenantName) {
        judge.subscribers[name]?.acknowledges(tenant, through: through)
        log.acknowledge(through: through, of: tenant, subscriber: name)
        judge.subscribers[name]?.hasGiven(tenant, through: through)
        kernel.note("acknowledges \(tenant) through \(through)")
    }
}
