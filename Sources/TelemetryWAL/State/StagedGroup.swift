import WALFormat

/// One tenant's records in a group, encoded as the frame's body will hold them.
struct StagedFrame {
    var tenantIndex = 0
    var tenant: TenantName
    var body: [UInt8] = []
    var kinds: RecordKindSet = []
    var recordCount = 0
    var lowestTimestamp = UInt64.max
    var highestTimestamp: UInt64 = 0
    /// Given when the commit is encoded.
    var firstSequence: UInt64 = 0

    /// Copies a record into the body: the only copy on its way to the compressor.
    mutating func append(kind: RecordKind, timestamp: UInt64, payload: RawSpan) {
        let start = body.count
        if body.capacity < start + RecordHeader.length + payload.byteCount {
            body.reserveCapacity(max(4096, 2 * (start + RecordHeader.length + payload.byteCount)))
        }
        unsafe withUnsafeTemporaryAllocation(byteCount: RecordHeader.length, alignment: 8) { header in
            var span = unsafe MutableRawSpan(_unsafeBytes: header)
            RecordHeader(payloadLength: payload.byteCount, kind: kind.rawValue, timestamp: timestamp)
                .encode(into: &span, at: 0)
            unsafe body.append(contentsOf: UnsafeRawBufferPointer(header))
        }
        unsafe payload.withUnsafeBytes { unsafe body.append(contentsOf: $0) }
        kinds.insert(RecordKindSet(kind))
        recordCount += 1
        lowestTimestamp = min(lowestTimestamp, timestamp)
        highestTimestamp = max(highestTimestamp, timestamp)
    }

    mutating func reset() {
        // Memory of an unusually large frame is given back.
        if body.capacity > 256 << 10 { body = [] } else { body.removeAll(keepingCapacity: true) }
        kinds = []
        recordCount = 0
        lowestTimestamp = .max
        highestTimestamp = 0
    }
}

/// Records of any tenants that will become durable in one commit. Filled under the log's lock while it is open, then
/// owned by whoever holds the committer's role.
final class StagedGroup {
    /// What its appenders wait for.
    private(set) var outcome: CommitOutcome
    /// The frames in use are the first `frameCount`; those behind keep their memory for later groups.
    private(set) var frames: [StagedFrame] = []
    private(set) var frameCount = 0
    private var frameOfTenant: [Int: Int] = [:]
    /// Bytes of all bodies.
    private(set) var rawLength = 0
    private(set) var frameHeadersLength = 0
    private(set) var recordCount = 0

    init() { outcome = CommitOutcome() }

    var isEmpty: Bool { recordCount == 0 }
    /// Bytes of buffers that an empty group keeps for its next use, at most.
    private static var keptMemory: Int { 8 << 20 }

    /// Upper bound of the commit's length on disk, nothing compressed, should so much be added to it.
    func worstLength(blockSize: Int, addingRecords length: Int = 0, newTenantLength: Int? = nil) -> Int {
        let header = newTenantLength.map { FrameHeader.length(tenantLength: $0) } ?? 0
        return (CommitHeader.length + frameHeadersLength + header + rawLength + length)
            .roundedUp(toMultipleOf: blockSize)
    }

    func hasFrame(ofTenant index: Int) -> Bool { frameOfTenant[index] != nil }
    func bodyLength(ofTenant index: Int) -> Int { frameOfTenant[index].map { frames[$0].body.count } ?? 0 }
    func recordCount(ofTenant index: Int) -> Int { frameOfTenant[index].map { frames[$0].recordCount } ?? 0 }

    /// Adds a record; returns the frame and the position in it.
    func append(
        tenantIndex: Int, tenant: TenantName, kind: RecordKind, timestamp: UInt64, payload: RawSpan
    ) -> (frame: Int, position: Int) {
        let frame: Int
        if let known = frameOfTenant[tenantIndex] {
            frame = known
        } else {
            frame = frameCount
            frameCount += 1
            if frames.count < frameCount { frames.append(StagedFrame(tenant: tenant)) }
            frames[frame].tenantIndex = tenantIndex
            frames[frame].tenant = tenant
            frameOfTenant[tenantIndex] = frame
            frameHeadersLength += FrameHeader.length(tenantLength: tenant.utf8.count)
        }
        let position = frames[frame].recordCount
        frames[frame].append(kind: kind, timestamp: timestamp, payload: payload)
        rawLength += RecordHeader.length + payload.byteCount
        recordCount += 1
        return (frame, position)
    }

    func setFirstSequence(_ sequence: UInt64, ofFrame frame: Int) { frames[frame].firstSequence = sequence }

    /// Empties the group for its next use.
    func reset() {
        outcome = CommitOutcome()
        for index in 0..<frameCount { frames[index].reset() }
        // A group that once had many tenants must not keep their memory for good.
        var kept = 0
        if let surplus = frames.firstIndex(where: { frame in
            kept += frame.body.capacity
            return kept > Self.keptMemory
        }) {
            frames.removeLast(frames.count - surplus)
        }
        frameCount = 0
        frameOfTenant.removeAll(keepingCapacity: true)
        rawLength = 0
        frameHeadersLength = 0
        recordCount = 0
    }
}
