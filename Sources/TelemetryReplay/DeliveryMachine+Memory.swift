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
        if room == 0 { times.append(max((standsStillSince ?? now) + Self.patience, now + Self.patience / 10)) }
        return times.min()
    }

    /// How long those who stand still may keep room that others need.
    static var patience: UInt64 { 100_000_000 }

    /// Takes room from those who stand still, where it is lacking and nothing can be sent: they are to be read for again
    /// from these positions on. Nothing is being read meanwhile.
    package mutating func evictions(at now: UInt64) -> [Position] {
        guard room == 0, requestsUnderWay < requestLimit else {
            standsStillSince = nil
            return []
        }
        let since = standsStillSince ?? now
        standsStillSince = since
        guard now >= nextLookForRoom else { return [] }
        nextLookForRoom = now + Self.patience / 10
        let isLate = now - since >= Self.patience
        var positions: [Position] = []
        // First what waits behind sections; then, of those who fail, these as well.
        let candidates = (isLate ? unfinished : troubled.intersection(unfinished)).sorted {
            (streams[$1].queuedBytes, $0) < (streams[$0].queuedBytes, $1)
        }
        for index in candidates where heldBytes > target && streams[index].queuedBytes > 0 {
            guard let (through, bytes) = streams[index].dropQueue() else { continue }
            note(dropped: bytes, of: index, through: through, &positions)
        }
        for index in candidates where heldBytes > target && mayDropSections(index, at: now) {
            guard let (through, section, bytes) = streams[index].dropUnsent() else { continue }
            for identifier in streams[index].waiting where flights[identifier].map({ $0.section >= section }) ?? true {
                flights[identifier] = nil
            }
            streams[index].waiting.removeAll { flights[$0] == nil }
            positions.removeAll { $0.lane == streams[index].lane && $0.tenant == streams[index].tenant }
            note(dropped: bytes, of: index, through: through, &positions)
        }
        if !positions.isEmpty { standsStillSince = nil }
        return positions
    }

    var target: Int { options.maximumBufferedBytes * 3 / 4 }

    func mayDropSections(_ index: Int, at now: UInt64) -> Bool {
        streams[index].blockedUntil > now && streams[index].requestsUnderWay == 0 && streams[index].lettersUnderWay == 0
    }

    mutating func note(dropped bytes: Int, of index: Int, through: UInt64, _ positions: inout [Position]) {
        heldBytes -= bytes
        streams[index].isSlow = true
        updateTrouble(index)
        durabilityWaiters.remove(index)
        if streams[index].isEmpty { unfinished.remove(index) }
        positions.append(Position(lane: streams[index].lane, tenant: streams[index].tenant, through: through))
    }
}
