/// Where a segment's frames stand, and which of its tenant's numbers are lost: what a reader needs to begin at any
/// number or time without looking at the frames before.
///
/// One behind the other, without padding: an entry for each frame, in the order of the sequence numbers, which is that
/// of the file; then an entry for each lost range, in the order of the numbers.
///
/// ```
/// frame, 56 bytes                                   lost range, 24 bytes
///  0  u64  offset of the frame header in the file    0  u64  first sequence number
///  8  u64  first sequence number                     8  u64  last sequence number
/// 16  u32  record count                             16  u8   cause: 1 damaged, 2 dropped, 3 given up
/// 20  u32  length of header and stored body, bytes  17  7    zero
/// 24  u64  lowest timestamp, ns
/// 32  u64  highest timestamp, ns
/// 40  u32  the frame header's checksum
/// 44  u32  raw length of the body, bytes
/// 48  u8   kinds, as in the frame header
/// 49  7    zero
/// ```
public struct SegmentIndex: Equatable, Sendable {
    public struct Frame: Equatable, Sendable {
        public static let length = 56

        /// Offset of the frame's header in the file, bytes.
        public var offset: UInt64
        public var firstSequence: UInt64
        public var recordCount: Int
        /// Bytes of header and stored body.
        public var storedLength: Int
        public var lowestTimestamp: UInt64
        public var highestTimestamp: UInt64
        /// The checksum that the frame's header must have: another frame in its place is not taken for it.
        public var headerChecksum: UInt32
        public var rawLength: Int
        public var kinds: RecordKindSet

        public init(
            offset: UInt64, firstSequence: UInt64, recordCount: Int, storedLength: Int, lowestTimestamp: UInt64,
            highestTimestamp: UInt64, headerChecksum: UInt32, rawLength: Int, kinds: RecordKindSet
        ) {
            self.offset = offset
            self.firstSequence = firstSequence
            self.recordCount = recordCount
            self.storedLength = storedLength
            self.lowestTimestamp = lowestTimestamp
            self.highestTimestamp = highestTimestamp
            self.headerChecksum = headerChecksum
            self.rawLength = rawLength
            self.kinds = kinds
        }

        /// Whether the frame may hold records of these times. Times need not rise with the numbers: others behind it may, too.
        public func mayHold(_ times: ClosedRange<UInt64>) -> Bool {
            lowestTimestamp <= times.upperBound && highestTimestamp >= times.lowerBound
        }

        public var lastSequence: UInt64 { firstSequence + UInt64(recordCount) - 1 }
        /// Offset behind the frame's last byte.
        public var end: UInt64 { offset + UInt64(storedLength) }
    }

    /// Records that were acknowledged to whoever appended them and that no subscriber will get.
    public struct LostRange: Equatable, Sendable {
        public enum Cause: UInt8, Sendable {
            /// The disk lost or spoiled them while they were in the journal or in a segment before.
            case damaged = 1
            /// The tenant's policy gave them up.
            case dropped = 2
            /// They were damaged, and a repair has stated that nobody waits for them any more.
            case givenUp = 3
        }

        public static let length = 24

        public var sequences: ClosedRange<UInt64>
        public var cause: Cause

        public init(sequences: ClosedRange<UInt64>, cause: Cause) {
            self.sequences = sequences
            self.cause = cause
        }
    }

    public var frames: [Frame]
    public var lostRanges: [LostRange]

    public init(frames: [Frame] = [], lostRanges: [LostRange] = []) {
        self.frames = frames
        self.lostRanges = lostRanges
    }

    /// Bytes of the encoded index.
    public var length: Int { frames.count * Frame.length + lostRanges.count * LostRange.length }

    /// Writes the index at an offset of the buffer. Returns its checksum.
    public func encode(into bytes: inout MutableRawSpan, at base: Int) -> UInt32 {
        var offset = base
        bytes.zero(base..<base + length)
        for frame in frames {
            bytes.store(littleEndian: frame.offset, at: offset)
            bytes.store(littleEndian: frame.firstSequence, at: offset + 8)
            bytes.store(littleEndian: UInt32(frame.recordCount), at: offset + 16)
            bytes.store(littleEndian: UInt32(frame.storedLength), at: offset + 20)
            bytes.store(littleEndian: frame.lowestTimestamp, at: offset + 24)
            bytes.store(littleEndian: frame.highestTimestamp, at: offset + 32)
            bytes.store(littleEndian: frame.headerChecksum, at: offset + 40)
            bytes.store(littleEndian: UInt32(frame.rawLength), at: offset + 44)
            bytes.store(littleEndian: frame.kinds.rawValue, at: offset + 48)
            offset += Frame.length
        }
        for range in lostRanges {
            bytes.store(littleEndian: range.sequences.lowerBound, at: offset)
            bytes.store(littleEndian: range.sequences.upperBound, at: offset + 8)
            bytes.store(littleEndian: range.cause.rawValue, at: offset + 16)
            offset += LostRange.length
        }
        return CRC32C.checksum(bytes.bytes.extracting(base..<base + length))
    }

