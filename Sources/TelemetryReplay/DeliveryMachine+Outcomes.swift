import TelemetryWAL
import WALFormat
import WALStorage

/// How requests end, and what follows.
extension DeliveryMachine {
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
            streams[index].refusals = 0
            // What was sent before the last failure says nothing of what came after it.
            if streams[index].failures > 0 || streams[index].blockedUntil > 0,
                flight.sentIn == streams[index].blockCount
            {
                streams[index].failures = 0
                streams[index].failingSince = nil
                streams[index].blockedUntil = 0
                updateTrouble(index)
            }
            settle(identifier, flight)
        case .retry(let reason, let after):
            lowerLimit(flight)
            note(index) { $0.retries += 1 }
            fail(identifier, flight, reason, after: after, at: now)
        case .denied(let reason):
            lowerLimit(flight)
            note(index) { $0.retries += 1 }
            // Nothing changes until somebody does something about it.
            if options.giveUpAfter != nil, isDraining {
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

    mutating func note(_ index: Int, _ change: (inout DeliveryCounters) -> Void) {
        change(&streams[index].counters)
        change(&totals)
    }

    mutating func tell(_ index: Int, _ trouble: String) {
        let tenant = streams[index].tenant
        if troubles.updateValue(trouble, forKey: tenant) != trouble { changedTroubles.insert(tenant) }
    }

    /// The receiver may have too much to do. Requests that were sent before it was given less count once.
    mutating func lowerLimit(_ flight: Flight) {
        guard flight.send > lastBeforeLowering else { return }
        requestLimit = max(1, requestLimit / 2)
        lastBeforeLowering = sends
    }

    mutating func settle(_ identifier: UInt64, _ flight: Flight) {
        flights[identifier] = nil
        streams[flight.stream].endRequest(of: flight.section)
        ended.append(flight.stream)
    }

    mutating func putBack(_ identifier: UInt64, _ flight: Flight) {
        flights[identifier]?.phase = .waiting
        // In their order, as they were cut off.
        func place(_ flight: Flight) -> (UInt64, UInt64) {
            (flight.section, flight.batch.records.first?.sequence ?? 0)
        }
        let own = place(flight)
        let before = streams[flight.stream].waiting.firstIndex { flights[$0].map { place($0) > own } ?? false }
        streams[flight.stream].waiting.insert(identifier, at: before ?? streams[flight.stream].waiting.count)
    }

    /// The receiver cannot take a request now.
    mutating func fail(
        _ identifier: UInt64, _ flight: Flight, _ reason: String, after: Duration?, at now: UInt64
    ) {
        let index = flight.stream
        tell(index, reason)
        putBack(identifier, flight)
        block(index, after: after, sentIn: flight.sentIn, at: now)
        giveUpIfLate(index, reason, at: now, asked: after)
    }

    /// `asked`: for how long the receiver wants nothing.
    mutating func giveUpIfLate(_ index: Int, _ reason: String, at now: UInt64, asked: Duration? = nil) {
        guard let patience = options.giveUpAfter, let since = streams[index].failingSince else { return }
        let failing = now - since + UInt64(max(0, asked?.nanoseconds ?? 0))
        if failing >= UInt64(max(0, patience.nanoseconds)) { halt(index, reason) }
    }

    /// Has a tenant wait, longer with each time: between half and all of what it would be, so that those who were refused
    /// together do not come again together (AWS, "Exponential Backoff and Jitter").
    mutating func block(_ index: Int, after: Duration?, sentIn: UInt64, at now: UInt64) {
        if streams[index].failingSince == nil { streams[index].failingSince = now }
        // What was under way together fails together: that is one failure.
        if streams[index].blockCount == sentIn || streams[index].failures == 0 {
            streams[index].failures += 1
            streams[index].blockCount += 1
        }
        let most = UInt64(max(1, options.maximumBackoff.nanoseconds))
        let doublings = UInt64(min(streams[index].failures - 1, 30))
        let initial = UInt64(max(1, options.initialBackoff.nanoseconds))
        let pause = initial > most >> doublings ? most : initial << doublings
        let jittered = pause / 2 + random.next(below: pause / 2 + 1)
        let asked = UInt64(max(0, after?.nanoseconds ?? 0))
        streams[index].blockedUntil = max(streams[index].blockedUntil, now + max(jittered, asked))
        updateTrouble(index)
    }

    /// Sends nothing more of a tenant in this run.
    mutating func halt(_ index: Int, _ reason: String) {
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
    mutating func refuse(_ identifier: UInt64, _ flight: Flight, _ reason: String, at now: UInt64) {
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
            streams[index].lettersUnderWay += 1
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
        streams[index].addRequest(to: flight.section)
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
        streams[flight.stream].lettersUnderWay -= 1
        if let failure {
            fail(identifier, flight, failure, after: nil, at: now)
        } else {
            note(flight.stream) { $0.deadLetters += 1 }
            settle(identifier, flight)
        }
        enqueue(flight.stream)
    }
}
