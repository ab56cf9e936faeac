import TelemetryWAL
import WALFormat

extension FuzzChecker {
    /// Reads a tenant segment as the engine does, whole or from what is left of it.
    func checkSegment(_ input: FuzzInput) throws(FuzzViolation) {
        let format = RootFormat.fuzzed()
        try input.withCopy(atLeast: format.blockSize) { (buffer) throws(FuzzViolation) in
            if input.isSealed { buffer.sealSegment(blockSize: format.blockSize) }
            let summary = try? SegmentSummary.decode(buffer.bytes, at: 0, blockSize: format.blockSize)
            if let summary { try checkSummary(summary, isAt: buffer) }
            let tenant = summary?.tenant ?? "acme"
            let name = SegmentName.name(covering: summary?.covered ?? 1...100)
            let storage = MemoryStorage(files: [SegmentName.directory(of: tenant) + "/" + name: Array(buffer)])
            let segment: SegmentFile<MemoryStorage>
            do throws(WALError) {
                segment = try SegmentFile(
                    name, of: tenant, in: storage, format: format, keyProvider: FuzzedKeys())
            } catch { return }
            try checkFrames(of: segment)
        }
    }

    private func checkFrames(of segment: SegmentFile<MemoryStorage>) throws(FuzzViolation) {
        var next = segment.covered.lowerBound
        for (number, frame) in segment.index.frames.enumerated() {
            try require(
                frame.firstSequence >= next && frame.lastSequence <= segment.covered.upperBound,
                "frames follow each other in the covered range")
            next = frame.lastSequence + 1
            try require(segment.index.firstFrame(from: frame.lastSequence) == number, "a frame is found by its numbers")
            guard let batch = try? segment.batch(ofFrame: number, from: frame.lastSequence) else { continue }
            try require(
                batch.sequences == frame.lastSequence...frame.lastSequence, "reading begins where it is asked to")
            guard let whole = try? segment.batch(ofFrame: number) else {
                throw FuzzViolation(description: "violated: a frame that can be read can be read again")
            }
            try require(whole.count == frame.recordCount, "a frame has as many records as the index says")
            try require(whole.records.reduce(0) { count, _ in count + 1 } == whole.count, "all records are there")
        }
        for range in segment.index.lostRanges {
            let frame = segment.index.firstFrame(from: range.sequences.lowerBound)
            let holdsRecord =
                frame < segment.index.frames.count
                && segment.index.frames[frame].firstSequence <= range.sequences.upperBound
            try require(!holdsRecord, "no record is lost and there")
        }
    }

    /// A summary, written again, gives the bytes that it was read from, but for reserved ones.
    private func checkSummary(
        _ summary: SegmentSummary, isAt buffer: UnsafeMutableRawBufferPointer
    ) throws(FuzzViolation) {
        try require(summary.length <= FormatLimits.maximumSegmentLength, "a segment's length is bounded")
        try require(
            summary.frameCount <= FormatLimits.maximumSegmentFrameCount
                && summary.lostRangeCount <= FormatLimits.maximumSegmentFrameCount, "an index's length is bounded")
        var written = [UInt8](repeating: 0xEE, count: summary.blockSize)
        do {
            var span = written.mutableSpan
            var raw = span.mutableBytes
            summary.encode(into: &raw, at: 0)
        }
        let name = 128 + summary.tenant.utf8.count
        try checkWritten(
            written, is: buffer.prefix(summary.blockSize),
            reserved: [38..<40, 92..<96, name..<384, 400..<summary.blockSize])
        let again = try? SegmentSummary.decode(written.span.bytes, at: 0, blockSize: summary.blockSize)
        try require(again == summary, "a written summary comes back")
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Makes right what checksums a segment holds, inside out: frames, index, both summaries.
    func sealSegment(blockSize: Int) {
        let last = count / blockSize * blockSize - blockSize
        guard let offset = integer(UInt64.self, at: 72).flatMap(Int.init(exactly:)), offset <= count,
            let frames = integer(UInt32.self, at: 84), let lost = integer(UInt32.self, at: 88)
        else { return }
        for frame in 0..<Swift.min(Int(frames), 16) {
            let entry = offset + frame * SegmentIndex.Frame.length
            guard let start = integer(UInt64.self, at: entry).flatMap(Int.init(exactly:)), start <= count,
                let header = integer(UInt16.self, at: start + 4), let stored = integer(UInt32.self, at: start + 20)
            else { break }
            let body = start + Int(header)
            seal(body..<body + Int(stored), at: start + 28)
            sealFrameHeader(at: start)
            if let checksum = integer(UInt32.self, at: start), entry + 44 <= count {
                storeBytes(of: checksum.littleEndian, toByteOffset: entry + 40, as: UInt32.self)
            }
        }
        let length = Int(frames) * SegmentIndex.Frame.length + Int(lost) * SegmentIndex.LostRange.length
        seal(offset..<offset + length, at: 80)
        for base in Set([0, last]) where base >= 0 { seal(base + 12..<base + blockSize, at: base + 8) }
    }
}
