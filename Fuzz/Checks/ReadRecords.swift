import TelemetryWAL
import WALFormat

/// A record as it was read, or written.
struct StoredRecord: Equatable {
    var kind: RecordKind
    var timestamp: UInt64
    var payload: [UInt8]
}

/// All that reading a log gave, held against what every reader is promised.
struct ReadRecords {
    /// By tenant and sequence number.
    private(set) var records: [TenantName: [UInt64: StoredRecord]] = [:]
    /// What was told of what could not be read.
    private(set) var damaged: [String] = []
    /// Of whom nothing is given behind what nobody has the key of.
    private(set) var locked: Set<TenantName> = []
    /// The device fails, and would again: there may be more.
    private(set) var isCutShort = false
    private var last: [TenantName: UInt64] = [:]

    /// Reads to the end. `check` is handed each batch, too.
    init(
        _ batches: StoredRecords<MemoryStorage>, in storage: MemoryStorage,
        check: (RecordBatch) throws(FuzzViolation) -> Void
    ) throws(FuzzViolation) {
        var batches = batches
        // Each step passes a block at least, or gives a frame, or a range of a segment's index, which takes 24 bytes.
        var steps = storage.files.values.reduce(100) { $0 + $1.count / 24 }
        while true {
            steps -= 1
            try require(steps > 0, "reading comes to an end")
            let next: RecordBatch?
            do throws(WALError) { next = try batches.next() } catch {
                switch error {
                case .damaged, .keyUnavailable, .keyForgotten:
                    if case .keyUnavailable(let tenant, _, _) = error { locked.insert(tenant) }
                    damaged.append("\(error)")
                    continue
                default:
                    damaged.append(Self.kind(of: error))
                    isCutShort = true
                    return
                }
            }
            guard let batch = next else { return }
            try take(batch)
            try check(batch)
        }
    }

    init(_ batches: StoredRecords<MemoryStorage>, in storage: MemoryStorage) throws(FuzzViolation) {
        try self.init(batches, in: storage) { (_: RecordBatch) throws(FuzzViolation) in }
    }

    private mutating func take(_ batch: RecordBatch) throws(FuzzViolation) {
        try require(batch.sequences.lowerBound > last[batch.tenant] ?? 0, "a record is read once, in order")
        try require(batch.sequences.upperBound <= FormatLimits.maximumNumber, "sequence numbers are bounded")
        try require(batch.byteCount <= FormatLimits.maximumFrameRawLength, "a batch is bounded")
        last[batch.tenant] = batch.sequences.upperBound
        var sequence = batch.sequences.lowerBound
        for record in batch.records {
            try require(record.sequence == sequence, "records of a batch follow each other")
            try require(record.payload.count <= FormatLimits.maximumPayloadLength, "a payload is bounded")
            records[batch.tenant, default: [:]][sequence] = StoredRecord(record)
            sequence += 1
        }
        try require(sequence == batch.sequences.upperBound + 1, "a batch has as many records as it says")
    }

    /// What another look at the same finds, too.
    static func kind(of error: WALError) -> String {
        switch error {
        case .notALog, .unsupportedFormat: "refused"
        case .storage(let cause): "storage \(cause.code)"
        case .damaged: "damaged"
        default: "other: \(error)"
        }
    }
}

extension StoredRecord {
    init(_ record: RecordBatch.Record) {
        self.init(kind: record.kind, timestamp: record.timestamp, payload: Array(record.payload))
    }
}

extension JournalBuilder.Frame {
    /// The records, by number.
    var records: [UInt64: StoredRecord] {
        var records: [UInt64: StoredRecord] = [:]
        var offset = 0
        for place in 0..<header.recordCount {
            let start = offset
            guard let record = try? RecordHeader.decode(body.span.bytes, at: start),
                let kind = RecordKind(rawValue: record.kind)
            else { break }
            offset = start + RecordHeader.length + record.payloadLength
            records[header.firstSequence + UInt64(place)] = StoredRecord(
                kind: kind, timestamp: record.timestamp, payload: Array(body[start + RecordHeader.length..<offset]))
        }
        return records
    }
}
