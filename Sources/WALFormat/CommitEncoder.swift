/// Where a commit goes and what it vouches for: all that its header says and its frames do not.
public struct CommitPlacement: Equatable, Sendable {
    public var epoch: UInt64
    public var fileSequence: UInt64
    /// Offset of the commit in its file, bytes, a multiple of the block size.
    public var offset: UInt64
    public var commitNumber: UInt64
    public var durableThrough: UInt64
    public var recordsBefore: UInt64
    public var previousChecksum: UInt32

    public init(
        epoch: UInt64, fileSequence: UInt64, offset: UInt64, commitNumber: UInt64, durableThrough: UInt64,
        recordsBefore: UInt64, previousChecksum: UInt32
    ) {
        self.epoch = epoch
        self.fileSequence = fileSequence
        self.offset = offset
        self.commitNumber = commitNumber
        self.durableThrough = durableThrough
        self.recordsBefore = recordsBefore
        self.previousChecksum = previousChecksum
    }
}

/// Writes one commit into a buffer: `add` each frame, then `finish`. The room for all frame headers is set aside at
/// the start, so their total length is given beforehand; bodies are compressed straight into their place.
public struct CommitEncoder {
    private let base: Int
    private let log: RootFormat
    private let frameHeadersLength: Int
    private var nextFrameHeader: Int
    private var nextBody: Int
    private var frameCount = 0
    private let compresses: Bool

    /// Bytes of a buffer that hold any commit with these frames: headers, bodies at their worst, padding.
    /// `rawLengths` is the sum over the frames, `frameCount` their number.
    public static func bound(frameHeadersLength: Int, rawLengths: Int, frameCount: Int, blockSize: Int) -> Int {
        // liblz4's bound is linear but for a constant per frame; 128 KiB of slack serves the last frame's
        // compression, since those before it have shrunk or lie raw.
        let bodies = rawLengths + rawLengths / 255 + 512 * frameCount + (128 << 10)
        return (CommitHeader.length + frameHeadersLength + bodies).roundedUp(toMultipleOf: blockSize)
    }

    /// Bodies of fewer bytes are not worth a reader's decompression.
    private static let minimumCompressedLength = 256

    /// Begins a commit of a log at `base` of a buffer. Compression is tried if `compresses` asks for it and `rawLengths`, the
    /// sum over the frames, does not fit into one block as it is: then shrinking saves no I/O.
    public init(
        at base: Int, of log: RootFormat, frameHeadersLength: Int, rawLengths: Int, compresses: Bool = true
    ) {
        self.base = base
        self.log = log
        self.frameHeadersLength = frameHeadersLength
        nextFrameHeader = base + CommitHeader.length
        nextBody = base + CommitHeader.length + frameHeadersLength
        self.compresses = compresses && CommitHeader.length + frameHeadersLength + rawLengths > log.blockSize
    }

    /// Adds a frame of encoded records, encrypted if a `seal` is given. `header` gives tenant, kinds, first sequence, count
    /// and times; codec, lengths, key identifier and checksum are filled in here. Throws `FormatError` when liblz4 fails.
    public mutating func add(
        _ header: inout FrameHeader, rawBody: RawSpan, into buffer: inout MutableRawSpan,
        compressor: LZ4FrameCompressor, seal: FrameSeal? = nil
    ) throws(FormatError) {
        if let seal {
            try seal.store(
                rawBody, header: &header,
                compresses: compresses && rawBody.byteCount >= Self.minimumCompressedLength, compressor: compressor,
                into: &buffer, at: nextBody)
            finishFrame(&header, in: &buffer)
            return
        }
        header.rawLength = rawBody.byteCount
        header.codec = .raw
        header.storedLength = rawBody.byteCount
        if compresses, rawBody.byteCount >= Self.minimumCompressedLength {
            let length = try compressor.compress(rawBody, into: &buffer, at: nextBody)
            // Less than a sixteenth saved is not worth a reader's decompression.
            if length <= rawBody.byteCount - rawBody.byteCount / 16 {
                header.codec = .lz4
                header.storedLength = length
            }
        }
        if header.codec == .raw { buffer.store(rawBody, at: nextBody) }
        finishFrame(&header, in: &buffer)
    }

    /// Adds a frame whose records a closure writes straight into their place, at the offset that it is given: stored as
    /// they are, without a copy in between. `rawLength` is what it writes.
    public mutating func add(
        _ header: inout FrameHeader, rawLength: Int, into buffer: inout MutableRawSpan,
        fill: (inout MutableRawSpan, Int) -> Void
    ) {
        header.rawLength = rawLength
        header.codec = .raw
        header.storedLength = rawLength
        fill(&buffer, nextBody)
        finishFrame(&header, in: &buffer)
    }

    private mutating func finishFrame(_ header: inout FrameHeader, in buffer: inout MutableRawSpan) {
        precondition(
            header.recordCount >= 1 && header.recordCount <= FormatLimits.maximumRecordCount
                && header.rawLength <= FormatLimits.maximumFrameRawLength
                && header.rawLength >= header.recordCount * RecordHeader.length,
            "a frame out of bounds was to be written")
        header.bodyChecksum = CRC32C.checksum(buffer.bytes.extracting(nextBody..<nextBody + header.storedLength))
        header.encode(into: &buffer, at: nextFrameHeader)
        nextFrameHeader += header.length
        nextBody += header.storedLength
        frameCount += 1
    }

    /// Writes padding and header. Returns the header, whose checksum the next commit repeats and whose
    /// `commitLength` says how many bytes are to be written. Traps where the frames added are not those announced.
    public func finish(
        _ placement: CommitPlacement, timestamp: UInt64, flags: CommitHeader.Flags, into buffer: inout MutableRawSpan
    ) -> CommitHeader {
        precondition(nextFrameHeader == base + CommitHeader.length + frameHeadersLength && frameCount > 0)
        let used = nextBody - base
        let length = used.roundedUp(toMultipleOf: log.blockSize)
        precondition(length <= FormatLimits.maximumCommitLength)
        // Memory of earlier commits must never reach the disk as padding: it may be another tenant's.
        buffer.zero(base + used..<base + length)
        let headersStart = base + CommitHeader.length
        var header = CommitHeader(
            epoch: placement.epoch, fileSequence: placement.fileSequence, offset: placement.offset,
            commitNumber: placement.commitNumber, durableThrough: placement.durableThrough,
            recordsBefore: placement.recordsBefore, timestamp: timestamp, commitLength: length,
            frameHeadersLength: frameHeadersLength,
            bodiesLength: used - CommitHeader.length - frameHeadersLength, frameCount: frameCount,
            previousChecksum: placement.previousChecksum, flags: flags,
            frameHeadersChecksum: CRC32C.checksum(
                buffer.bytes.extracting(headersStart..<headersStart + frameHeadersLength)))
        // What a reader would refuse must not be written: it would be acknowledged and lost.
        precondition(header.isWithinBounds, "a commit out of bounds was to be written")
        header.encode(into: &buffer, at: base, of: log.logIdentifier)
        return header
    }
}
