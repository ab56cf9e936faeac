import WALFormat
import WALStorage

/// Writes tenant segments, one after the other. One thread at a time.
///
/// Records come as runs, rows of records as frames hold them, in the order of their numbers. Runs that follow each
/// other are put together to frames of about 256 KiB, small enough to be read for a few records and large enough to
/// compress well, and frames to writes of some MiB. A segment that fits into one is one write. The file has a temporary
/// name until whoever asked for it publishes it, several at a time: what goes wrong before leaves at most a file that is
/// nobody's.
final class SegmentWriter<Storage: JournalStorage> {
    /// Raw bytes of a frame, unless one run is longer.
    private static var frameLength: Int { 256 << 10 }
    /// Encoded bytes that wait to be written.
    private static var writeLength: Int { 4 << 20 }
    #if Simulation
        static var entryLimit: Int { 40 }
    #else
        /// Most frames of a segment, and most lost ranges.
        static var entryLimit: Int { FormatLimits.maximumSegmentFrameCount }
    #endif
    #if Simulation
        /// The simulator's own account knows segments that are written whole.
        private static var pieceLength: Int { .max }
    #else
        /// Bytes written at a time: a long write would stand in the way of appends that wait for the same device.
        private static var pieceLength: Int { 128 << 10 }
    #endif
    /// A body that shrinks by less than a sixteenth is not worth a reader's decompression.
    private static var leastSaving: Int { 16 }

    private let storage: Storage
    private let format: RootFormat
    /// Called between pieces of work.
    private let pause: () -> Void
    private let compressor = LZ4FrameCompressor()
    /// What is encoded and not written, from `written` in the file on.
    private let buffer: AlignedBuffer
    private var filled = 0
    private var written: UInt64 = 0
    private var file: Storage.File?
    private var tenant: TenantName?
    private var temporaryName = ""
    private var index = SegmentIndex()
    /// Records of frames that were taken over as they are.
    private var copiedCount: UInt64 = 0
    /// Records of the next frame.
    private var raw: [UInt8] = []
    private var run: Run?

    /// A row of records with consecutive numbers.
    struct Run {
        var sequences: ClosedRange<UInt64>
        var kinds: RecordKindSet
        var lowestTimestamp: UInt64
        var highestTimestamp: UInt64
        /// What the records were encrypted with, and are again. They keep their key: to forget one destroys what was
        /// appended under it, wherever that has come.
        var key: (any FrameKey)?

        var count: Int { Int(sequences.upperBound - sequences.lowerBound) + 1 }
    }

    /// `pause` is called between pieces of work, of which there are several a frame.
    init(storage: Storage, format: RootFormat, pause: @escaping () -> Void = {}) {
        self.storage = storage
        self.format = format
        self.pause = pause
        buffer = AlignedBuffer(capacity: 1 << 20, alignment: max(4096, format.blockSize))
        raw.reserveCapacity(Self.frameLength)
    }

    /// Begins a segment of a tenant's records from a number on. What was begun before and not finished is given up.
    func begin(_ tenant: TenantName, from sequence: UInt64) {
        self.tenant = tenant
        temporaryName = SegmentName.temporary(of: tenant, from: sequence)
        index = SegmentIndex()
        copiedCount = 0
        raw.removeAll(keepingCapacity: true)
        run = nil
        file = nil
        // The summary's place; it is known last.
        filled = format.blockSize
        written = 0
        buffer.withMutableBytes { $0.zero(0..<format.blockSize) }
    }

    /// Numbers, behind all that were given so far, whose records are lost.
    func addLost(_ sequences: ClosedRange<UInt64>, cause: SegmentIndex.LostRange.Cause) {
        if let last = index.lostRanges.last, last.cause == cause, last.sequences.upperBound + 1 == sequences.lowerBound
        {
            index.lostRanges[index.lostRanges.count - 1].sequences = last.sequences.lowerBound...sequences.upperBound
        } else {
            index.lostRanges.append(.init(sequences: sequences, cause: cause))
        }
    }

    /// Adds records behind all that were given so far. Their number and order are the caller's word.
    func add(_ records: RawSpan, _ next: Run) throws(StorageError) {
        if let run, !Self.joins(run, next) || raw.count + records.byteCount > Self.frameLength { try flushFrame() }
        records.append(to: &raw)
        guard let before = run else {
            run = next
            return
        }
        run = Run(
            sequences: before.sequences.lowerBound...next.sequences.upperBound,
            kinds: before.kinds.union(next.kinds),
            lowestTimestamp: min(before.lowestTimestamp, next.lowestTimestamp),
            highestTimestamp: max(before.highestTimestamp, next.highestTimestamp), key: next.key)
    }

