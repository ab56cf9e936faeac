import WALFormat

/// Control records packed into frames of bounded length.
struct ControlFrames {
    /// A frame is closed before it passes this length, in bytes.
    static let frameLength = 1 << 20

    private(set) var frames: [(header: FrameHeader, body: [UInt8])] = []

    init(_ records: [ControlRecord], timestamp: UInt64) {
        var start = 0
        while start < records.count {
            var end = start
            var length = 0
            while end < records.count, length == 0 || length + records[end].length <= Self.frameLength {
                length += records[end].length
                end += 1
            }
            var body = [UInt8](repeating: 0, count: length)
            body.withMutableRawSpan { (bytes: inout MutableRawSpan) in
                var offset = 0
                for record in records[start..<end] {
                    record.encode(into: &bytes, at: offset, timestamp: timestamp)
                    offset += record.length
                }
            }
            let header = FrameHeader(
                tenant: nil, kinds: .control, codec: .raw, firstSequence: 0, recordCount: end - start,
                storedLength: length, rawLength: length, bodyChecksum: 0, lowestTimestamp: timestamp,
                highestTimestamp: timestamp)
            frames.append((header, body))
            start = end
        }
    }

    var headersLength: Int { frames.count * FrameHeader.fixedLength }
    var rawLength: Int { frames.reduce(0) { $0 + $1.body.count } }
}
