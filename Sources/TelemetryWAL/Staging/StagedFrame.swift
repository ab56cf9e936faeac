import WALFormat

/// Records of one tenant in a group, encoded as the frame's body will hold them.
struct StagedFrame {
    var tenantIndex: Int
    var tenant: TenantName
    /// Sequence number of the first record.
    var firstSequence: UInt64
    /// Copies of its records; nil in a frame of a batch.
    var body: StagingBuffer?
    /// A batch is not copied: the frame shares the caller's arrays until it is durable.
    private(set) var batch: [TelemetryRecord] = []
    /// Bytes of the batch's records, headers included.
    private(set) var batchLength = 0
    var kinds: RecordKindSet = []
    var recordCount = 0
    var lowestTimestamp = UInt64.max
    var highestTimestamp: UInt64 = 0
    /// What its records are encrypted with; nil: they are not.
    let key: (any FrameKey)?

    init(
        tenantIndex: Int, tenant: TenantName, key: (any FrameKey)?, firstSequence: UInt64, body: StagingBuffer
    ) {
        self.key = key
        self.tenantIndex = tenantIndex
        self.tenant = tenant
        self.firstSequence = firstSequence
        self.body = body
    }

    /// Batches of fewer bytes are copied, so that they share a frame with the tenant's other records.
    static let shortestBatch = 8 << 10

    /// A frame of its own for a batch, `length` bytes with headers.
    init(
        tenantIndex: Int, tenant: TenantName, key: (any FrameKey)?, firstSequence: UInt64, batch: [TelemetryRecord],
        length: Int
    ) {
        self.key = key
        self.tenantIndex = tenantIndex
        self.tenant = tenant
        self.firstSequence = firstSequence
        self.batch = batch
        batchLength = length
        account(for: batch)
    }

    /// Copies a record into the body: the only copy on its way to the commit's buffer.
    @inline(__always)
    mutating func append(kind: RecordKind, timestamp: UInt64, payload: RawSpan) {
        body?.append(kind: kind, timestamp: timestamp, payload: payload)
        kinds.insert(RecordKindSet(kind))
        recordCount += 1
        lowestTimestamp = min(lowestTimestamp, timestamp)
        highestTimestamp = max(highestTimestamp, timestamp)
    }

    /// Copies a batch into the body.
    mutating func append(contentsOf records: [TelemetryRecord]) {
        body?.append(contentsOf: records)
        account(for: records)
    }

    private mutating func account(for records: [TelemetryRecord]) {
        recordCount += records.count
        for record in records {
            kinds.insert(RecordKindSet(record.kind))
            lowestTimestamp = min(lowestTimestamp, record.timestamp)
            highestTimestamp = max(highestTimestamp, record.timestamp)
        }
    }

    /// Bytes of its records, headers included.
    var rawLength: Int {
        @inline(__always) get { body?.count ?? batchLength }
    }

    /// Whose records they are, and their sequence numbers.
    var place: (tenantIndex: Int, sequences: ClosedRange<UInt64>) {
        @inline(__always) get { (tenantIndex, firstSequence...firstSequence + UInt64(recordCount) - 1) }
    }

    /// The frame's header; what the encoder fills in is zero.
    var header: FrameHeader {
        FrameHeader(
            tenant: tenant, kinds: kinds, codec: .raw, firstSequence: firstSequence, recordCount: recordCount,
            storedLength: 0, rawLength: 0, bodyChecksum: 0, lowestTimestamp: lowestTimestamp,
            highestTimestamp: highestTimestamp)
    }

    /// Adds the frame to a commit of a log in a life of a file. A batch is brought into one stretch of memory first if the
    /// encoder `compresses` or it is encrypted.
    func encode(
        with encoder: inout CommitEncoder, into bytes: inout MutableRawSpan, compressor: LZ4FrameCompressor,
        compresses: Bool, logIdentifier: LogIdentifier, epoch: UInt64
    ) throws(FormatError) {
        var header = header
        let seal = key.map { FrameSeal(key: $0, logIdentifier: logIdentifier, epoch: epoch) }
        if let body {
            try body.withBytes { (raw: RawSpan) throws(FormatError) in
                try encoder.add(&header, rawBody: raw, into: &bytes, compressor: compressor, seal: seal)
            }
        } else if compresses || seal != nil {
            let body = StagingBuffer(capacity: batchLength)
            body.append(contentsOf: batch)
            try body.withBytes { (raw: RawSpan) throws(FormatError) in
                try encoder.add(&header, rawBody: raw, into: &bytes, compressor: compressor, seal: seal)
            }
        } else {
            // The only copy of a batch: from the caller's arrays into what the device reads.
            encoder.add(&header, rawLength: batchLength, into: &bytes) { _ = batch.encode(into: &$0, at: $1) }
        }
    }
}
