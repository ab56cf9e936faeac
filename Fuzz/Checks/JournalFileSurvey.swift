import WALFormat

/// What stands in a journal file, commit by commit of one life, for who wants to know what has become of it since.
struct JournalFileSurvey {
    struct Frame {
        /// nil: it is the log's own.
        var tenant: TenantName?
        var lastSequence: UInt64
        var commitNumber: UInt64
        var body: Range<Int>
        var isIntact: Bool
    }

    /// The file's, with zeros for what the device fails to read, and up to a whole block.
    let bytes: [UInt8]
    /// Headers of the file, of commits and of their frames.
    private(set) var headers: [Range<Int>] = []
    private(set) var frames: [Frame] = []
    /// The last commit that another one of the file vouches for.
    private(set) var vouchedThrough: UInt64 = 0
    private let unreadable: [Range<UInt64>]

    /// `end`: commits from there on do not count.
    init(_ file: JournalBuilder.File, format: RootFormat, epoch: UInt64, fileSequence: UInt64, end: UInt64) {
        let blockSize = format.blockSize
        unreadable = file.unreadable
        var bytes = file.bytes
        bytes += [UInt8](repeating: 0, count: bytes.count.roundedUp(toMultipleOf: blockSize) - bytes.count)
        for range in file.unreadable {
            let upper = Int(min(range.upperBound, UInt64(bytes.count)))
            for offset in Int(min(range.lowerBound, UInt64(upper)))..<upper { bytes[offset] = 0 }
        }
        self.bytes = bytes
        var position = 0
        while position + blockSize <= bytes.count {
            let start = position
            position += blockSize
            if start < FormatLimits.headerCopies * blockSize,
                bytes.withRawSpan({ (try? JournalFileHeader.decode($0, at: start, blockSize: blockSize)) != nil })
            {
                headers.append(start..<start + blockSize)
                continue
            }
            guard UInt64(start) < end,
                case .valid(let commit) = bytes.withRawSpan({ CommitHeader.read($0, at: start, of: format) }),
                commit.epoch == epoch, commit.fileSequence == fileSequence, commit.offset == UInt64(start)
            else { continue }
            vouchedThrough = max(vouchedThrough, commit.durableThrough)
            // The file ends within it, and nothing behind it belongs to anything.
            guard start + commit.commitLength <= bytes.count else { break }
            position = start + commit.commitLength
            take(commit, at: start)
        }
    }

    func isUnreadable(_ range: Range<Int>) -> Bool {
        let wanted = UInt64(range.lowerBound)..<UInt64(range.upperBound)
        return unreadable.contains { $0.overlaps(wanted) }
    }

    private mutating func take(_ commit: CommitHeader, at start: Int) {
        let end = start + commit.commitLength
        let frames = bytes.withRawSpan { try? CommitDecoder.frames(of: commit, in: $0.extracting(start..<end)) }
        guard let found = frames else {
            headers.append(start..<start + CommitHeader.length)
            return
        }
        headers.append(start..<start + CommitHeader.length + commit.frameHeadersLength)
        for frame in found {
            self.frames.append(
                Frame(
                    tenant: frame.header.tenant, lastSequence: frame.header.lastSequence,
                    commitNumber: commit.commitNumber,
                    body: start + frame.body.lowerBound..<start + frame.body.upperBound, isIntact: frame.isIntact))
        }
    }
}
