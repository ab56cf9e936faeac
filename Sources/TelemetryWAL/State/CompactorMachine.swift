/// The compactor's decisions, without I/O: which journal files become segments, and when. `LogCore` carries them out.
///
/// While subscribers keep up, files leave the journal by themselves and nothing is written twice. When more waits than
/// `threshold`, the oldest files are gathered, in order, until half of that is left: then as much comes together of each
/// tenant as there is, and a subscriber that is a little behind costs nothing. Where the journal is pressed for room, the
/// oldest files go whatever the threshold says.
struct CompactorMachine {
    /// A journal file that takes no more commits.
    struct File: Equatable {
        var sequence: UInt64
        var length: UInt64
        /// The log can do without it.
        var isSettled: Bool
    }

    enum Step: Equatable {
        /// Add this file's records to what waits.
        case gather(UInt64)
        /// Write what waits, and give it its names.
        case publish
        case rest
    }

    /// Bytes of files that wait for subscribers before any becomes segments.
    let threshold: UInt64
    /// Most bytes that segments may take.
    let limit: UInt64
    /// The files whose records wait to be written.
    private(set) var gathered: Set<UInt64> = []
    private var isCompacting = false
    /// Files up to this one are to become segments, whatever the threshold says; nil: none are.
    private var forcedThrough: UInt64?
    var isForced: Bool { forcedThrough != nil }

    init(threshold: UInt64, limit: UInt64) {
        self.threshold = threshold
        self.limit = limit
    }

    /// What is to be done next. `files`: oldest first; `isPressed`: the journal lacks room; `isFull`: no more is to be
    /// gathered before what waits is written; `segmentLength`: bytes of all segments.
    mutating func next(_ files: [File], isPressed: Bool, isFull: Bool, segmentLength: UInt64) -> Step {
        // What was begun is brought to its end.
        if segmentLength >= limit { return gathered.isEmpty ? giveUp() : .publish }
        if isFull { return .publish }
        let waiting = files.filter { !$0.isSettled && !gathered.contains($0.sequence) }
        let length = waiting.reduce(0) { $0 + $1.length }
        let isForced = waiting.first.map { $0.sequence <= forcedThrough ?? 0 } ?? false
        if !isCompacting { isCompacting = length > threshold || isForced || (isPressed && !waiting.isEmpty) }
        guard isCompacting else { return gathered.isEmpty ? rest() : .publish }
        if let first = waiting.first, length > threshold / 2 || isForced || (isPressed && gathered.isEmpty) {
            return .gather(first.sequence)
        }
        isCompacting = false
        return gathered.isEmpty ? rest() : .publish
    }

    /// Whether there is nothing to do whatever the files hold: `sealedLength`: bytes of all that take no more commits.
    func mayRest(sealedLength: UInt64, isPressed: Bool) -> Bool {
        sealedLength <= threshold && !isPressed && !isForced && !isCompacting && gathered.isEmpty
    }

    /// Whether no more may move although some waits: `files` and `segmentLength` as for `next`.
    func isAtLimit(_ files: [File], segmentLength: UInt64) -> Bool {
        limit > 0 && segmentLength >= limit && files.contains { !$0.isSettled }
    }

    private mutating func giveUp() -> Step {
        isCompacting = false
        return rest()
    }

    private mutating func rest() -> Step {
        forcedThrough = nil
        return .rest
    }

    /// Has all files become segments, or those up to one.
    mutating func force(through sequence: UInt64 = .max) { forcedThrough = max(forcedThrough ?? 0, sequence) }

    /// Whether files may become segments that would free room in the journal.
    func makesRoom(_ files: [File], segmentLength: UInt64) -> Bool {
        segmentLength < limit && files.contains { !$0.isSettled }
    }

    mutating func hasGathered(_ file: UInt64) { gathered.insert(file) }

    /// What waited is in segments, or was let go.
    mutating func forgetGathered() { gathered = [] }
}

/// Which segments of a tenant are merged: as many as `fanIn`, one behind the other, that are all short, or of which none is
/// so long that it would be rewritten for little. A record is rewritten only into a segment that is several times as long,
/// and not at all any more once its segment is long enough.
enum SegmentTiers {
    #if Simulation
        static let fanIn = 3
        static let short: UInt64 = 8 << 10
        /// Longer segments are not merged, bytes.
        static let largest: UInt64 = 1 << 20
    #else
        static let fanIn = 16
        /// Segments up to this length are merged whatever stands beside them, bytes: left alone between longer ones, they
        /// would stay for good.
        static let short: UInt64 = 256 << 10
        /// Longer segments are not merged, bytes.
        static let largest: UInt64 = 32 << 20
    #endif
    /// A merged segment is at least so many times as long as each that it is made of and that is not short.
    private static let leastGrowth = UInt64(max(fanIn / 2, 1))

    /// The first row of segments to be merged; nil if there is none. `lengths` in the order of the numbers.
    static func candidate(_ lengths: [UInt64]) -> Range<Int>? {
        guard lengths.count >= fanIn else { return nil }
        return (0...lengths.count - fanIn).lazy.map { $0..<$0 + fanIn }.first { row in
            let longest = lengths[row].max() ?? 0
            return longest <= short || (longest <= largest && longest * leastGrowth <= lengths[row].reduce(0, +))
        }
    }
}
