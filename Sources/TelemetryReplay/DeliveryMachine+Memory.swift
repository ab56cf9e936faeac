import HeapModule
import TelemetryWAL
import WALFormat
import WALStorage

/// What those who stand still cost the others.
extension DeliveryMachine {
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
    static var patience: UInt64 { 100_000_000 }

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
}
