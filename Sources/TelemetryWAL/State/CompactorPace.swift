/// How fast the compactor goes: it works for a moment and rests for some, the less the more waits.
///
/// Moving records takes a processor and the device for seconds, and appends beside it wait for both: a flush that makes
/// a commit durable takes all that lies in the device's cache, whoever wrote it. And where a container or a virtual
/// machine may use only so much processor time in each tenth of a second, all of its threads stand still for the rest of
/// it. What moves has time as long as the journal has room: a compactor that rests
/// for three quarters of the time still moves what an ordinary load leaves behind, and one that falls behind rests less, until
/// it does not rest at all.
struct CompactorPace {
    #if Simulation
        /// Resting would only make the histories' clock go on.
        private static var mostRest: UInt64 { 0 }
    #else
        /// Rest for each unit of work while no more waits than has to.
        private static var mostRest: UInt64 { 3 }
    #endif
    /// Work without a rest, nanoseconds, at least.
    private static var slice: UInt64 { 500_000 }
    /// What came in one piece, as a flush of many files, is not rested from for longer, nanoseconds.
    private static var longestRest: UInt64 { 100_000_000 }

    /// The journal's bytes that wait above which the compactor begins to move some, and from which on it does not rest.
    let threshold: UInt64
    let fullSpeed: UInt64
    private var begun: MonotonicTime?

    /// `threshold`: bytes that wait before any become segments; `limit`: most bytes that the journal may have.
    init(threshold: UInt64, limit: UInt64) {
        self.threshold = threshold
        let room = limit - min(limit, threshold)
        fullSpeed = threshold + room / 2
    }

    /// Whether it has worked for long enough to ask for a rest. Called often, without a lock.
    mutating func isDue(at now: MonotonicTime) -> Bool {
        guard let begun else {
            begun = now
            return false
        }
        return now.since(begun) >= Self.slice
    }

    /// Nanoseconds to rest now for the work that was done since the last rest, with so many bytes waiting.
    func rest(at now: MonotonicTime, waiting: UInt64) -> UInt64 {
        guard let begun, waiting < fullSpeed else { return 0 }
        let rest = now.since(begun) * Self.mostRest
        guard waiting > threshold else { return min(rest, Self.longestRest) }
        let share = Double(fullSpeed - waiting) / Double(fullSpeed - threshold)
        return min(UInt64(Double(rest) * share), Self.longestRest)
    }

    /// Work begins anew: after a rest, or after a time without anything to do.
    mutating func begin(at now: MonotonicTime) { begun = now }
}
