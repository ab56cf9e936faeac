import HeapModule
import TelemetryWAL
import WALFormat
import WALStorage

/// Who is next: turns, windows, rates.
extension DeliveryMachine {
    /// Puts a stream into the ring, if it may have something to send.
    mutating func enqueue(_ index: Int) {
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

    mutating func advanceRing() {
        ringHead += 1
        if ringHead > 256, ringHead > ring.count / 2 {
            ring.removeFirst(ringHead)
            ringHead = 0
        }
    }

    mutating func send(_ identifier: UInt64, of index: Int) -> Request? {
        guard var flight = flights[identifier] else { return nil }
        flight.phase = .underWay
        flight.sentIn = streams[index].blockCount
        sends += 1
        flight.send = sends
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
    mutating func candidate(_ index: Int, at now: UInt64) -> UInt64? {
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

    mutating func setAlarm(_ time: UInt64, for index: Int) {
        guard streams[index].alarm != time else { return }
        streams[index].alarm = time
        alarms.insert(Alarm(time: time, stream: index))
    }

    mutating func updateTrouble(_ index: Int) {
        if streams[index].failures > 0 || streams[index].isSlow || streams[index].haltReason != nil
            || streams[index].blockedUntil > 0
        {
            troubled.insert(index)
        } else {
            troubled.remove(index)
        }
    }

    mutating func makeFlight(_ flight: Flight) -> UInt64 {
        lastIdentifier += 1
        flights[lastIdentifier] = flight
        return lastIdentifier
    }

    mutating func rateDelay(at now: UInt64) -> UInt64 {
        max(byteRate?.delay(at: now) ?? 0, recordRate?.delay(at: now) ?? 0)
    }
}
