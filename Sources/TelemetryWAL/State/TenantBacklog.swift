import WALFormat

/// How many bytes of a tenant the log has taken and when, by sequence number: a curve of few points, so that budgets and
/// ages are known without reading what they are about, whether it lies in the journal or in segments. A plain value.
///
/// Bytes are those of records with their headers, uncompressed: what a record counts does not change when it is
/// compressed, moves or is merged. Between two points every record is taken for as long as the next. The points lie so
/// near that this does not matter: at most a 32nd of what waits from one to the next, in bytes and in time, while the log
/// is open. What it knows of the past after it was opened comes from checkpoints, one point a journal file, and from the
/// summaries of segments.
struct TenantBacklog: Sendable, Equatable {
    /// Records behind the point before, through a number.
    struct Step: Sendable, Equatable {
        var lastSequence: UInt64
        /// Bytes of all records through `lastSequence`, since the log began.
        var length: UInt64
        /// When the log received the first and the last of them; nanoseconds since 1970 (UTC).
        var firstReceived: UInt64
        var lastReceived: UInt64
    }

    /// The number through which nothing is held, and the bytes of all records through it.
    private(set) var baseSequence: UInt64 = 0
    private(set) var baseLength: UInt64 = 0
    private(set) var steps: [Step] = []

    private static let mostSteps = 128
    private static let pointsOfBacklog: UInt64 = 32
    private static let shortestStep: UInt64 = 4 << 10
    private static let briefestStep: UInt64 = 10_000_000

    /// Of a tenant whose records come behind a number.
    init(behind sequence: UInt64 = 0) { baseSequence = sequence }

    /// As a checkpoint says, at whose time the log had the tenant's records below `nextSequence`.
    init(_ summary: BacklogSummary, nextSequence: UInt64, received: UInt64) {
        baseSequence = min(summary.releasedThrough, nextSequence - min(nextSequence, 1))
        baseLength = summary.releasedLength
        guard nextSequence > baseSequence + 1 else {
            baseLength = summary.appendedLength
            return
        }
        steps = [
            Step(
                lastSequence: nextSequence - 1, length: summary.appendedLength,
                firstReceived: min(summary.oldestReceived, received), lastReceived: received)
        ]
    }

    /// Whether nothing is known.
    var isEmpty: Bool { steps.isEmpty && baseLength == 0 }
    /// Bytes of all records that the log has taken.
    var appendedLength: UInt64 { steps.last?.length ?? baseLength }
    var lastSequence: UInt64 { steps.last?.lastSequence ?? baseSequence }

    // MARK: - Growing

    /// Whether records that were received now begin a new step. (Before they do, it is worth to `release` others.)
    func beginsStep(received: UInt64) -> Bool {
        guard let last = steps.last, let first = steps.first else { return true }
        let start = steps.count > 1 ? steps[steps.count - 2].length : baseLength
        if last.length - start >= max(Self.shortestStep, (last.length - baseLength) / Self.pointsOfBacklog) {
            return true
        }
        let time = received - min(received, last.firstReceived)
        return time > max(Self.briefestStep, (received - min(received, first.firstReceived)) / Self.pointsOfBacklog)
    }

    /// The log has taken records through a number, `length` bytes of them.
    mutating func append(through sequence: UInt64, length: UInt64, received: UInt64) {
        guard sequence > lastSequence else { return }
        let total = appendedLength.addingSaturated(length)
        // A clock that is set back does not make what comes later older than what came before.
        let received = max(received, steps.last?.lastReceived ?? 0)
        if beginsStep(received: received) {
            if steps.count >= Self.mostSteps { thin() }
            steps.append(
                Step(lastSequence: sequence, length: total, firstReceived: received, lastReceived: received))
        } else {
            let last = steps.count - 1
            steps[last].lastSequence = sequence
            steps[last].length = total
            steps[last].lastReceived = received
        }
    }

    /// A checkpoint says that all records through a number take so many bytes. If it knows of later ones, records are
    /// missing, or numbers were skipped. If it knows of as many and more bytes, what is known began amid the log, behind a
    /// file whose own checkpoint is gone: the rest lies before that.
    mutating func reconcile(through sequence: UInt64, appendedLength: UInt64, received: UInt64) {
        let missing = max(appendedLength, self.appendedLength) - self.appendedLength
        if sequence > lastSequence {
            append(through: sequence, length: missing, received: received)
        } else if sequence == lastSequence {
            for index in steps.indices { steps[index].length += missing }
            if steps.isEmpty { baseLength += missing }
        }
    }

    /// Every other point goes.
    private mutating func thin() {
        var thinned: [Step] = []
        for index in stride(from: 0, to: steps.count, by: 2) {
            var step = steps[min(index + 1, steps.count - 1)]
            step.firstReceived = steps[index].firstReceived
            thinned.append(step)
        }
        steps = thinned
    }

