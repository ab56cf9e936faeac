import WALFormat

/// A tenant segment in the making, written with the format's own encoders and not with the engine's writer.
struct SegmentImage {
    let tenant: TenantName
    var covered: ClosedRange<UInt64>
    var frames: [JournalBuilder.Frame] = []
    var lostRanges: [SegmentIndex.LostRange] = []
    var compresses = false

    /// The file's bytes; nil where liblz4 refuses.
    func encoded(of format: RootFormat, _ compressor: LZ4FrameCompressor) -> [UInt8]? {
        let blockSize = format.blockSize
        var bytes = [UInt8](repeating: 0, count: blockSize)
        var entries = SegmentIndex(lostRanges: lostRanges)
        for frame in frames {
            guard let part = encoded(frame, of: format, compressor) else { return nil }
            entries.frames.append(
                .init(
                    offset: UInt64(bytes.count), firstSequence: part.header.firstSequence,
                    recordCount: part.header.recordCount, storedLength: part.bytes.count,
                    lowestTimestamp: part.header.lowestTimestamp, highestTimestamp: part.header.highestTimestamp,
                    headerChecksum: part.checksum, rawLength: part.header.rawLength, kinds: part.header.kinds))
            bytes += part.bytes
            bytes.fill(toMultipleOf: SegmentSummary.alignment)
        }
        let index = entries
        let indexStart = bytes.count
        bytes += [UInt8](repeating: 0, count: index.length)
        let checksum = bytes.withMutableRawSpan { (span: inout MutableRawSpan) -> UInt32 in
            index.encode(into: &span, at: indexStart)
        }
        bytes.fill(toMultipleOf: blockSize)
        let summaryStart = bytes.count
        bytes += [UInt8](repeating: 0, count: blockSize)
        let summary = SegmentSummary(
            logIdentifier: format.logIdentifier, blockSize: blockSize, tenant: tenant, created: 5, covered: covered,
            length: UInt64(bytes.count), indexOffset: UInt64(indexStart), indexChecksum: checksum,
            frameCount: index.frames.count, lostRangeCount: index.lostRanges.count,
            recordCount: index.frames.reduce(0) { $0 + UInt64($1.recordCount) },
            rawLength: index.frames.reduce(0) { $0 + UInt64($1.rawLength) },
            lowestTimestamp: index.frames.map(\.lowestTimestamp).min() ?? 0,
            highestTimestamp: index.frames.map(\.highestTimestamp).max() ?? 0, received: 4...4)
        bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
            summary.encode(into: &span, at: 0)
            summary.encode(into: &span, at: summaryStart)
        }
        return bytes
    }

    /// A frame as a segment stores it: a key that it was encrypted with in the journal it has here, too.
    private func encoded(
        _ frame: JournalBuilder.Frame, of format: RootFormat, _ compressor: LZ4FrameCompressor
    ) -> (header: FrameHeader, checksum: UInt32, bytes: [UInt8])? {
        var header = frame.header
        let body = frame.body
        (header.codec, header.rawLength, header.storedLength) = (.raw, body.count, body.count)
        let start = header.length
        var bytes = [UInt8](
            repeating: 0, count: start + LZ4FrameCompressor.bound(rawLength: body.count) + FrameSeal.overhead)
        let seal = FuzzedKeys.seal(for: header, blockSize: format.blockSize, epoch: 0)
        let compresses = compresses
        let stored = try? bytes.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) -> UInt32 in
            if let seal {
                try seal.store(
                    body.span.bytes, header: &header, compresses: compresses, compressor: compressor, into: &span,
                    at: start)
            } else {
                var length = Int.max
                if compresses { length = try compressor.compress(body.span.bytes, into: &span, at: start) }
                if length <= body.count - body.count / 16 {
                    (header.codec, header.storedLength) = (.lz4, length)
                } else {
                    span.store(body, at: start)
                }
            }
            header.bodyChecksum = CRC32C.checksum(span.bytes.extracting(start..<start + header.storedLength))
            return header.encode(into: &span, at: 0)
        }
        guard let checksum = stored else { return nil }
        return (header, checksum, Array(bytes.prefix(start + header.storedLength)))
    }
}

extension [UInt8] {
    /// Zeros up to a multiple.
    fileprivate mutating func fill(toMultipleOf alignment: Int) {
        let missing = count.roundedUp(toMultipleOf: alignment) - count
        append(contentsOf: repeatElement(0, count: missing))
    }
}
