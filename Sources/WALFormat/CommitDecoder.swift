/// One frame as it lies in a commit's or a segment's bytes.
public struct LocatedFrame: Equatable, Sendable {
    public var header: FrameHeader
    /// Where the stored body lies, counted from the first of those bytes.
    public var body: Range<Int>
    /// Whether the stored body passes its CRC32C. False: this frame is torn or damaged, its neighbours need not be.
    public var isIntact: Bool

    public init(header: FrameHeader, body: Range<Int>, isIntact: Bool) {
        self.header = header
        self.body = body
        self.isIntact = isIntact
    }
}

/// Reads commits and their frames from bytes that may be anything. Pure functions: what they read they check first
/// (checksum, then bounds), and they take memory only after a bound has held.
public enum CommitDecoder {
    /// The frames of a commit whose header is known to be valid. `bytes` begins at the commit's first byte and holds
    /// at least its length without padding. Throws `FormatError` when the frame headers fail their checksum or
    /// contradict the commit's header; a body's failure is marked on its frame instead.
    public static func frames(of commit: CommitHeader, in bytes: RawSpan) throws(FormatError) -> [LocatedFrame] {
        let headersEnd = CommitHeader.length + commit.frameHeadersLength
        guard bytes.byteCount >= headersEnd + commit.bodiesLength else {
            throw FormatError(.truncated, "commit \(commit.commitNumber) is cut off")
        }
        let headerBytes = bytes.extracting(CommitHeader.length..<headersEnd)
        guard CRC32C.checksum(headerBytes) == commit.frameHeadersChecksum else {
            throw FormatError(.checksum, "frame headers of commit \(commit.commitNumber) fail their CRC32C")
        }
        var frames: [LocatedFrame] = []
        frames.reserveCapacity(commit.frameCount)
        var headerOffset = CommitHeader.length
        var bodyOffset = headersEnd
        for _ in 0..<commit.frameCount {
            let header = try FrameHeader.decode(bytes.extracting(0..<headersEnd), at: headerOffset)
            guard !header.isCarried else {
                throw FormatError(.field, "a frame of commit \(commit.commitNumber) is carried, as only segments' are")
            }
            headerOffset += header.length
            guard header.storedLength <= headersEnd + commit.bodiesLength - bodyOffset else {
                throw FormatError(.field, "a body of commit \(commit.commitNumber) runs past its end")
            }
            let body = bodyOffset..<bodyOffset + header.storedLength
            bodyOffset = body.upperBound
            let isIntact = CRC32C.checksum(bytes.extracting(body)) == header.bodyChecksum
            frames.append(LocatedFrame(header: header, body: body, isIntact: isIntact))
        }
        guard headerOffset == headersEnd, bodyOffset == headersEnd + commit.bodiesLength else {
            throw FormatError(.field, "lengths in commit \(commit.commitNumber) do not add up")
        }
        return frames
    }

    /// The records of a frame as one array of raw bytes, to be walked with `RecordHeader`. Decrypts, which takes a `seal`,
    /// and decompresses where needed. Throws `FormatError` for a body that is not what its header says, or not to be opened
    /// with that `seal`.
    public static func rawBody(
        of frame: LocatedFrame, in commit: RawSpan, decompressor: LZ4FrameDecompressor, seal: FrameSeal? = nil
    ) throws(FormatError) -> [UInt8] {
        let stored = commit.extracting(frame.body)
        guard frame.isIntact else { throw FormatError(.checksum, "a frame's body fails its CRC32C") }
        let header = frame.header
        guard header.isSealed else { return try rawBody(of: header, stored: stored, decompressor: decompressor) }
        guard let seal else {
            throw FormatError(.sealed, "a frame is encrypted with key \(header.keyIdentifier), which was not given")
        }
        let plain = try seal.open(stored, of: header)
        guard header.codec == .lz4 else { return plain }
        return try plain.withRawSpan { (stored: RawSpan) throws(FormatError) in
            try rawBody(of: header, stored: stored, decompressor: decompressor)
        }
    }

    private static func rawBody(
        of header: FrameHeader, stored: RawSpan, decompressor: LZ4FrameDecompressor
    ) throws(FormatError) -> [UInt8] {
        guard header.codec == .lz4 else { return stored.array(0..<stored.byteCount) }
        let rawLength = header.rawLength
        var failure: FormatError?
        // Not zeroed first: that would cost a third of what decompressing does.
        let raw = unsafe [UInt8](unsafeUninitializedCapacity: rawLength) { room, count in
            let buffer = unsafe UnsafeMutableBufferPointer(rebasing: room[..<rawLength])
            var target = unsafe MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
            do throws(FormatError) {
                try decompressor.decompress(stored, into: &target)
                count = rawLength
            } catch { failure = error }
        }
        if let failure { throw failure }
        return raw
    }

    /// Checks that a raw body holds exactly `count` well-formed records, of user kinds unless `isControl`.
    public static func checkRecords(in rawBody: RawSpan, count: Int, isControl: Bool) throws(FormatError) {
        var offset = 0
        for _ in 0..<count {
            let record = try RecordHeader.decode(rawBody, at: offset)
            guard isControl || RecordKind(rawValue: record.kind) != nil else {
                throw FormatError(.version, "record at \(offset) has unknown kind \(record.kind)")
            }
            offset += RecordHeader.length + record.payloadLength
        }
        guard offset == rawBody.byteCount else {
            throw FormatError(.field, "the frame's body holds more than its \(count) records")
        }
    }
}
