import WALFormat
import WALStorage

/// Overwrites what a file holds of a tenant, in place. One thread at a time uses a scrub, and nobody writes meanwhile where
/// it does.
///
/// In a journal file what stays is what a commit of the file's own life says is somebody else's: headers of the file, of
/// commits and of frames, control records, and bodies of other tenants' frames; those that fail their checks only where
/// somebody may want them still. All else becomes zeros: the tenant's bodies, and whatever no commit of that life accounts
/// for, which may be a piece of one: earlier lives, torn commits, damage. Where the log still counts on a file, what is to
/// go for want of such a commit is read twice first.
///
/// That is safe under others' data: only blocks are written that change, and a sector that also holds something of
/// theirs holds it before the write and after, so that it does not matter which of the two a loss of power leaves.
package struct FileScrub<Storage: JournalStorage> {
    /// A life of a journal file.
    package struct Life {
        var epoch: UInt64
        var fileSequence: UInt64
        /// Where its commits end, if the log counts on them; nil: nobody is promised anything in the file.
        var end: UInt64?
        /// The log has that life in another file, whose place this one may take: it keeps what that one keeps, and what
        /// cannot be read of it is no loss.
        var isCopy = false
        /// Of a file that was set aside to be looked at: the last commit that another one in it vouches for, which was
        /// written whole. Damage up to there is evidence.
        var evidenceThrough: UInt64?

        package init(epoch: UInt64, fileSequence: UInt64, end: UInt64? = nil, isCopy: Bool = false) {
            (self.epoch, self.fileSequence) = (epoch, fileSequence)
            (self.end, self.isCopy) = (end, isCopy)
        }

        /// Whether what is damaged of others' stays in a commit. Where nobody is promised anything it may be one that was
        /// written in parts, and between them stands what stood there before.
        func keepsDamage(in commit: CommitHeader) -> Bool {
            end != nil || evidenceThrough.map { commit.commitNumber <= $0 } ?? false
        }

        func owns(_ commit: CommitHeader, at place: UInt64) -> Bool {
            commit.epoch == epoch && commit.fileSequence == fileSequence && commit.offset == place
                && place < end ?? .max
        }
    }

    let format: RootFormat
    /// Whose records go; nil: everybody's.
    let tenant: TenantName?
    /// The last number that is to go. What nobody is promised goes whatever its number.
    let through: UInt64
    /// Zeros are written even where zeros are read. An attempt before may have failed, or its process died, and what is
    /// read since need not be durable.
    let rewritesZeros: Bool
    /// Asked between pieces; false ends the scrub with an error.
    let goesOn: () -> Bool
    private let buffer: AlignedBuffer
    /// Bytes that were not zero and became zeros.
    private(set) var overwritten: UInt64 = 0
    /// It is looked whether what was written is there.
    private var isChecking = false
    /// It is looked what there is, and nothing written.
    private var isSurveying = false

    /// Bytes read at a time.
    static var pieceLength: Int { 1 << 20 }
    /// So often a write is tried. What it concerns may be anything after the first that failed, and is still known here.
    private static var writeAttempts: Int { 3 }

    package init(
        format: RootFormat, tenant: TenantName?, through: UInt64, rewritesZeros: Bool,
        goesOn: @escaping () -> Bool
    ) {
        self.format = format
        self.tenant = tenant
        self.through = through
        self.rewritesZeros = rewritesZeros
        self.goesOn = goesOn
        buffer = AlignedBuffer(capacity: Self.pieceLength, alignment: max(4096, format.blockSize))
    }

    private var blockSize: Int { format.blockSize }

    // MARK: - What is asked for

    /// Scrubs a journal file up to an end, then reads it again. `life`: nil where the file says nothing of itself. What
    /// the device fails to read is overwritten, too, or, where the log counts on the file, ends the scrub with an error.
    /// Durable when it returns.
    package mutating func scrubJournal(
        _ file: Storage.File, upTo end: UInt64, _ life: Life?
    ) throws(StorageError) {
        try twice(file, 0..<end) { (scrub: inout Self) throws(StorageError) in
            let isCountedOn = life.map { $0.end != nil && !$0.isCopy } ?? false
            return try scrub.pass(file, 0..<end, isCountedOn: isCountedOn) { $0.claims(in: $1, at: $2, of: life) }
        }
    }

    /// Scrubs a file in quarantine, as `scrubJournal` does one that nobody is promised anything in, but leaves what is
    /// evidence of damage.
    package mutating func scrubQuarantined(_ file: Storage.File, _ life: Life?) throws(StorageError) {
        let end = try file.size()
        guard var life else { return try scrubJournal(file, upTo: end, nil) }
        life.evidenceThrough = try vouchedThrough(in: file, upTo: end, life)
        try scrubJournal(file, upTo: end, life)
    }

    /// The last commit that others of the file vouch for. Writes nothing.
    private mutating func vouchedThrough(
        in file: Storage.File, upTo end: UInt64, _ life: Life
    ) throws(StorageError) -> UInt64 {
        (isChecking, isSurveying) = (false, true)
        defer { isSurveying = false }
        var through: UInt64 = 0
        _ = try pass(file, 0..<end, isCountedOn: false) { (scrub, length, offset) in
            let claims = scrub.claims(in: length, at: offset, of: life)
            through = max(through, claims.vouchedThrough)
            return claims
        }
        return through
    }

    /// Overwrites all of a range of a file that nothing of is wanted any more, and reads it again. Durable when it
    /// returns.
    mutating func zero(_ file: Storage.File, _ range: Range<UInt64>) throws(StorageError) {
        try twice(file, range) { (scrub: inout Self) throws(StorageError) in
            try scrub.pass(file, range, isCountedOn: false) { (_, length, _) in
                Claims(zeros: [.init(range: 0..<length)], length: length)
            }
        }
    }

    private mutating func twice(
        _ file: Storage.File, _ range: Range<UInt64>, _ pass: (inout Self) throws(StorageError) -> Int
    ) throws(StorageError) {
        isChecking = false
        let found = try pass(&self)
        // Even if there was nothing to do: somebody else may have done it, and not to the end.
        try file.synchronize()
        if found == 0 { return }
        isChecking = true
        guard try pass(&self) == 0 else {
            throw StorageError(
                .writeLost, operation: "overwrite \(range.count) bytes at \(range.lowerBound)", path: file.path)
        }
    }

    // MARK: - What goes and what stays

    /// What of a piece is to be zeros.
    private struct Claims {
        struct Zeros {
            var range: Range<Int>
            /// No commit accounts for it.
            var isUnproved = false
            /// Between what others have: zeros from the beginning, unless somebody else wrote there.
            var isPadding = false
        }

        var zeros: [Zeros] = []
        /// The highest number of a commit that those in it vouch for.
        var vouchedThrough: UInt64 = 0
        /// Bytes that were gone through, from the piece's first on.
        var length = 0
        /// A commit begins there and is longer than the piece: so many bytes are needed.
        var needed: Int?
    }

    /// Goes through a piece of a journal file that begins at an offset.
    private func claims(in length: Int, at offset: UInt64, of life: Life?) -> Claims {
        buffer.withBytes { bytes in
            let bytes = bytes.extracting(0..<length)
            var claims = Claims()
            var position: Int { claims.length }
            while position + blockSize <= length {
                let place = offset + UInt64(position)
                if place < UInt64(FormatLimits.headerCopies * blockSize),
                    (try? JournalFileHeader.decode(bytes, at: position, blockSize: blockSize)) != nil
                {
                    claims.length += blockSize
                } else if let life, case .valid(let header) = CommitHeader.read(bytes, at: position, of: format),
                    life.owns(header, at: place)
                {
                    claims.vouchedThrough = max(claims.vouchedThrough, header.durableThrough)
                    guard position + header.commitLength <= length else {
                        claims.needed = header.commitLength
                        return claims
                    }
                    claims.zeros += zeros(in: header, bytes, at: position, of: life)
                    claims.length += header.commitLength
                } else {
                    claims.zeros.append(
                        .init(range: position..<position + blockSize, isUnproved: place < life?.end ?? 0))
                    claims.length += blockSize
                }
            }
            return claims
        }
    }

    private func zeros(
        in header: CommitHeader, _ bytes: RawSpan, at position: Int, of life: Life
    ) -> [Claims.Zeros] {
        let commit = bytes.extracting(position..<position + header.commitLength)
        guard let frames = try? CommitDecoder.frames(of: header, in: commit) else {
            return [.init(range: position + CommitHeader.length..<position + header.commitLength, isUnproved: true)]
        }
        let keepsDamage = life.keepsDamage(in: header)
        var zeros = frames.compactMap { frame -> Claims.Zeros? in
            let isOthers = frame.header.isControl || (tenant != nil && frame.header.tenant != tenant)
            // No frame stands across an erasure's end: it is made of what is durable.
            let isLater = life.end != nil && frame.header.lastSequence > through
            if isOthers ? keepsDamage || frame.isIntact : isLater { return nil }
            return .init(range: position + frame.body.lowerBound..<position + frame.body.upperBound)
        }
        let end = CommitHeader.length + header.frameHeadersLength + header.bodiesLength
        zeros.append(.init(range: position + end..<position + header.commitLength, isPadding: true))
        return zeros
    }

    // MARK: - Bytes

    /// One way through a range. Returns how many bytes were not as they are to be.
    private mutating func pass(
        _ file: Storage.File, _ range: Range<UInt64>, isCountedOn: Bool, _ look: (Self, Int, UInt64) -> Claims
    ) throws(StorageError) -> Int {
        var found = 0
        var offset = range.lowerBound
        var wanted = Self.pieceLength
        while offset < range.upperBound {
            let length = try read(file, offset..<range.upperBound, atMost: wanted, isCountedOn, &found)
            if length < blockSize { break }
            var claims = look(self, length, offset)
            if let needed = claims.needed, claims.length == 0 {
                if needed > length, wanted < needed, length == wanted.roundedUp(toMultipleOf: blockSize) {
                    wanted = needed
                    continue
                }
                // The file ends within it.
                claims.zeros.append(.init(range: 0..<length, isUnproved: true))
                claims.length = length
            }
            wanted = max(Self.pieceLength, claims.needed ?? 0)
            if isSurveying { claims.zeros = [] }
            if isCountedOn, claims.zeros.contains(where: { $0.isUnproved && !isZero($0.range) }) {
                try readAgain(file, offset, length)
            }
            found += try write(file, claims.zeros, at: offset)
            offset += UInt64(claims.length)
        }
        return found
    }

    private func isZero(_ range: Range<Int>) -> Bool { buffer.withBytes { $0.extracting(range).isAllZero } }

    /// Reads the beginning of a range into the buffer. Returns how many bytes there are, in whole blocks.
    private mutating func read(
        _ file: Storage.File, _ range: Range<UInt64>, atMost wanted: Int, _ isCountedOn: Bool, _ found: inout Int
    ) throws(StorageError) -> Int {
        guard goesOn() else {
            throw StorageError(.other, operation: "overwrite, as the log was closed", path: file.path)
        }
        // A file that was cut may end within a block.
        let length = Int(min(UInt64(wanted), range.upperBound - range.lowerBound)).roundedUp(toMultipleOf: blockSize)
        buffer.reserve(length)
        var unreadable: [Range<UInt64>] = []
        let count = try file.readAround(
            &unreadable, into: buffer, at: 0, length: length, from: range.lowerBound, blockSize: blockSize)
        for blocks in unreadable {
            if isCountedOn || isChecking {
                throw StorageError(
                    .ioFailure, operation: "read \(blocks.count) bytes at \(blocks.lowerBound)", path: file.path)
            }
            if isSurveying { continue }
            // They are zeros in the buffer, and become zeros on the disk.
            let start = Int(blocks.lowerBound - range.lowerBound)
            try write(file, blocks: start..<start + blocks.count, at: range.lowerBound)
            found += blocks.count
            overwritten += UInt64(blocks.count)
        }
        let end = count.roundedUp(toMultipleOf: blockSize)
        buffer.withMutableBytes { $0.zero(count..<end) }
        return end
    }

    /// A device that once gives other bytes than it holds must not make these the only ones.
    private func readAgain(_ file: Storage.File, _ offset: UInt64, _ length: Int) throws(StorageError) {
        let other = AlignedBuffer(capacity: length, alignment: max(4096, blockSize))
        let count = try file.read(into: other, at: 0, length: length, from: offset)
        guard other.holdsSame(as: buffer, in: 0..<min(count, length)) else {
            throw StorageError(
                .ioFailure, operation: "read \(length) bytes at \(offset) twice, which differ,", path: file.path)
        }
    }

    /// Makes zeros of parts of the buffer, whose first byte is the file's at an offset, and writes the blocks that
    /// changed. Returns how many bytes were not zero.
    private mutating func write(
        _ file: Storage.File, _ zeros: [Claims.Zeros], at offset: UInt64
    ) throws(StorageError) -> Int {
        var found = 0
        var run = 0..<0
        for zero in zeros where !zero.range.isEmpty {
            let isZero = isZero(zero.range)
            if isZero, isChecking || !rewritesZeros || zero.isPadding { continue }
            if !isZero {
                buffer.withMutableBytes { $0.zero(zero.range) }
                found += zero.range.count
            } else {
                found += 1
            }
            let blocks =
                zero.range.lowerBound & ~(blockSize - 1)..<zero.range.upperBound.roundedUp(toMultipleOf: blockSize)
            if blocks.lowerBound > run.upperBound {
                if !run.isEmpty { try write(file, blocks: run, at: offset) }
                run = blocks
            } else {
                run = (run.isEmpty ? blocks.lowerBound : run.lowerBound)..<max(run.upperBound, blocks.upperBound)
            }
            if !isZero { overwritten += UInt64(zero.range.count) }
        }
        if !run.isEmpty { try write(file, blocks: run, at: offset) }
        return found
    }

    private func write(_ file: Storage.File, blocks: Range<Int>, at offset: UInt64) throws(StorageError) {
        var attempt = 1
        while true {
            do throws(StorageError) {
                return try file.write(
                    buffer, at: blocks.lowerBound, length: blocks.count, to: offset + UInt64(blocks.lowerBound),
                    durability: .processCrash)
            } catch {
                guard attempt < Self.writeAttempts, error.code == .ioFailure || error.code == .shortWrite else {
                    throw error
                }
                attempt += 1
            }
        }
    }
}