    /// Reads the index that a summary describes; `bytes` are exactly those. Throws `FormatError`.
    public static func decode(_ bytes: RawSpan, of summary: SegmentSummary) throws(FormatError) -> SegmentIndex {
        guard bytes.byteCount == summary.indexLength else {
            throw FormatError(.truncated, "the segment's index is cut off")
        }
        guard CRC32C.checksum(bytes) == summary.indexChecksum else {
            throw FormatError(.checksum, "the segment's index fails its CRC32C")
        }
        var index = SegmentIndex()
        index.frames.reserveCapacity(summary.frameCount)
        index.lostRanges.reserveCapacity(summary.lostRangeCount)
        for number in 0..<summary.frameCount { index.frames.append(decodeFrame(bytes, at: number * Frame.length)) }
        let start = summary.frameCount * Frame.length
        for number in 0..<summary.lostRangeCount {
            index.lostRanges.append(try decodeLostRange(bytes, at: start + number * LostRange.length))
        }
        // The checksum has held: what follows guards against a writer's error.
        guard index.isConsistent(with: summary) else {
            throw FormatError(.field, "the segment's index has entries out of bounds or order")
        }
        return index
    }

    private static func decodeFrame(_ bytes: RawSpan, at offset: Int) -> Frame {
        Frame(
            offset: bytes.littleEndian(at: offset), firstSequence: bytes.littleEndian(at: offset + 8),
            recordCount: Int(bytes.littleEndian(UInt32.self, at: offset + 16)),
            storedLength: Int(bytes.littleEndian(UInt32.self, at: offset + 20)),
            lowestTimestamp: bytes.littleEndian(at: offset + 24), highestTimestamp: bytes.littleEndian(at: offset + 32),
            headerChecksum: bytes.littleEndian(at: offset + 40),
            rawLength: Int(bytes.littleEndian(UInt32.self, at: offset + 44)),
            kinds: RecordKindSet(rawValue: bytes.littleEndian(UInt8.self, at: offset + 48)))
    }

    private static func decodeLostRange(_ bytes: RawSpan, at offset: Int) throws(FormatError) -> LostRange {
        let (first, last): (UInt64, UInt64) = (bytes.littleEndian(at: offset), bytes.littleEndian(at: offset + 8))
        guard let cause = LostRange.Cause(rawValue: bytes.littleEndian(UInt8.self, at: offset + 16)) else {
            throw FormatError(.version, "the segment's index names an unknown cause of loss")
        }
        guard first <= last else { throw FormatError(.field, "the segment's index has a lost range without a number") }
        return LostRange(sequences: first...last, cause: cause)
    }

    private func isConsistent(with summary: SegmentSummary) -> Bool {
        var (end, next, records, raw) = (summary.framesStart, summary.covered.lowerBound, UInt64(0), UInt64(0))
        for frame in frames {
            guard (1...FormatLimits.maximumRecordCount).contains(frame.recordCount),
                frame.rawLength <= FormatLimits.maximumFrameRawLength,
                frame.rawLength >= frame.recordCount * RecordHeader.length,
                frame.storedLength > FrameHeader.length(tenantLength: summary.tenant.utf8.count),
                frame.storedLength
                    <= FrameHeader.length(tenantLength: summary.tenant.utf8.count) + frame.rawLength
                    + FrameSeal.overhead + CarriedFrame.epochLength,
                frame.offset >= end, frame.offset.isMultiple(of: UInt64(SegmentSummary.alignment)),
                frame.offset <= summary.indexOffset, UInt64(frame.storedLength) <= summary.indexOffset - frame.offset,
                frame.firstSequence >= next, frame.firstSequence <= summary.covered.upperBound,
                UInt64(frame.recordCount) <= summary.covered.upperBound - frame.firstSequence + 1,
                frame.lowestTimestamp >= summary.lowestTimestamp, frame.highestTimestamp <= summary.highestTimestamp,
                !frame.kinds.isEmpty, frame.kinds.isSubset(of: .user)
            else { return false }
            (end, next) = (frame.end, frame.lastSequence + 1)
            records += UInt64(frame.recordCount)
            raw += UInt64(frame.rawLength)
        }
        guard records == summary.recordCount, raw == summary.rawLength else { return false }
        next = summary.covered.lowerBound
        for range in lostRanges {
            guard range.sequences.lowerBound >= next, range.sequences.upperBound <= summary.covered.upperBound,
                !holdsRecord(in: range.sequences)
            else { return false }
            next = range.sequences.upperBound + 1
        }
        return true
    }

    private func holdsRecord(in sequences: ClosedRange<UInt64>) -> Bool {
        let index = firstFrame(from: sequences.lowerBound)
        return index < frames.count && frames[index].firstSequence <= sequences.upperBound
    }

    // MARK: - Looking up

    /// Index of the first frame with a record of this number or a higher one; the count of frames where there is none.
    public func firstFrame(from sequence: UInt64) -> Int {
        var (low, high) = (0, frames.count)
        while low < high {
            let middle = (low + high) / 2
            if frames[middle].lastSequence < sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
