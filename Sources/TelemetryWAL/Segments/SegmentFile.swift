import WALFormat
import WALStorage

/// A tenant segment that is open for reading: its index is in memory, its frames are read one at a time, by number or
/// by time. One thread at a time.
///
/// What the summary or the index should say and cannot, since the disk spoiled them, is taken from the frames, as far
/// as each leads to the next; all numbers that are in none of them count as lost then.
package final class SegmentFile<Storage: JournalStorage> {
    package let path: String
    package let tenant: TenantName
    /// The numbers that the segment stands for.
    package let covered: ClosedRange<UInt64>
    /// Bytes of the file.
    package let length: UInt64
    package let index: SegmentIndex
    /// When the log had received what the segment was made of; 0 where that is not known.
    package let received: ClosedRange<UInt64>
    /// Why the index had to be taken from the frames, if it had.
    package let fault: FormatError?
    /// A frame's key is there and does not open it.
    private(set) var hasMetAnotherSecret = false
    /// The device failed to read a frame.
    private(set) var hasMetUnreadable = false
    private let file: Storage.File
    private let format: RootFormat
    private let keys: FrameKeys
    private let decompressor = LZ4FrameDecompressor()
    private let buffer: AlignedBuffer

    /// Opens a tenant's segment by its name. Throws `.damaged` where nothing of it can be used, `.unsupportedFormat`,
    /// `.storage`.
    package convenience init(
        _ name: String, of tenant: TenantName, in storage: Storage, format: RootFormat,
        keyProvider: (any KeyProvider)? = nil
    ) throws(WALError) {
        try self.init(name, of: tenant, in: storage, format: format, keys: FrameKeys(keyProvider))
    }

    /// The same with keys.
    init(
        _ name: String, of tenant: TenantName, in storage: Storage, format: RootFormat, keys: FrameKeys
    ) throws(WALError) {
        self.tenant = tenant
        self.format = format
        self.keys = keys
        let relative = SegmentName.directory(of: tenant) + "/" + name
        path = storage.rootDescription + "/" + relative
        guard let named = SegmentName.sequences(of: name) else {
            throw .damaged(path: path, offset: 0, reason: "no segment has such a name")
        }
        covered = named
        let buffer = AlignedBuffer(capacity: 64 << 10, alignment: max(4096, format.blockSize))
        self.buffer = buffer
        var stranger: String?
        do throws(StorageError) {
            let file = try storage.open(relative, forWriting: false)
            self.file = file
            let contents = Contents(file: file, size: try file.size(), format: format, buffer: buffer)
            length = contents.size
            let found = contents.summary()
            received = (try? found.get().received) ?? 0...0
            let index: Result<SegmentIndex, FormatError>
            switch found {
            case .success(let summary):
                index = try contents.index(of: summary)
                if summary.logIdentifier != format.logIdentifier {
                    stranger = "it belongs to log \(summary.logIdentifier)"
                } else if summary.tenant != tenant || summary.covered != named {
                    let (first, last) = (summary.covered.lowerBound, summary.covered.upperBound)
                    stranger = "it is a segment of tenant \(summary.tenant), records \(first) to \(last)"
                }
            case .failure(let fault): index = .failure(fault)
            }
            switch index {
            case .success(let index):
                self.index = index
                fault = nil
            case .failure(let fault):
                self.fault = fault
                let end = (try? found.get()).map(\.indexOffset) ?? contents.size
                self.index = fault.cause == .version ? SegmentIndex() : contents.frames(of: tenant, named, end: end)
            }
        } catch { throw .storage(error) }
        if let stranger { throw .damaged(path: path, offset: 0, reason: stranger) }
        if let fault, fault.cause == .version {
            throw .unsupportedFormat(path: path, reason: fault.description)
        }
        if let fault, index.frames.isEmpty { throw .damaged(path: path, offset: 0, reason: fault.description) }
    }

    /// A frame's records from a number on. Throws `.damaged` where the frame is not what the index says,
    /// `.keyUnavailable`, `.keyForgotten`, `.storage`.
    package func batch(ofFrame number: Int, from sequence: UInt64 = 0) throws(WALError) -> RecordBatch {
        let frame = index.frames[number]
        precondition(sequence <= frame.lastSequence, "the frame has a record of that number or above")
        let range = try read(frame)
        var keyIdentifier: UInt64 = 0
        do throws(FormatError) {
            return try buffer.withBytes { (bytes: RawSpan) throws(FormatError) in
                let bytes = bytes.extracting(range)
                let located = try locate(frame, in: bytes)
                keyIdentifier = located.header.keyIdentifier
                let seal =
                    located.isIntact
                    ? try keys.seal(
                        for: located.header, logIdentifier: format.logIdentifier,
                        epoch: located.epochInSegment(bytes)) : nil
                return try RecordBatch(
                    tenant: tenant, frame: located, in: bytes, from: sequence, commitNumber: 0,
                    decompressor: decompressor, seal: seal)
            }
        } catch {
            let sequences = max(sequence, frame.firstSequence)...frame.lastSequence
            switch FrameRefusal(error) {
            case .damaged: throw damage(frame, error)
            case .keyUnavailable:
                hasMetAnotherSecret = hasMetAnotherSecret || error.cause == .authentication
                throw .keyUnavailable(tenant: tenant, sequences: sequences, reason: error.description)
            case .keyForgotten:
                throw .keyForgotten(tenant: tenant, sequences: sequences, identifier: keyIdentifier)
            }
        }
    }

    /// Whether a frame's records can be read. False: it is encrypted, its checksums hold, and its key is not to be had.
    /// Throws `.damaged`, `.storage`.
    func opens(frame number: Int) throws(WALError) -> Bool {
        do throws(WALError) {
            _ = try batch(ofFrame: number)
            return true
        } catch {
            switch error {
            case .keyUnavailable, .keyForgotten: return false
            default: throw error
            }
        }
    }

    /// Lets a closure read a frame as it is stored, header included; its checksums hold. Throws like `batch`, and
    /// `.storage` for what the closure throws.
    func withEncodedFrame(
        _ number: Int, _ body: (RawSpan) throws(StorageError) -> Void
    ) throws(WALError) {
        let frame = index.frames[number]
        let range = try read(frame)
        let result = buffer.withBytes { (bytes: RawSpan) -> Result<Void, WALError> in
            let bytes = bytes.extracting(range)
            do throws(FormatError) {
                guard try locate(frame, in: bytes).isIntact else {
                    throw FormatError(.checksum, "its body fails its CRC32C")
                }
            } catch { return .failure(damage(frame, error)) }
            do throws(StorageError) { return .success(try body(bytes)) } catch { return .failure(.storage(error)) }
        }
        try result.get()
    }

    private func damage(_ frame: SegmentIndex.Frame, _ error: FormatError) -> WALError {
        .damaged(
            path: path, offset: frame.offset,
            reason: "records \(frame.firstSequence) to \(frame.lastSequence) of tenant \(tenant): \(error)")
    }

    /// Reads a frame into the buffer. Returns where it stands there.
    private func read(_ frame: SegmentIndex.Frame) throws(WALError) -> Range<Int> {
        let start: Int
        let length: Int
        do throws(StorageError) {
            (start, length) = try file.readAligned(
                frame.offset..<frame.end, into: buffer, blockSize: format.blockSize)
        } catch {
            // Tried three times: as in the journal, that is a loss to be told and passed, not the end of reading.
            guard error.code == .ioFailure else { throw .storage(error) }
            hasMetUnreadable = true
            throw damage(frame, FormatError(.truncated, "the device fails to read it; see the kernel's log"))
        }
        guard length >= frame.storedLength else {
            throw damage(frame, FormatError(.truncated, "the segment ends here"))
        }
        return start..<start + frame.storedLength
    }

    /// The frame's header and body, held against what the index says.
    private func locate(_ frame: SegmentIndex.Frame, in bytes: RawSpan) throws(FormatError) -> LocatedFrame {
        let header = try FrameHeader.decode(bytes, at: 0)
        guard header.checksum(in: bytes) == frame.headerChecksum, header.tenant == tenant,
            header.firstSequence == frame.firstSequence, header.recordCount == frame.recordCount,
            header.length + header.storedLength == frame.storedLength
        else { throw FormatError(.field, "another frame stands here") }
        let body = bytes.extracting(header.length..<frame.storedLength)
        return LocatedFrame(
            header: header, body: header.length..<frame.storedLength,
            isIntact: CRC32C.checksum(body) == header.bodyChecksum)
    }
}

