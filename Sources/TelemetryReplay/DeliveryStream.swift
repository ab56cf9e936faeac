import TelemetryWAL
import WALFormat
import WALStorage

/// What is on its way to a receiver of one tenant: records that wait, in order, and sections of them that were cut off and
/// are sent.
///
/// A section is a run of consecutive records; the records of each kind in it go as one request. Sections end in any
/// order, but count in theirs: the subscriber's cursor moves through the sections from the first one on that have ended.
/// No section is cut as long as there is a window of them whose acknowledgement is not durable: they are all that a
/// crash can make come twice.
struct DeliveryStream: Sendable {
    enum Piece: Sendable {
        case batch(RecordBatch)
        /// Numbers whose records nobody can deliver any more.
        case gap(ClosedRange<UInt64>)

        var firstSequence: UInt64 {
            switch self {
            case .batch(let batch): batch.sequences.lowerBound
            case .gap(let sequences): sequences.lowerBound
            }
        }
    }

    /// A run of records that was cut off.
    struct Section: Sendable {
        var through: UInt64
        /// The last number in front of it.
        var behind: UInt64
        /// Requests that it has, and those of them that have not ended.
        var requests = 0
        var openRequests = 0
        /// Bytes that are let go of when it and all before it have ended.
        var heldBytes = 0
        var records = 0
    }

    /// What a batch takes in memory beside its records.
    static var batchOverhead: Int { DeliveryReading.batchOverhead }
    /// What a record takes in memory that was cut off.
    static var recordOverhead: Int { MemoryLayout<RecordBatch.Record>.stride }

    let lane: Int
    let tenant: TenantName
    var weight: Int

    /// What waits. `head`: what is before it was cut off.
    private(set) var pieces: [Piece] = []
    private(set) var head = 0
    /// The first piece, if a part of it was cut off: what is left.
    private var rest: RecordBatch.Records.Iterator?
    private var peeked: RecordBatch.Record?
    /// Bytes of what waits, and when the first of it came.
    private(set) var queuedBytes = 0
    private(set) var queuedRecords = 0
    private(set) var waitsSince: UInt64 = 0
    /// The last number that was cut off, or that was not given any more.
    private(set) var cutThrough: UInt64 = 0
    private var hasBegun = false

    /// Sections that were cut off, from the first that has not ended. `firstSection`: its number.
    private(set) var sections: [Section] = []
    private(set) var firstSection: UInt64 = 0
    /// Ends of sections that are acknowledged, not durably as far as is known.
    var acknowledged: [UInt64] = []

    /// Requests that were made and are to be sent, or sent again, the next one first.
    var waiting: [UInt64] = []
    var requestsUnderWay = 0
    var lettersUnderWay = 0
    /// What it may still send before it is others' turn, in bytes.
    var deficit = 0
    var isInRing = false
    /// The moment for which it has an alarm; 0: none.
    var alarm: UInt64 = 0
    /// Nothing is sent before this moment.
    var blockedUntil: UInt64 = 0
    /// Failures in a row, and since when; requests sent before the last of them count no more.
    var failures = 0
    var failingSince: UInt64?
    var blockCount: UInt64 = 0
    /// Records in a row that the receiver refused for good.
    var refusals = 0
    /// Nothing more is sent in this run, and why.
    var haltReason: String?
    /// It was taken room from, having stood still while others waited for it.
    var isSlow = false
    /// How it fares.
    var counters = DeliveryCounters()

    init(lane: Int, tenant: TenantName, weight: Int) {
        (self.lane, self.tenant, self.weight) = (lane, tenant, weight)
    }

    var isQueueEmpty: Bool { head == pieces.count && peeked == nil }
    /// Whether there is nothing that was read and has not ended.
    var isEmpty: Bool { isQueueEmpty && sections.isEmpty }
    /// Sections that a crash may make come twice.
    var outstanding: Int {
        #if Simulation
            if DeliberateBug.isActive(.sendPastWindow) { return sections.count }
        #endif
        return sections.count + acknowledged.count
    }

    /// Bytes that it has in memory.
    var heldBytes: Int { queuedBytes + sections.reduce(0) { $0 + $1.heldBytes } }

    mutating func add(_ piece: Piece, at now: UInt64) {
        if isQueueEmpty { waitsSince = now }
        if !hasBegun { cutThrough = piece.firstSequence - 1 }
        hasBegun = true
        pieces.append(piece)
        guard case .batch(let batch) = piece else { return }
        queuedBytes += batch.byteCount + Self.batchOverhead
        queuedRecords += batch.count
    }

    private mutating func nextRecord() -> RecordBatch.Record? {
        if let record = peeked {
            peeked = nil
            return record
        }
        return rest?.next()
    }

