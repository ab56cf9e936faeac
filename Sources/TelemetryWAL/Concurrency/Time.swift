import CWALLinux

/// A moment of the monotonic clock.
struct MonotonicTime: Comparable, Sendable {
    var nanoseconds: UInt64

    static var now: MonotonicTime { MonotonicTime(nanoseconds: cwal_monotonic_time()) }
    static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
    static func + (moment: MonotonicTime, nanoseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: moment.nanoseconds + nanoseconds)
    }
    /// Nanoseconds from an earlier moment to this one.
    func since(_ earlier: MonotonicTime) -> UInt64 { nanoseconds - min(nanoseconds, earlier.nanoseconds) }
}

/// Nanoseconds since 1970 (UTC), as timestamps in the log have them.
package func wallClockNanoseconds() -> UInt64 { cwal_wall_time() }

/// Blocks the calling thread for a moment.
func pause(milliseconds: UInt64) { pause(nanoseconds: milliseconds * 1_000_000) }
func pause(nanoseconds: UInt64) { cwal_sleep(nanoseconds) }

/// Random numbers from the kernel: epochs and identifiers must differ from all that any log ever had.
struct KernelRandomness: RandomNumberGenerator {
    mutating func next() -> UInt64 { cwal_random() }
}
