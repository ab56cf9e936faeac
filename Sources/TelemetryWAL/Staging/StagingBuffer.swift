import WALFormat

/// Bytes of records that wait for their commit. Grows without zeroing, and keeps its memory for the next group.
@safe final class StagingBuffer {
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(capacity: Int) { unsafe memory = .allocate(byteCount: capacity, alignment: 16) }

    deinit { unsafe memory.deallocate() }

    var capacity: Int { unsafe memory.count }
    var room: Int { capacity - count }

    /// The bytes appended so far.
    func withBytes<Result, Failure: Error>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: memory[0..<count])))
    }

    /// Appends a record: header and payload. There must be room.
    @inline(__always)
    func append(kind: RecordKind, timestamp: UInt64, payload: RawSpan) {
        let length = RecordHeader.length + payload.byteCount
        precondition(length <= room, "a record is appended where room was made for it")
        let target = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[count..<count + length])
        var span = unsafe MutableRawSpan(_unsafeBytes: target)
        RecordHeader(payloadLength: payload.byteCount, kind: kind.rawValue, timestamp: timestamp)
            .encode(into: &span, at: 0)
        span.store(payload, at: RecordHeader.length)
        count += length
    }

    /// Appends records one behind the other. There must be room.
    func append(contentsOf records: [TelemetryRecord]) {
        var span = unsafe MutableRawSpan(_unsafeBytes: memory)
        count = records.encode(into: &span, at: count)
    }

    /// Copies what another buffer holds to the end of this one.
    func append(contentsOf other: StagingBuffer) {
        precondition(other.count <= room)
        guard other.count > 0, let target = unsafe memory.baseAddress, let source = unsafe other.memory.baseAddress
        else { return }
        unsafe (target + count).copyMemory(from: source, byteCount: other.count)
        count += other.count
    }

    func removeAll() { count = 0 }
}

/// Staging memory that is free at the moment, in two sizes, so that in steady state none is taken or given back.
/// A plain value; its owner's lock guards it.
struct StagingBufferPool {
    /// Most tenants of a group have a few records: their buffers are small and many. Not a multiple of a page, so that
    /// the first bytes of buffers that lie side by side do not compete for the same sets of the processor's cache.
    static let smallCapacity = (8 << 10) + 560
    /// Bytes of a buffer that holds a whole group of usual size.
    let largeCapacity: Int
    /// Bytes that the pool keeps at most.
    let limit: Int
    private var small: [StagingBuffer] = []
    private var large: [StagingBuffer] = []
    private(set) var keptBytes = 0

    init(largeCapacity: Int, limit: Int) {
        self.largeCapacity = largeCapacity
        self.limit = limit
    }

    /// A buffer with room for so many bytes.
    mutating func take(_ length: Int) -> StagingBuffer {
        let buffer: StagingBuffer? =
            if length <= Self.smallCapacity { small.popLast() } else if length <= largeCapacity { large.popLast() } else
            {
                nil
            }
        if let buffer {
            keptBytes -= buffer.capacity
            return buffer
        }
        let capacity =
            if length <= Self.smallCapacity { Self.smallCapacity } else if length <= largeCapacity {
                largeCapacity
            } else { length }
        return StagingBuffer(capacity: capacity)
    }

    mutating func give(_ buffer: StagingBuffer) {
        buffer.removeAll()
        guard keptBytes + buffer.capacity <= limit else { return }
        switch buffer.capacity {
        case Self.smallCapacity: small.append(buffer)
        case largeCapacity: large.append(buffer)
        default: return
        }
        keptBytes += buffer.capacity
    }

    /// Gives memory back until at most so many bytes are kept: after a burst it is not held for good.
    mutating func trim(to bytes: Int) {
        while keptBytes > bytes, let buffer = large.popLast() ?? small.popLast() { keptBytes -= buffer.capacity }
    }
}

extension [TelemetryRecord] {
    /// Writes the records, one behind the other, as a frame's body holds them. Returns the offset behind the last.
    func encode(into bytes: inout MutableRawSpan, at start: Int) -> Int {
        var offset = start
        for record in self {
            RecordHeader(payloadLength: record.payload.count, kind: record.kind.rawValue, timestamp: record.timestamp)
                .encode(into: &bytes, at: offset)
            bytes.store(record.payload, at: offset + RecordHeader.length)
            offset += RecordHeader.length + record.payload.count
        }
        return offset
    }
}
