/// How fast a new journal file is filled with zeros: slowly while the files that there are last, without a rest when they
/// do not.
///
/// What is durable is so because the device's cache was flushed, and a flush takes whatever lies in that cache, whoever
/// wrote it: beside zeros that are written as fast as they go, each commit waits for megabytes of them. So there is a
/// rest behind each piece. How long it may be is asked of the log's own rate: at twice that, the room that is left
/// must outlast what is still to be made.
struct PreparerPace {
    #if Simulation
        /// Resting would only make the histories' clock go on.
        private static var mostRest: Double { 0 }
    #else
        /// Rest for each unit of work, at most.
        private static var mostRest: Double { 3 }
    #endif
    /// Whatever held up a piece of work, nanoseconds.
    private static var longestRest: Double { 100_000_000 }
    /// Rates are those of at least so long, nanoseconds.
    private static var shortestSample: UInt64 { 50_000_000 }

    /// When something was known of how much the log had written.
    private struct Sample {
        var moment: MonotonicTime
        var written: UInt64
    }

    private let begin: Sample
    private var sample: Sample
    /// Bytes a nanosecond, from the last sample but one to the last.
    private var sampledRate = 0.0
    /// Where the work began of which nothing is known yet.
    private var resumed: MonotonicTime
    private var work: UInt64 = 0

    /// `written`: bytes that the log has written so far.
    init(at now: MonotonicTime, written: UInt64) {
        begin = Sample(moment: now, written: written)
        sample = begin
        resumed = now
    }

    /// Nanoseconds to rest now. `written`: as before; `filled`: bytes of zeros that this file has; `missing`: those to be
    /// written until all is there that should be; `room`: bytes that the log can write before it needs what is being made.
    mutating func rest(
        at now: MonotonicTime, written: UInt64, filled: UInt64, missing: UInt64, room: UInt64
    ) -> UInt64 {
        let worked = now.since(resumed)
        work += worked
        let span = now.since(sample.moment)
        if span >= Self.shortestSample {
            sampledRate = Double(written - sample.written) / Double(span)
            sample = Sample(moment: now, written: written)
        }
        let rate = max(sampledRate, Double(written - begin.written) / Double(max(1, now.since(begin.moment))))
        let toBeMade = Double(missing) * Double(work) / Double(max(1, filled))
        let lasts = rate > 0 ? Double(room) / rate : .infinity
        let share = toBeMade > 0 ? lasts / toBeMade / 2 - 1 : .infinity
        return UInt64(min(Double(worked) * min(max(share, 0), Self.mostRest), Self.longestRest))
    }

    /// Work goes on, after a rest or without.
    mutating func resume(at now: MonotonicTime) { resumed = now }
}