/// A segment's bytes, taken apart without knowing what they are.
private struct Contents<File: StorageFile> {
    let file: File
    let size: UInt64
    let format: RootFormat
    let buffer: AlignedBuffer

    /// The first copy of the summary that is whole.
    func summary() -> Result<SegmentSummary, FormatError> {
        let block = UInt64(format.blockSize)
        let last = size < 2 * block ? 0 : (size / block - 1) * block
        var fault = FormatError(.truncated, "the segment has \(size) bytes")
        for offset in [0, last] {
            do throws(FormatError) { return .success(try summary(at: offset)) } catch {
                if offset == 0 || error.cause == .version { fault = error }
            }
            if fault.cause == .version { break }
        }
        return .failure(fault)
    }

    private func summary(at offset: UInt64) throws(FormatError) -> SegmentSummary {
        let count: Int
        do throws(StorageError) {
            count = try file.read(into: buffer, at: 0, length: format.blockSize, from: offset)
        } catch { throw FormatError(.truncated, "the device fails to read its summary: \(error)") }
        return try buffer.withBytes { (bytes: RawSpan) throws(FormatError) in
            try SegmentSummary.decode(bytes.extracting(0..<count), at: 0, blockSize: format.blockSize)
        }
    }

    func index(of summary: SegmentSummary) throws(StorageError) -> Result<SegmentIndex, FormatError> {
        guard summary.length <= size else {
            return .failure(FormatError(.truncated, "the segment has \(size) of \(summary.length) bytes"))
        }
        let range = summary.indexOffset..<summary.indexOffset + UInt64(summary.indexLength)
        let start: Int
        let count: Int
        do throws(StorageError) {
            (start, count) = try file.readAligned(range, into: buffer, blockSize: format.blockSize)
        } catch {
            guard error.code == .ioFailure else { throw error }
            return .failure(FormatError(.truncated, "the device fails to read its index"))
        }
        do throws(FormatError) {
            return .success(
                try buffer.withBytes { (bytes: RawSpan) throws(FormatError) in
                    try SegmentIndex.decode(bytes.extracting(start..<start + count), of: summary)
                })
        } catch { return .failure(error) }
    }

