import Foundation
import WALFormat

/// A journal file's bytes in memory, taken apart by the format's own decoders, to be edited and written back: the
/// surgeon's view of a log.
public struct JournalImage: Sendable {
    /// A commit as it lies in the file. Positions are counted from the file's first byte.
    public struct Commit: Sendable {
        public let header: CommitHeader
        public let frames: [LocatedFrame]
        public let start: Int

        public var range: Range<Int> { start..<start + header.commitLength }
        /// The commit's header and the frame headers: damage here takes all frames.
        public var headers: Range<Int> { start..<start + CommitHeader.length + header.frameHeadersLength }
        /// A frame's stored body.
        public func body(_ frame: LocatedFrame) -> Range<Int> {
            start + frame.body.lowerBound..<start + frame.body.upperBound
        }
        /// Users' records in the commit.
        public var records: [RecordName] { frames.flatMap(RecordName.all) }
    }

    public let name: String
    public let path: String
    public var bytes: [UInt8]
    public let header: JournalFileHeader
    /// Commits of the file's present life, in order.
    public let commits: [Commit]

    public var sequence: UInt64 { header.fileSequence }
    public static let blockSize = FormatLimits.defaultBlockSize

    /// Reads a file; nil where there is none or neither header copy is whole.
    public init?(name: String, in directory: String) {
        self.name = name
        path = directory + "/journal/" + name
        // A living writer may have removed the file since its name was read.
        guard FileManager.default.fileExists(atPath: path),
            let data = try? Data(contentsOf: URL(fileURLWithPath: path))
        else { return nil }
        let bytes = [UInt8](data)
        let found = bytes.withRawSpan { (span: RawSpan) -> JournalFileHeader? in
            for base in [0, Self.blockSize] {
                if let header = try? JournalFileHeader.decode(span, at: base, blockSize: Self.blockSize) {
                    return header
                }
            }
            return nil
        }
        guard let header = found else { return nil }
        self.bytes = bytes
        self.header = header
        commits = Self.commits(in: bytes, of: header)
    }

    /// Whether whole commits of an earlier life stand behind the present one's. A life that ended early leaves none.
    public var holdsStaleCommits: Bool {
        let end = commits.last?.range.upperBound ?? 0
        return bytes.withRawSpan { span in
            for offset in stride(from: end, to: span.byteCount, by: Self.blockSize) {
                if case .valid(let header) = CommitHeader.read(span, at: offset, of: self.header.log),
                    header.epoch != self.header.epoch
                {
                    return true
                }
            }
            return false
        }
    }

    private static func commits(in bytes: [UInt8], of file: JournalFileHeader) -> [Commit] {
        var commits: [Commit] = []
        bytes.withRawSpan { span in
            var offset = Int(file.commitsStart)
            while offset + blockSize <= span.byteCount {
                guard case .valid(let header) = CommitHeader.read(span, at: offset, of: file.log),
                    header.epoch == file.epoch,
                    header.offset == UInt64(offset),
                    let frames = try? CommitDecoder.frames(
                        of: header, in: span.extracting(offset..<offset + header.commitLength))
                else {
                    offset += blockSize
                    continue
                }
                commits.append(Commit(header: header, frames: frames, start: offset))
                offset += header.commitLength
            }
        }
        return commits
    }

    /// The files of a log that hold commits, oldest first.
    public static func live(in directory: String) throws -> [JournalImage] {
        try all(in: directory).filter { !$0.header.isSpare }.sorted { $0.sequence < $1.sequence }
    }

    /// The files of a log that were never used, by name.
    public static func spares(in directory: String) throws -> [JournalImage] {
        try all(in: directory).filter(\.header.isSpare)
    }

    private static func all(in directory: String) throws -> [JournalImage] {
        try FileManager.default.contentsOfDirectory(atPath: directory + "/journal").sorted()
            .filter { $0.hasSuffix(".journal") }.compactMap { JournalImage(name: $0, in: directory) }
    }

    /// Writes the bytes back.
    public func save() throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

    public mutating func flip(bit: Int = 0, at offset: Int) { bytes[offset] ^= 1 << UInt8(bit) }