    /// A point that is known from elsewhere: through `sequence` the records were received until `received`, and took
    /// `length` bytes; nil: as many as the curve says.
    mutating func refine(at sequence: UInt64, length: UInt64? = nil, received: UInt64) {
        guard let index = steps.firstIndex(where: { $0.lastSequence >= sequence }),
            sequence > start(of: index).sequence,
            steps.count < 2 * Self.mostSteps
        else { return }
        let step = steps[index]
        let received = min(max(received, step.firstReceived), step.lastReceived)
        guard step.lastSequence > sequence else {
            steps[index].lastReceived = received
            return
        }
        let bounds = start(of: index).length...step.length
        let length = min(max(length ?? self.length(through: sequence), bounds.lowerBound), bounds.upperBound)
        steps[index].firstReceived = received
        steps.insert(
            Step(lastSequence: sequence, length: length, firstReceived: step.firstReceived, lastReceived: received),
            at: index)
    }

    /// Nothing is held any more through a number.
    mutating func release(through sequence: UInt64) {
        guard sequence > baseSequence else { return }
        let length = length(through: sequence)
        let received = received(of: sequence + 1)
        steps.removeAll { $0.lastSequence <= sequence }
        if let received, !steps.isEmpty { steps[0].firstReceived = received }
        baseSequence = sequence
        baseLength = length
    }

    // MARK: - Asking

    private func start(of index: Int) -> (sequence: UInt64, length: UInt64) {
        index > 0 ? (steps[index - 1].lastSequence, steps[index - 1].length) : (baseSequence, baseLength)
    }

    /// The step that a number lies in.
    private func index(of sequence: UInt64) -> Int? {
        guard sequence > baseSequence else { return nil }
        var (low, high) = (0, steps.count)
        while low < high {
            let middle = (low + high) / 2
            if steps[middle].lastSequence < sequence { low = middle + 1 } else { high = middle }
        }
        return low < steps.count ? low : nil
    }

    /// Bytes of all records through a number, since the log began.
    func length(through sequence: UInt64) -> UInt64 {
        guard sequence > baseSequence else { return baseLength }
        guard let index = index(of: sequence) else { return appendedLength }
        let (start, step) = (start(of: index), steps[index])
        return start.length
            + Self.share(
                of: step.length - start.length, sequence - start.sequence, of: step.lastSequence - start.sequence)
    }

    /// Bytes of the records above a number.
    func length(above sequence: UInt64) -> UInt64 { appendedLength - length(through: sequence) }

    /// The lowest number through which the records take so many bytes, since the log began; the last one where all of
    /// them take fewer.
    func sequence(reaching length: UInt64) -> UInt64 {
        guard length > baseLength, let index = steps.firstIndex(where: { $0.length >= length }) else {
            return length > baseLength ? lastSequence : baseSequence
        }
        let (start, step) = (start(of: index), steps[index])
        let (numbers, bytes) = (step.lastSequence - start.sequence, step.length - start.length)
        var offset = bytes == 0 ? 0 : Self.share(of: numbers, length - start.length, of: bytes)
        // Both shares are rounded down.
        while offset < numbers, self.length(through: start.sequence + offset) < length { offset += 1 }
        return start.sequence + offset
    }

    /// The highest number through which all records were received by then.
    func sequence(receivedBy time: UInt64) -> UInt64 {
        steps.prefix { $0.lastReceived <= time }.last?.lastSequence ?? baseSequence
    }

    /// About when a record was received; nil if there is none of that number.
    func received(of sequence: UInt64) -> UInt64? {
        guard let index = index(of: sequence) else { return nil }
        let (start, step) = (start(of: index), steps[index])
        let numbers = step.lastSequence - start.sequence
        guard numbers > 1 else { return step.lastReceived }
        return step.firstReceived
            + Self.share(of: step.lastReceived - step.firstReceived, sequence - start.sequence - 1, of: numbers - 1)
    }

    /// As a checkpoint tells it, when nothing is held through a number.
    func summary(releasedThrough sequence: UInt64) -> BacklogSummary {
        let sequence = max(sequence, baseSequence)
        return BacklogSummary(
            appendedLength: appendedLength, releasedThrough: sequence, releasedLength: length(through: sequence),
            oldestReceived: received(of: sequence + 1) ?? 0)
    }

    /// `whole * part / all`, rounded down; `part` is at most `all`, which is not 0.
    private static func share(of whole: UInt64, _ part: UInt64, of all: UInt64) -> UInt64 {
        let product = whole.multipliedFullWidth(by: part)
        return all.dividingFullWidth(product).quotient
    }
}