    /// Adds a batch's records.
    func add(_ batch: RecordBatch) throws(StorageError) {
        try batch.withEncodedRecords { (records: RawSpan) throws(StorageError) in try add(records, Run(batch)) }
    }

    /// Adds a frame as another segment of the tenant has it, or as the journal has it (`CarriedFrame`), behind all that was
    /// given so far.
    func add(_ frame: SegmentIndex.Frame, encoded bytes: RawSpan) throws(StorageError) {
        try flushFrame()
        let end = filled + bytes.byteCount
        buffer.reserve(end + SegmentSummary.alignment, keeping: filled)
        let start = filled
        filled = end.roundedUp(toMultipleOf: SegmentSummary.alignment)
        buffer.withMutableBytes { (target: inout MutableRawSpan) in
            target.store(bytes, at: start)
            target.zero(end..<filled)
        }
        var frame = frame
        frame.offset = written + UInt64(start)
        index.frames.append(frame)
        copiedCount += UInt64(frame.recordCount)
        pause()
        if filled >= Self.writeLength { try writeWholeBlocks() }
    }

    /// Whether a frame is long enough to be taken over as it is.
    static func isWorthKeeping(_ frame: SegmentIndex.Frame) -> Bool { frame.rawLength >= frameLength / 2 }

    private static func joins(_ before: Run, _ next: Run) -> Bool {
        before.sequences.upperBound + 1 == next.sequences.lowerBound
            && before.count + next.count <= FormatLimits.maximumRecordCount
            && before.key?.identifier == next.key?.identifier
    }

    /// Gives up what was begun, and removes its file.
    func discard() {
        if file != nil { try? storage.discard([temporaryName + SegmentName.temporarySuffix]) }
        file = nil
        tenant = nil
    }

    /// Whether another frame or lost range has a place in the index.
    var hasRoom: Bool {
        index.frames.count + 1 < Self.entryLimit && index.lostRanges.count < Self.entryLimit
            && written + UInt64(filled) < FormatLimits.maximumSegmentLength / 2
    }

    private func flushFrame() throws(StorageError) {
        guard let run, let tenant else { return }
        let headerLength = FrameHeader.length(tenantLength: tenant.utf8.count)
        buffer.reserve(
            filled + headerLength + LZ4FrameCompressor.bound(rawLength: raw.count) + 8 + FrameSeal.overhead,
            keeping: filled)
        var header = FrameHeader(
            tenant: tenant, kinds: run.kinds, codec: .raw, firstSequence: run.sequences.lowerBound,
            recordCount: run.count, storedLength: raw.count, rawLength: raw.count, bodyChecksum: 0,
            lowestTimestamp: run.lowestTimestamp, highestTimestamp: run.highestTimestamp)
        let (start, body) = (filled, filled + headerLength)
        let (raw, compressor) = (self.raw, self.compressor)
        let seal = run.key.map { FrameSeal(key: $0, logIdentifier: format.logIdentifier, epoch: 0) }
        let checksum = buffer.withMutableBytes { (bytes: inout MutableRawSpan) -> UInt32 in
            if let seal {
                do throws(FormatError) {
                    try raw.withRawSpan { (raw: RawSpan) throws(FormatError) in
                        try seal.store(
                            raw, header: &header, compresses: true, compressor: compressor, into: &bytes, at: body)
                    }
                } catch { preconditionFailure("compressing cannot fail with memory of its bound: \(error)") }
                return Self.finish(&header, at: start, body: body, in: &bytes)
            }
            let compressed = raw.withRawSpan { try? compressor.compress($0, into: &bytes, at: body) }
            if let compressed, compressed <= raw.count - raw.count / Self.leastSaving {
                (header.codec, header.storedLength) = (.lz4, compressed)
            } else {
                bytes.store(raw, at: body)
            }
            return Self.finish(&header, at: start, body: body, in: &bytes)
        }
        index.frames.append(
            .init(
                offset: written + UInt64(start), firstSequence: run.sequences.lowerBound, recordCount: run.count,
                storedLength: headerLength + header.storedLength, lowestTimestamp: run.lowestTimestamp,
                highestTimestamp: run.highestTimestamp, headerChecksum: checksum, rawLength: raw.count,
                kinds: run.kinds))
        filled = (body + header.storedLength).roundedUp(toMultipleOf: SegmentSummary.alignment)
        self.raw.removeAll(keepingCapacity: true)
        self.run = nil
        pause()
        if filled >= Self.writeLength { try writeWholeBlocks() }
    }

    /// Writes the header of a body that is in its place, and zeros behind it. Returns the header's checksum.
    private static func finish(
        _ header: inout FrameHeader, at start: Int, body: Int, in bytes: inout MutableRawSpan
    ) -> UInt32 {
        let end = body + header.storedLength
        header.bodyChecksum = CRC32C.checksum(bytes.bytes.extracting(body..<end))
        bytes.zero(end..<end.roundedUp(toMultipleOf: SegmentSummary.alignment))
        return header.encode(into: &bytes, at: start)
    }

