import WALFormat

/// Records of one tenant in a group, encoded as the frame's body will hold them.
struct StagedFrame {
    var tenantIndex: Int
    var tenant: TenantName
    /// Sequence number of the first record.
    var firstSequence: UInt64
    var body: StagingBuffer
    var kinds: RecordKindSet = []
    var recordCount = 0
    var lowestTimestamp = UInt64.max
    var highestTimestamp: UInt64 = 0

    init(tenantIndex: Int, tenant: TenantName, firstSequence: UInt64, body: StagingBuffer) {
        self.tenantIndex = tenantIndex
        self.tenant = tenant
        self.firstSequence = firstSequence
        self.body = body
    }

    /// A frame of its own for a batch that was encoded beforehand; nothing is copied.
    init(tenantIndex: Int, tenant: TenantName, firstSequence: UInt64, batch: EncodedBatch) {
        self.init(tenantIndex: tenantIndex, tenant: tenant, firstSequence: firstSequence, body: batch.body)
        kinds = batch.kinds
        recordCount = batch.recordCount
        lowestTimestamp = batch.lowestTimestamp
        highestTimestamp = batch.highestTimestamp
    }

    /// Copies a record into the body: the only copy on its way to the commit's buffer.
    @inline(__always)
    mutating func append(kind: RecordKind, timestamp: UInt64, payload: RawSpan) {
        body.append(kind: kind, timestamp: timestamp, payload: payload)
        kinds.insert(RecordKindSet(kind))
        recordCount += 1
        lowestTimestamp = min(lowestTimestamp, timestamp)
        highestTimestamp = max(highestTimestamp, timestamp)
    }

    /// Copies a batch into the body.
    mutating func append(contentsOf records: [TelemetryRecord]) {
        body.append(contentsOf: records)
        recordCount += records.count
        for record in records {
            kinds.insert(RecordKindSet(record.kind))
            lowestTimestamp = min(lowestTimestamp, record.timestamp)
            highestTimestamp = max(highestTimestamp, record.timestamp)
        }
    }

    /// The frame's header; what the encoder fills in is zero.
    var header: FrameHeader {
        FrameHeader(
            tenant: tenant, kinds: kinds, codec: .raw, firstSequence: firstSequence, recordCount: recordCount,
            storedLength: 0, rawLength: 0, bodyChecksum: 0, lowestTimestamp: lowestTimestamp,
            highestTimestamp: highestTimestamp)
    }
}

/// A large batch, encoded by its appender before it asks for the log's lock, so that others need not wait while
/// megabytes are copied.
struct EncodedBatch {
    /// Batches of fewer bytes are copied under the lock: a second pass over the lock would cost more.
    static let minimumLength = 48 << 10

    let body: StagingBuffer
    private(set) var kinds: RecordKindSet = []
    private(set) var recordCount = 0
    private(set) var lowestTimestamp = UInt64.max
    private(set) var highestTimestamp: UInt64 = 0

    init(_ records: [TelemetryRecord], body: StagingBuffer) {
        self.body = body
        body.append(contentsOf: records)
        for record in records {
            kinds.insert(RecordKindSet(record.kind))
            lowestTimestamp = min(lowestTimestamp, record.timestamp)
            highestTimestamp = max(highestTimestamp, record.timestamp)
        }
        recordCount = records.count
    }
}
