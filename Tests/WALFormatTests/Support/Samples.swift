import WALFormat

/// One frame's header and raw body, before a commit takes it in.
struct SampleFrame {
    var header: FrameHeader
    var body: [UInt8]

    /// A tenant's records with the given payloads, one nanosecond apart.
    init(
        _ tenant: TenantName, first: UInt64 = 1, kind: RecordKind = .opaque, timestamp: UInt64 = 1_000,
        payloads: [[UInt8]]
    ) {
        body = []
        for (index, payload) in payloads.enumerated() {
            body += recordBytes(kind: kind.rawValue, timestamp: timestamp + UInt64(index), payload)
        }
        header = Self.header(
            tenant, RecordKindSet(kind), first: first, count: payloads.count, timestamp: timestamp)
    }

    /// A control frame.
    init(control records: [ControlRecord], timestamp: UInt64 = 1_000) {
        // Dirty at first: reserved bytes are the encoder's to clear.
        body = [UInt8](repeating: 0xEE, count: records.reduce(0) { $0 + $1.length })
        body.withMutableRawSpan { (bytes: inout MutableRawSpan) in
            var offset = 0
            for record in records {
                record.encode(into: &bytes, at: offset, timestamp: timestamp)
                offset += record.length
            }
        }
        header = Self.header(nil, .control, first: 0, count: records.count, timestamp: timestamp)
        header.highestTimestamp = timestamp
    }

    private static func header(
        _ tenant: TenantName?, _ kinds: RecordKindSet, first: UInt64, count: Int, timestamp: UInt64
    ) -> FrameHeader {
        // Codec, lengths and checksum are the encoder's to fill in: what stands here must not matter.
        FrameHeader(
            tenant: tenant, kinds: kinds, codec: .lz4, firstSequence: first, recordCount: count, storedLength: 77,
            rawLength: 78, bodyChecksum: 79, lowestTimestamp: timestamp,
            highestTimestamp: timestamp + UInt64(count) - 1)
    }
}

/// A record's header and payload.
func recordBytes(kind: UInt8, timestamp: UInt64, _ payload: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: RecordHeader.length)
    bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
        RecordHeader(payloadLength: payload.count, kind: kind, timestamp: timestamp).encode(into: &span, at: 0)
    }
    return bytes + payload
}

extension CommitPlacement {
    /// Every field different, so that none can be taken for another.
    static let sample = CommitPlacement(
        epoch: 0x1122_3344_5566_7788, fileSequence: 3, offset: 0x2000, commitNumber: 42, durableThrough: 40,
        recordsBefore: 1_000_000, previousChecksum: 0xDEAD_BEEF)
}

/// A commit as it goes to disk.
struct SampleCommit {
    var header: CommitHeader
    var bytes: [UInt8]
    /// The buffer that the commit was encoded into, whatever lay around it included.
    let buffer: [UInt8]

    /// Bytes before the padding.
    var used: Int { CommitHeader.length + header.frameHeadersLength + header.bodiesLength }

    /// Encodes frames at an offset of a buffer that was full of `dirt` before.
    init(
        _ frames: [SampleFrame], placement: CommitPlacement = .sample, blockSize: Int = FormatLimits.defaultBlockSize,
        timestamp: UInt64 = 0x0102_0304_0506_0708, flags: CommitHeader.Flags = [], at base: Int = 0, dirt: UInt8 = 0xD1
    ) throws(FormatError) {
        let headersLength = frames.reduce(0) { $0 + $1.header.length }
        let rawLengths = frames.reduce(0) { $0 + $1.body.count }
        let bound = CommitEncoder.bound(
            frameHeadersLength: headersLength, rawLengths: rawLengths, frameCount: frames.count, blockSize: blockSize)
        var buffer = [UInt8](repeating: dirt, count: base + bound)
        let compressor = LZ4FrameCompressor()
        let header = try buffer.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
            var encoder = CommitEncoder(
                at: base, of: .sample(blockSize: blockSize), frameHeadersLength: headersLength, rawLengths: rawLengths)
            for frame in frames {
                var header = frame.header
                try encoder.add(&header, rawBody: frame.body.span.bytes, into: &span, compressor: compressor)
            }
            return encoder.finish(placement, timestamp: timestamp, flags: flags, into: &span)
        }
        self.header = header
        self.buffer = buffer
        bytes = Array(buffer[base..<base + header.commitLength])
    }

    /// Makes header and frame headers pass their checksums again after a change to the bytes, and takes over what the
    /// header then says. Throws where that is out of bounds.
    mutating func reseal() throws(FormatError) {
        bytes.seal(CommitHeader.length..<CommitHeader.length + header.frameHeadersLength, at: 12)
        bytes.sealCommitHeader()
        guard case .valid(let changed) = readCommit(bytes) else { throw FormatError(.field, "not a valid commit") }
        header = changed
    }

    /// Two tenants, raw, as small as commits get: what the exhaustive tests walk over.
    static func small() throws -> SampleCommit {
        try SampleCommit([
            SampleFrame("acme", first: 7, payloads: [Array("hello".utf8), []]),
            SampleFrame("globex", first: 1, kind: .log, payloads: [Array("world".utf8)]),
        ])
    }
}

extension RootFormat {
    /// The log that the tests' commits are of: the golden files'.
    static func sample(blockSize: Int = FormatLimits.defaultBlockSize) -> RootFormat {
        RootFormat(logIdentifier: GoldenContents.logIdentifier, blockSize: blockSize, created: 0)
    }
}

extension FrameHeader {
    /// A valid header with every field set.
    static let sample = FrameHeader(
        tenant: "acme", kinds: [RecordKindSet(.span), RecordKindSet(.log)], codec: .lz4,
        firstSequence: 0x0102_0304_0506_0708, recordCount: 3, storedLength: 100, rawLength: 400,
        bodyChecksum: 0xCAFE_F00D, lowestTimestamp: 11, highestTimestamp: 22)

    /// The header's bytes.
    func encoded() -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: length)
        bytes.withMutableRawSpan { (span: inout MutableRawSpan) in _ = encode(into: &span, at: 0) }
        return bytes
    }
}

extension JournalFileHeader {
    /// The header of a file that follows another one.
    static let sample: JournalFileHeader = {
        var generator = SeededGenerator(seed: 9)
        return JournalFileHeader(
            logIdentifier: LogIdentifier(using: &generator), epoch: 0x1122_3344_5566_7788, fileSequence: 5,
            capacity: 64 << 20, blockSize: FormatLimits.defaultBlockSize, created: 1_700_000_000_000_000_000,
            firstCommit: 42, oldestLiveFileSequence: 2,
            previous: Previous(
                fileSequence: 4, epoch: 0x99AA_BBCC_DDEE_FF00, endOffset: 0x3F_F000, lastCommit: 41,
                lastChecksum: 0xDEAD_BEEF),
            recordsBefore: 123_456, sequenceFloor: 98_765)
    }()

    /// Both copies.
    func encoded() -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: FormatLimits.headerCopies * blockSize)
        bytes.withMutableRawSpan { (span: inout MutableRawSpan) in encode(into: &span, at: 0) }
        return bytes
    }
}
