/// Counts of durations in log-linear buckets, about 3 % wide. Not safe to share: one a writer, merged at the end.
struct Histogram {
    private static let subBuckets = 32
    private var counts = [UInt64](repeating: 0, count: 60 * subBuckets)
    private(set) var count: UInt64 = 0
    private(set) var maximum: UInt64 = 0

    private static func bucket(_ nanoseconds: UInt64) -> Int {
        if nanoseconds < UInt64(subBuckets) { return Int(nanoseconds) }
        let shift = 63 - nanoseconds.leadingZeroBitCount - 5
        return (shift + 1) * subBuckets + Int(nanoseconds >> UInt64(shift)) - subBuckets
    }

    /// The largest duration that a bucket counts.
    private static func upperBound(_ bucket: Int) -> UInt64 {
        if bucket < subBuckets { return UInt64(bucket) }
        let shift = bucket / subBuckets - 1
        return (UInt64(bucket % subBuckets + subBuckets) + 1) << UInt64(shift) - 1
    }

    mutating func add(_ nanoseconds: UInt64, times: UInt64 = 1) {
        counts[min(Self.bucket(nanoseconds), counts.count - 1)] += times
        count += times
        maximum = max(maximum, nanoseconds)
    }

    mutating func merge(_ other: Histogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        maximum = max(maximum, other.maximum)
    }

    /// The duration that a fraction of all does not pass.
    func quantile(_ fraction: Double) -> UInt64 {
        let rank = UInt64((Double(count) * fraction).rounded(.up))
        var seen: UInt64 = 0
        for index in counts.indices where counts[index] > 0 {
            guard seen + counts[index] >= rank else {
                seen += counts[index]
                continue
            }
            // As if the bucket's durations were spread evenly: its upper bound would add up to 3 %.
            let lower = index == 0 ? 0 : Self.upperBound(index - 1)
            let upper = min(Self.upperBound(index), maximum)
            return lower + UInt64(Double(upper - min(lower, upper)) * Double(rank - seen) / Double(counts[index]))
        }
        return maximum
    }

    /// Upper bound and count of each bucket in use.
    var buckets: [[UInt64]] {
        counts.indices.filter { counts[$0] > 0 }.map { [Self.upperBound($0), counts[$0]] }
    }
}