    public mutating func zero(_ range: Range<Int>) {
        bytes.replaceSubrange(range, with: repeatElement(0, count: range.count))
    }

    public mutating func put(_ new: [UInt8], at offset: Int) {
        bytes.replaceSubrange(offset..<offset + new.count, with: new)
    }

    /// Both copies of the header, replaced by another.
    public mutating func putHeader(_ header: JournalFileHeader) {
        var block = [UInt8](repeating: 0, count: 2 * Self.blockSize)
        block.withMutableRawSpan { (span: inout MutableRawSpan) in header.encode(into: &span, at: 0) }
        put(block, at: 0)
    }

    /// Where the next commit would stand.
    public var end: Int { commits.last?.range.upperBound ?? Int(header.commitsStart) }

    /// A commit that continues the file, or whatever the arguments make of it.
    public func craftedCommit(
        _ frames: [CraftedFrame], skippingCommits skipped: UInt64 = 0, offset: Int? = nil,
        durableThrough: UInt64? = nil, previousChecksum: UInt32? = nil
    ) -> [UInt8] {
        let last = commits[commits.count - 1].header
        let records = UInt64(commits[commits.count - 1].records.count)
        let number = last.commitNumber + 1 + skipped
        return CraftedFrame.commit(
            frames, of: header.log,
            CommitPlacement(
                epoch: header.epoch, fileSequence: sequence, offset: UInt64(offset ?? end), commitNumber: number,
                durableThrough: durableThrough ?? (number - 1), recordsBefore: last.recordsBefore + records,
                previousChecksum: previousChecksum ?? last.checksum))
    }
}

extension JournalFileHeader {
    /// The log that the file names.
    public var log: RootFormat { RootFormat(logIdentifier: logIdentifier, blockSize: blockSize, created: 0) }
}

/// One tenant's records in a commit made by hand.
public struct CraftedFrame: Sendable {
    public var tenant: TenantName
    public var firstSequence: UInt64
    public var payloads: [[UInt8]]
    /// What the frame's header says of the records, which are opaque and of the time 0.
    public var kinds = RecordKindSet(.opaque)
    public var timestamps: ClosedRange<UInt64> = 0...0

    public init(_ tenant: TenantName, _ firstSequence: UInt64, _ payloads: [[UInt8]]) {
        self.tenant = tenant
        self.firstSequence = firstSequence
        self.payloads = payloads
    }

    private var body: [UInt8] {
        var body: [UInt8] = []
        for payload in payloads {
            var record = [UInt8](repeating: 0, count: RecordHeader.length)
            record.withMutableRawSpan { (span: inout MutableRawSpan) in
                RecordHeader(payloadLength: payload.count, kind: RecordKind.opaque.rawValue, timestamp: 0)
                    .encode(into: &span, at: 0)
            }
            body += record + payload
        }
        return body
    }

    public static func commit(
        _ frames: [CraftedFrame], of log: RootFormat, _ placement: CommitPlacement
    ) -> [UInt8] {
        let headersLength = frames.reduce(0) { $0 + FrameHeader.length(tenantLength: $1.tenant.utf8.count) }
        let raw = frames.reduce(0) { $0 + $1.body.count }
        var bytes = [UInt8](
            repeating: 0,
            count: CommitEncoder.bound(
                frameHeadersLength: headersLength, rawLengths: raw, frameCount: frames.count,
                blockSize: log.blockSize))
        let header = bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
            var encoder = CommitEncoder(
                at: 0, of: log, frameHeadersLength: headersLength, rawLengths: raw)
            for frame in frames {
                var header = FrameHeader(
                    tenant: frame.tenant, kinds: frame.kinds, codec: .raw,
                    firstSequence: frame.firstSequence, recordCount: frame.payloads.count, storedLength: 0,
                    rawLength: 0, bodyChecksum: 0, lowestTimestamp: frame.timestamps.lowerBound,
                    highestTimestamp: frame.timestamps.upperBound)
                let body = frame.body
                body.withRawSpan {
                    try! encoder.add(&header, rawBody: $0, into: &span, compressor: LZ4FrameCompressor())
                }
            }
            return encoder.finish(placement, timestamp: 0, flags: [], into: &span)
        }
        return Array(bytes.prefix(header.commitLength))
    }
}
