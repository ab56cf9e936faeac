import WALFormat
import WALStorage

/// A commit as recovery sees it: header, whose records, control records.
struct ScannedCommit {
    struct Frame {
        var tenant: TenantName
        var sequences: ClosedRange<UInt64>
        /// Its body passes its checksum: it is as it was written.
        var isIntact: Bool
        /// Its records can be used, as far as anybody looked.
        var isUsable: Bool
        /// Bytes of its records, uncompressed.
        var rawLength: UInt64
        /// The stored body's place in the file.
        var range: Range<UInt64>
    }

    var header: CommitHeader
    var frames: [Frame] = []
    var control: [ControlRecord] = []
    /// Some of its records are encrypted.
    var isEncrypted = false
    /// Why a control frame could not be used.
    var controlFault: FormatError?
    var end: UInt64 { header.offset + UInt64(header.commitLength) }
    var recordCount: UInt64 { frames.reduce(0) { $0 + $1.sequences.upperBound - $1.sequences.lowerBound + 1 } }
    var isIntact: Bool { controlFault == nil && frames.allSatisfy(\.isIntact) }
}

/// What stands in a journal file, in order.
enum ScanEvent {
    case commit(ScannedCommit)
    /// Blocks that hold no usable commit of the file's present life. `claimsEpoch`: one of them begins like one.
    case unusable(Range<UInt64>, claimsEpoch: Bool)
    /// A commit whose header is whole and whose frame headers are not.
    case headersDamaged(CommitHeader)
}

/// Walks over a journal file's bytes and tells what stands there, without deciding what it means. No I/O: it is
/// handed windows of the file and says how far it came.
struct JournalFileScanner {
    let epoch: UInt64
    let fileSequence: UInt64
    let format: RootFormat
    /// The file's end.
    let end: UInt64
    /// Whether bodies are decompressed and their records walked, beyond their checksum.
    let opensBodies: Bool
    private let keys: FrameKeys

    /// Where the next look is due.
    private(set) var offset: UInt64
    private(set) var events: [ScanEvent] = []
    private(set) var staleCommits: UInt64 = 0
    /// Frames that were to be opened, and whose keys are not to be had.
    private(set) var framesNotOpened: UInt64 = 0
    /// The key of one of these is there and does not open it.
    private(set) var hasAnotherSecret = false
    /// The life, by file sequence number, of the latest commit that stands in its place: later than the file's own where
    /// the file was begun anew and the write failed.
    private(set) var latestLife = JournalFileLife()
    /// Something whole that a newer version wrote: no damage, and not for this version to judge.
    private(set) var unsupported: FormatError?
    private let decompressor = LZ4FrameDecompressor()

    init(
        epoch: UInt64, fileSequence: UInt64, format: RootFormat, start: UInt64, end: UInt64,
        opensBodies: Bool = false, keys: FrameKeys = FrameKeys(nil)
    ) {
        self.epoch = epoch
        self.fileSequence = fileSequence
        self.format = format
        self.offset = start
        self.end = end
        self.opensBodies = opensBodies
        self.keys = keys
    }

    private var blockSize: Int { format.blockSize }
    var isFinished: Bool { offset + UInt64(blockSize) > end }

    /// Looks at a window whose first byte is the file's at `offset`. Returns the bytes that the next window must have
    /// to get on, 0 when finished.
    mutating func scan(_ window: RawSpan) -> Int {
        var position = 0
        while !isFinished {
            guard position + blockSize <= window.byteCount else { return blockSize }
            switch CommitHeader.read(window, at: position, of: format) {
            #if Simulation
                case .valid where DeliberateBug.isActive(.acceptZeroBlock) && isBehindUnusableBlock:
                    markUnusable(claimsEpoch: false)
                    position += blockSize
            #endif
            case .absent:
                markUnusable(claimsEpoch: false)
                position += blockSize
            case .broken(let claimed):
                markUnusable(claimsEpoch: claimed == epoch)
                position += blockSize
            case .valid(let header):
                if header.offset == offset, header.fileSequence > latestLife.fileSequence {
                    latestLife = JournalFileLife(fileSequence: header.fileSequence, epoch: header.epoch)
                }
                #if Simulation
                    let epoch = DeliberateBug.isActive(.ignoreEpochs) ? header.epoch : epoch
                    let fileSequence = DeliberateBug.isActive(.ignoreEpochs) ? header.fileSequence : fileSequence
                #endif
                guard header.epoch == epoch, header.fileSequence == fileSequence, header.offset == offset,
                    offset + UInt64(header.commitLength) <= end
                else {
                    if header.epoch != epoch { staleCommits += 1 }
                    markUnusable(claimsEpoch: header.epoch == epoch)
                    position += blockSize
                    continue
                }
                guard position + header.commitLength <= window.byteCount else { return header.commitLength }
                take(header, window.extracting(position..<position + header.commitLength))
                position += header.commitLength
            }
        }
        return 0
    }

    #if Simulation
        private var isBehindUnusableBlock: Bool { if case .unusable? = events.last { true } else { false } }
    #endif

    private mutating func markUnusable(claimsEpoch: Bool) {
        let block = offset..<offset + UInt64(blockSize)
        if case .unusable(let range, let claimed)? = events.last, range.upperBound == offset {
            events[events.count - 1] = .unusable(
                range.lowerBound..<block.upperBound, claimsEpoch: claimed || claimsEpoch)
        } else {
            events.append(.unusable(block, claimsEpoch: claimsEpoch))
        }
        offset = block.upperBound
    }

    private mutating func take(_ header: CommitHeader, _ bytes: RawSpan) {
        offset += UInt64(header.commitLength)
        let frames: [LocatedFrame]
        do throws(FormatError) { frames = try CommitDecoder.frames(of: header, in: bytes) } catch {
            if error.cause == .version { unsupported = error }
            events.append(.headersDamaged(header))
            return
        }
        var commit = ScannedCommit(header: header)
        commit.frames.reserveCapacity(frames.count)
        for frame in frames {
            if let tenant = frame.header.tenant {
                commit.isEncrypted = commit.isEncrypted || frame.header.isSealed
                let isUsable = frame.isIntact && (!opensBodies || isWellFormed(frame, in: bytes))
                commit.frames.append(
                    ScannedCommit.Frame(
                        tenant: tenant, sequences: frame.header.firstSequence...frame.header.lastSequence,
                        isIntact: frame.isIntact, isUsable: isUsable, rawLength: UInt64(frame.header.rawLength),
                        range: header.offset + UInt64(frame.body.lowerBound)..<header.offset
                            + UInt64(frame.body.upperBound)))
            } else {
                do throws(FormatError) {
                    let body = try CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor)
                    let count = frame.header.recordCount
                    commit.control += try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                        try ControlRecord.decodeAll(raw, count: count)
                    }
                } catch {
                    if error.cause == .version { unsupported = error }
                    commit.controlFault = error
                }
            }
        }
        events.append(.commit(commit))
    }

    private mutating func isWellFormed(_ frame: LocatedFrame, in bytes: RawSpan) -> Bool {
        do throws(FormatError) {
            let seal = try keys.seal(for: frame.header, logIdentifier: format.logIdentifier, epoch: epoch)
            let body = try CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor, seal: seal)
            let count = frame.header.recordCount
            try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                try CommitDecoder.checkRecords(in: raw, count: count, isControl: false)
            }
            return true
        } catch {
            // Its checksum holds.
            guard FrameRefusal(error) != .damaged else { return false }
            framesNotOpened += 1
            hasAnotherSecret = hasAnotherSecret || error.cause == .authentication
            return true
        }
    }
}
