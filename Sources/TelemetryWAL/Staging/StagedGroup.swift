import WALFormat

/// Records of any tenants that will become durable in one commit, and who waits for that. Filled under the log's lock
/// while it is open, then read by whoever encodes it. Groups become durable in the order of their numbers.
final class StagedGroup {
    /// Position among the log's groups, from 1 on.
    var number: UInt64 = 0
    private(set) var frames = FixedList<StagedFrame>(capacity: FormatLimits.maximumFrameCount)
    /// Bytes of all bodies.
    private(set) var rawLength = 0
    private(set) var frameHeadersLength = 0
    /// Bytes that encryption may add to the frames.
    var sealLength: Int { frames.count * sealOverhead }
    /// The same of one frame.
    let sealOverhead: Int
    private(set) var recordCount = 0
    /// Whether any record of it is to be encrypted.
    private(set) var isEncrypted = false
    /// Appends in the group: how many callers it serves.
    private(set) var appendCount = 0
    /// Tasks that wait for the group.
    var waiters: [Waiter] = []
    /// Whether threads may sleep until the group is done.
    var hasSleepers = false

    init(sealOverhead: Int) {
        self.sealOverhead = sealOverhead
        waiters.reserveCapacity(64)
    }

    deinit { frames.deallocate() }

    var isEmpty: Bool { appendCount == 0 }
    var frameCount: Int { frames.count }

    /// Upper bound of the commit's length on disk, nothing compressed, with so much added to it.
    func worstLength(blockSize: Int, addingRecords length: Int = 0, newTenantLength: Int? = nil) -> Int {
        let frame = newTenantLength.map { FrameHeader.length(tenantLength: $0) + sealOverhead } ?? 0
        return (encodedLength + frame + length).roundedUp(toMultipleOf: blockSize)
    }

    /// Bytes of the commit so far, without padding, nothing compressed.
    var encodedLength: Int {
        @inline(__always) get { CommitHeader.length + frameHeadersLength + sealLength + rawLength }
    }

    /// Whether records that are to be encrypted with a key, or not at all for nil, go into a frame.
    @inline(__always)
    func isEncrypted(with key: (any FrameKey)?, frame index: Int) -> Bool {
        frames[index].key?.identifier == key?.identifier
    }

    /// Begins a frame; returns its place in `frames`.
    func beginFrame(_ frame: StagedFrame) -> Int {
        frames.append(frame)
        isEncrypted = isEncrypted || frame.key != nil
        frameHeadersLength += FrameHeader.length(tenantLength: frame.tenant.utf8.count)
        return frames.count - 1
    }

    /// Accounts for an append whose records go into a frame.
    @inline(__always)
    func count(records: Int, length: Int) {
        rawLength += length
        recordCount += records
        appendCount += 1
    }

    @inline(__always)
    func append(toFrame index: Int, kind: RecordKind, timestamp: UInt64, payload: RawSpan) {
        frames[index].append(kind: kind, timestamp: timestamp, payload: payload)
    }

    func append(_ records: [TelemetryRecord], toFrame index: Int) { frames[index].append(contentsOf: records) }

    @inline(__always)
    func room(inFrame index: Int) -> Int { frames[index].body?.room ?? 0 }

    /// Makes room in a frame's body, which moves to larger memory.
    func grow(_ length: Int, inFrame index: Int, from pool: inout StagingBufferPool) {
        guard let old = frames[index].body else { return }
        // Past the pool's sizes it doubles, so that a frame of n bytes is not copied n times.
        let needed = old.count + length
        let larger = pool.take(needed > pool.largeCapacity ? max(needed, 2 * old.capacity) : needed)
        larger.append(contentsOf: old)
        frames[index].body = larger
        pool.give(old)
    }

    /// Empties the group for its next use.
    func reset(givingTo pool: inout StagingBufferPool) {
        for index in 0..<frames.count {
            if let body = frames[index].body { pool.give(body) }
        }
        frames.removeAll()
        rawLength = 0
        frameHeadersLength = 0
        recordCount = 0
        appendCount = 0
        isEncrypted = false
        hasSleepers = false
    }
}
