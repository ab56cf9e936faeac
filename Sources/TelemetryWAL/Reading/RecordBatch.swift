import WALFormat

/// Consecutive records of one tenant, as one frame of the log holds them.
public struct RecordBatch: Sendable {
    public let tenant: TenantName
    /// Sequence numbers of the batch's records.
    public let sequences: ClosedRange<UInt64>
    /// Kinds that occur in the batch.
    public let kinds: RecordKindSet
    /// No record of the batch is earlier, none later; nanoseconds since 1970 (UTC).
    public let timestamps: ClosedRange<UInt64>
    /// Number of the commit that made the records durable; 0 where they come out of a tenant segment.
    public let commitNumber: UInt64
    /// With what the frame is encrypted; nil if it is not.
    let key: (any FrameKey)?
    /// The frame's raw body, and where in it the batch's records begin and end.
    private let body: [UInt8]
    private let start: Int
    private let end: Int

    /// A frame's records from a number on, which is not above its last; `bytes` are those that the frame's place counts
    /// in. Throws where the body is not what the header says, or no key opens it.
    init(
        tenant: TenantName, frame: LocatedFrame, in bytes: RawSpan, from: UInt64, commitNumber: UInt64,
        decompressor: LZ4FrameDecompressor, seal: FrameSeal?
    ) throws(FormatError) {
        let header = frame.header
        self.tenant = tenant
        self.commitNumber = commitNumber
        kinds = header.kinds
        timestamps = header.lowestTimestamp...max(header.lowestTimestamp, header.highestTimestamp)
        sequences = max(from, header.firstSequence)...header.lastSequence
        key = seal?.key
        body = try CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor, seal: seal)
        end = body.count
        start = try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
            try CommitDecoder.checkRecords(in: raw, count: header.recordCount, isControl: false)
            var offset = 0
            var sequence = header.firstSequence
            while sequence < from {
                offset += RecordHeader.length + (try RecordHeader.decode(raw, at: offset)).payloadLength
                sequence += 1
            }
            return offset
        }
    }

    /// The batch without the records before a number; nil where none is left.
    func from(_ sequence: UInt64) -> RecordBatch? {
        if sequence <= sequences.lowerBound { return self }
        guard sequence <= sequences.upperBound else { return nil }
        var rest = Records.Iterator(batch: self, offset: start, sequence: sequences.lowerBound)
        while rest.sequence < sequence, rest.next() != nil {}
        return RecordBatch(
            self, sequences: sequence...sequences.upperBound, bytes: rest.offset..<end, timestamps: timestamps)
    }

    /// The batch without the records behind a number; nil where none is left.
    package func through(_ sequence: UInt64) -> RecordBatch? {
        if sequence >= sequences.upperBound { return self }
        guard sequence >= sequences.lowerBound else { return nil }
        var rest = Records.Iterator(batch: self, offset: start, sequence: sequences.lowerBound)
        while rest.sequence <= sequence, rest.next() != nil {}
        return RecordBatch(
            self, sequences: sequences.lowerBound...sequence, bytes: start..<rest.offset, timestamps: timestamps)
    }

    /// The batch's records of some times, as batches of records that follow each other.
    func during(_ times: ClosedRange<UInt64>) -> [RecordBatch] {
        if times.contains(timestamps.lowerBound), times.contains(timestamps.upperBound) { return [self] }
        guard times.overlaps(timestamps) else { return [] }
        var runs: [RecordBatch] = []
        var run: (first: UInt64, start: Int, times: ClosedRange<UInt64>)?
        var walk = Records.Iterator(batch: self, offset: start, sequence: sequences.lowerBound)
        func finish(before sequence: UInt64, at offset: Int) {
            guard let ended = run else { return }
            runs.append(
                RecordBatch(
                    self, sequences: ended.first...sequence - 1, bytes: ended.start..<offset, timestamps: ended.times))
            run = nil
        }
        var place = start
        while let record = walk.next() {
            if !times.contains(record.timestamp) {
                finish(before: record.sequence, at: place)
            } else if let known = run {
                run?.times =
                    min(known.times.lowerBound, record.timestamp)...max(known.times.upperBound, record.timestamp)
            } else {
                run = (record.sequence, place, record.timestamp...record.timestamp)
            }
            place = walk.offset
        }
        finish(before: sequences.upperBound + 1, at: place)
        return runs
    }

    private init(
        _ whole: RecordBatch, sequences: ClosedRange<UInt64>, bytes: Range<Int>, timestamps: ClosedRange<UInt64>
    ) {
        (tenant, kinds) = (whole.tenant, whole.kinds)
        self.timestamps = timestamps
        (commitNumber, body, key) = (whole.commitNumber, whole.body, whole.key)
        self.sequences = sequences
        (start, end) = (bytes.lowerBound, bytes.upperBound)
    }

    /// Number of records, at least 1.
    public var count: Int { Int(sequences.upperBound - sequences.lowerBound) + 1 }
    /// Bytes of the records, their headers included.
    public var byteCount: Int { end - start }

    /// Lets a closure read the records as they are encoded, headers included.
    func withEncodedRecords<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.body.withRawSpan { (bytes: RawSpan) throws(Failure) in
            try body(bytes.extracting(start..<end))
        }
    }

    /// The records, in order. Payloads are slices of the batch's memory; nothing is copied.
    public var records: Records { Records(batch: self) }

    /// A record as it is read back.
    public struct Record: Sendable {
        public let sequence: UInt64
        public let kind: RecordKind
        /// Nanoseconds since 1970 (UTC); 0 where there is none.
        public let timestamp: UInt64
        public let payload: ArraySlice<UInt8>

        /// A record that comes from elsewhere, as for trying an exporter.
        public init(sequence: UInt64, kind: RecordKind, timestamp: UInt64, payload: ArraySlice<UInt8>) {
            (self.sequence, self.kind, self.timestamp, self.payload) = (sequence, kind, timestamp, payload)
        }
    }

    /// The records of a batch, in order.
    public struct Records: Sequence, Sendable {
        let batch: RecordBatch

        public struct Iterator: IteratorProtocol, Sendable {
            let batch: RecordBatch
            var offset: Int
            var sequence: UInt64

            public mutating func next() -> Record? {
                guard sequence <= batch.sequences.upperBound else { return nil }
                let offset = self.offset
                // The batch was checked when it was read.
                guard let header = batch.body.withRawSpan({ try? RecordHeader.decode($0, at: offset) }),
                    let kind = RecordKind(rawValue: header.kind)
                else { return nil }
                let payload = offset + RecordHeader.length
                self.offset = payload + header.payloadLength
                defer { sequence += 1 }
                return Record(
                    sequence: sequence, kind: kind, timestamp: header.timestamp,
                    payload: batch.body[payload..<self.offset])
            }
        }

        public func makeIterator() -> Iterator {
            Iterator(batch: batch, offset: batch.start, sequence: batch.sequences.lowerBound)
        }

        public var underestimatedCount: Int { batch.count }
    }
}