    /// The frames as they stand, each at the end of the one before, up to the first that is none.
    func frames(of tenant: TenantName, _ covered: ClosedRange<UInt64>, end: UInt64) -> SegmentIndex {
        var index = SegmentIndex()
        var next = covered.lowerBound
        var offset = UInt64(format.blockSize)
        let headerLength = FrameHeader.length(tenantLength: tenant.utf8.count)
        while offset + UInt64(headerLength) < end, index.frames.count < FormatLimits.maximumSegmentFrameCount,
            let (start, count) = try? file.readAligned(
                offset..<offset + UInt64(headerLength), into: buffer, blockSize: format.blockSize),
            count == headerLength
        {
            let found = buffer.withBytes { bytes -> (header: FrameHeader, checksum: UInt32)? in
                let span = bytes.extracting(start..<start + count)
                return (try? FrameHeader.decode(span, at: 0)).map { ($0, $0.checksum(in: span)) }
            }
            guard let (header, checksum) = found, header.tenant == tenant, header.firstSequence >= next,
                header.lastSequence <= covered.upperBound
            else { break }
            if header.firstSequence > next {
                index.lostRanges.append(.init(sequences: next...header.firstSequence - 1, cause: .damaged))
            }
            index.frames.append(
                .init(
                    offset: offset, firstSequence: header.firstSequence, recordCount: header.recordCount,
                    storedLength: header.length + header.storedLength, lowestTimestamp: header.lowestTimestamp,
                    highestTimestamp: header.highestTimestamp, headerChecksum: checksum, rawLength: header.rawLength,
                    kinds: header.kinds))
            next = header.lastSequence + 1
            offset += UInt64(
                (header.length + header.storedLength).roundedUp(toMultipleOf: SegmentSummary.alignment))
        }
        // What stood between and behind them is not known, nor whether somebody lacked it.
        if next <= covered.upperBound {
            index.lostRanges.append(.init(sequences: next...covered.upperBound, cause: .damaged))
        }
        return index
    }
}

extension StorageFile {
    /// Reads a range that need not be aligned. Returns where in the buffer it begins, and how many bytes of it there
    /// are.
    func readAligned(
        _ range: Range<UInt64>, into buffer: AlignedBuffer, blockSize: Int
    ) throws(StorageError) -> (start: Int, count: Int) {
        let first = range.lowerBound & ~UInt64(blockSize - 1)
        let start = Int(range.lowerBound - first)
        let length = (start + range.count).roundedUp(toMultipleOf: blockSize)
        buffer.reserve(length)
        let count = try read(into: buffer, at: 0, length: length, from: first)
        return (start, max(0, min(range.count, count - start)))
    }
}
