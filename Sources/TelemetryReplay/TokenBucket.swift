/// A rate limit: so many units a second, and a second's worth at once. What is taken may exceed what is there: then
/// nothing is until that is made up for, so that a unit larger than a second's worth passes, too.
struct TokenBucket: Sendable {
    let rate: Double
    private var tokens: Double
    private var filled: UInt64

    /// `rate` units a second, more than 0. `now`: nanoseconds of any clock that does not go back.
    init(rate: Double, at now: UInt64) {
        self.rate = rate
        tokens = rate
        filled = now
    }

    /// Nanoseconds from `now` until something may be taken; 0: it may be.
    mutating func delay(at now: UInt64) -> UInt64 {
        tokens = min(rate, tokens + rate * Double(now - min(now, filled)) / 1e9)
        filled = max(filled, now)
        if tokens > 0 { return 0 }
        return UInt64(min(-tokens / rate * 1e9, 1e18)) + 1
    }

    mutating func take(_ units: Int) { tokens -= Double(units) }
}
