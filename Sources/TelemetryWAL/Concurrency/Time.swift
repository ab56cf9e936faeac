import Glibc

/// A moment of the monotonic clock.
struct MonotonicTime: Comparable, Sendable {
    var nanoseconds: UInt64

    static var now: MonotonicTime { MonotonicTime(nanoseconds: read(CLOCK_MONOTONIC)) }
    static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
    static func + (moment: MonotonicTime, nanoseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: moment.nanoseconds + nanoseconds)
    }
    /// Nanoseconds from an earlier moment to this one.
    func since(_ earlier: MonotonicTime) -> UInt64 { nanoseconds - min(nanoseconds, earlier.nanoseconds) }

    fileprivate static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        unsafe _ = clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// Nanoseconds since 1970 (UTC), as timestamps in the log have them.
package func wallClockNanoseconds() -> UInt64 { MonotonicTime.read(CLOCK_REALTIME) }

/// Blocks the calling thread for a moment.
func pause(milliseconds: UInt32) { usleep(milliseconds * 1000) }