    /// Cuts a section off: at most so many records and payload bytes, but one record at least. Nil where nothing waits.
    /// Returns the records by kind, in the order in which kinds occur; a section of nothing but gaps has none.
    mutating func cut(
        records mostRecords: Int, bytes mostBytes: Int, at now: UInt64
    ) -> (number: UInt64, runs: [(kind: RecordKind, records: [RecordBatch.Record])])? {
        if isQueueEmpty { return nil }
        var section = Section(through: cutThrough, behind: cutThrough)
        var runs: [(kind: RecordKind, records: [RecordBatch.Record])] = []
        var bytes = 0
        filling: while head < pieces.count {
            switch pieces[head] {
            case .gap(let sequences):
                section.through = max(section.through, sequences.upperBound)
                head += 1
            case .batch(let batch):
                if rest == nil { rest = batch.records.makeIterator() }
                while let record = nextRecord() {
                    let length = record.payload.count
                    if section.records > 0, section.records >= mostRecords || bytes + length > mostBytes {
                        peeked = record
                        break filling
                    }
                    section.records += 1
                    section.through = record.sequence
                    bytes += length
                    if let run = runs.firstIndex(where: { $0.kind == record.kind }) {
                        runs[run].records.append(record)
                    } else {
                        runs.append((record.kind, [record]))
                    }
                }
                rest = nil
                section.heldBytes += batch.byteCount + Self.batchOverhead
                queuedBytes -= batch.byteCount + Self.batchOverhead
                head += 1
            }
        }
        queuedRecords -= section.records
        section.heldBytes += section.records * Self.recordOverhead
        if head == pieces.count {
            pieces.removeAll(keepingCapacity: pieces.count < 64)
            head = 0
        } else if head > 64, head > pieces.count / 2 {
            pieces.removeFirst(head)
            head = 0
        }
        waitsSince = now
        cutThrough = section.through
        section.openRequests = runs.count
        section.requests = runs.count
        sections.append(section)
        return (firstSection + UInt64(sections.count) - 1, runs)
    }

    /// A request of a section has ended.
    mutating func endRequest(of section: UInt64) { sections[Int(section - firstSection)].openRequests -= 1 }

    /// A section has a request more.
    mutating func addRequest(to section: UInt64) {
        sections[Int(section - firstSection)].requests += 1
        sections[Int(section - firstSection)].openRequests += 1
    }

    /// Takes the sections that have ended with all before them. Returns through which number there is nothing left to
    /// deliver, and the bytes that are let go of; nil where there are none.
    mutating func takeEnded() -> (through: UInt64, bytes: Int)? {
        var count = sections.prefix { $0.openRequests == 0 }.count
        #if Simulation
            if DeliberateBug.isActive(.acknowledgePastOpenSections), count == 0,
                let last = sections.last, last.openRequests == 0
            {
                count = sections.count
            }
        #endif
        guard count > 0 else { return nil }
        let ended = sections.prefix(count)
        acknowledged += ended.map(\.through)
        let bytes = ended.reduce(0) { $0 + $1.heldBytes }
        let through = ended.last?.through ?? 0
        sections.removeFirst(count)
        firstSection += UInt64(count)
        return (through, bytes)
    }

    /// Drops what waits, but for a piece of which a part was cut off. Returns the last number that is kept, and the bytes
    /// let go of; nil where there is nothing to drop.
    mutating func dropQueue() -> (keptThrough: UInt64, bytes: Int)? {
        let kept = rest == nil && peeked == nil ? 0 : 1
        guard pieces.count - head > kept else { return nil }
        var through = cutThrough
        if kept > 0, case .batch(let batch) = pieces[head] { through = batch.sequences.upperBound }
        var bytes = 0
        for case .batch(let batch) in pieces[(head + kept)...] {
            bytes += batch.byteCount + Self.batchOverhead
            queuedRecords -= batch.count
        }
        queuedBytes -= bytes
        pieces = Array(pieces[head..<head + kept])
        head = 0
        return (through, bytes)
    }

    /// Drops all that waits, and the last sections of which no request has ended, so that they can be read again; none is under
    /// way. Returns the last number that is kept, the first section's number that is gone, and the bytes let go of; nil where
    /// there is nothing to drop.
    mutating func dropUnsent() -> (keptThrough: UInt64, from: UInt64, bytes: Int)? {
        let kept =
            sections.count - sections.reversed().prefix { $0.openRequests == $0.requests && $0.requests > 0 }.count
        guard kept < sections.count else { return nil }
        cutThrough = sections[kept].behind
        let bytes = queuedBytes + sections[kept...].reduce(0) { $0 + $1.heldBytes }
        sections.removeLast(sections.count - kept)
        (pieces, head, rest, peeked, queuedBytes, queuedRecords) = ([], 0, nil, nil, 0, 0)
        return (cutThrough, firstSection + UInt64(kept), bytes)
    }

    /// Lets go of all that waits, and of all that was cut off and does not end any more. Returns the bytes.
    mutating func clear() -> Int {
        let bytes = heldBytes
        (pieces, head, rest, peeked, queuedBytes, queuedRecords) = ([], 0, nil, nil, 0, 0)
        for index in sections.indices { sections[index].heldBytes = 0 }
        return bytes
    }
}