    /// Writes what fills whole blocks; the rest begins the next write.
    private func writeWholeBlocks() throws(StorageError) {
        let length = filled & ~(format.blockSize - 1)
        if file == nil { file = try storage.createTemporary(temporaryName) }
        if let file { try write(length, to: file) }
        buffer.moveToFront(length..<filled)
        written += UInt64(length)
        filled -= length
    }

    /// Writes the buffer's first bytes behind what is written.
    private func write(_ length: Int, to file: Storage.File) throws(StorageError) {
        var start = 0
        while start < length {
            let count = min(Self.pieceLength, length - start)
            try file.write(
                buffer, at: start, length: count, to: written + UInt64(start), durability: .processCrash)
            start += count
            pause()
        }
    }

    /// Ends the segment, which covers these numbers. When this returns it is written under its temporary name, and
    /// `JournalStorage.publish` makes it durable.
    func finish(
        covering sequences: ClosedRange<UInt64>, created: UInt64, received: ClosedRange<UInt64>
    ) throws(StorageError) -> Finished {
        guard let tenant else { preconditionFailure("no segment was begun") }
        try flushFrame()
        let blockSize = format.blockSize
        let indexStart = filled
        let summaryStart = (indexStart + index.length).roundedUp(toMultipleOf: blockSize)
        let end = summaryStart + blockSize
        buffer.reserve(end, keeping: filled)
        let index = self.index
        let checksum = buffer.withMutableBytes { (bytes: inout MutableRawSpan) -> UInt32 in
            bytes.zero(indexStart..<end)
            return index.encode(into: &bytes, at: indexStart)
        }
        let summary = SegmentSummary(
            logIdentifier: format.logIdentifier, blockSize: blockSize, tenant: tenant, created: created,
            covered: sequences, length: written + UInt64(end), indexOffset: written + UInt64(indexStart),
            indexChecksum: checksum, frameCount: index.frames.count, lostRangeCount: index.lostRanges.count,
            recordCount: index.frames.reduce(0) { $0 + UInt64($1.recordCount) },
            rawLength: index.frames.reduce(0) { $0 + UInt64($1.rawLength) },
            lowestTimestamp: index.frames.map(\.lowestTimestamp).min() ?? 0,
            // A frame that was taken over may state its times the wrong way round.
            highestTimestamp: index.frames.map { max($0.lowestTimestamp, $0.highestTimestamp) }.max() ?? 0,
            received: received)
        let isWhole = written == 0
        buffer.withMutableBytes { (bytes: inout MutableRawSpan) in
            summary.encode(into: &bytes, at: summaryStart)
            if isWhole { summary.encode(into: &bytes, at: 0) }
        }
        let file: Storage.File
        if let begun = self.file { file = begun } else { file = try storage.createTemporary(temporaryName) }
        try write(end, to: file)
        if !isWhole { try file.write(buffer, at: summaryStart, length: blockSize, to: 0, durability: .processCrash) }
        self.file = nil
        self.tenant = nil
        if buffer.capacity > 2 * Self.writeLength { buffer.shrink(to: 1 << 20) }
        return Finished(
            summary: summary, lostCount: index.lostCount { $0 != .dropped },
            droppedCount: index.lostCount { $0 == .dropped }, copiedCount: copiedCount,
            rename: (temporaryName, SegmentName.directory(of: tenant) + "/" + SegmentName.name(covering: sequences)))
    }

    /// A segment that waits for its name.
    struct Finished {
        var summary: SegmentSummary
        /// Numbers whose records are lost.
        var lostCount: UInt64
        /// Numbers whose records were given up on purpose.
        var droppedCount: UInt64
        /// Records of frames that were taken over as they are.
        var copiedCount: UInt64
        /// What `JournalStorage.publish` is to do.
        var rename: (temporary: String, name: String)
    }
}

extension SegmentIndex {
    fileprivate func lostCount(_ isCounted: (LostRange.Cause) -> Bool) -> UInt64 {
        lostRanges.reduce(0) { isCounted($1.cause) ? $0 + UInt64($1.sequences.count) : $0 }
    }
}

extension SegmentWriter.Run {
    init(_ batch: RecordBatch) {
        var key = batch.key
        #if Simulation
            if DeliberateBug.isActive(.compactInTheOpen) { key = nil }
        #endif
        self.init(
            sequences: batch.sequences, kinds: batch.kinds, lowestTimestamp: batch.timestamps.lowerBound,
            highestTimestamp: batch.timestamps.upperBound, key: key)
    }
}
