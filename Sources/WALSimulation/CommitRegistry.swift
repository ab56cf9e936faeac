import WALFormat

/// Where each record was written: the simulator's own account of what the disk was given, with which the judge tells a
/// loss that the disk made from one that the log made.
final class CommitRegistry {
    /// A commit in a file.
    struct Place {
        let inode: SimulatedDisk.Inode
        let range: Range<Int>
        let header: CommitHeader
        let hash: Int

        /// Whether the file still holds exactly the commit's bytes.
        var isIntact: Bool {
            inode.isLinked && range.upperBound <= inode.content.count && !inode.isUnreadable(range)
                && hash == Self.hash(inode.content[range])
        }
        /// Whether the disk broke its word about any part of its file.
        var isInDamagedFile: Bool { !inode.damage.isEmpty }
        /// Whether the disk broke its word about a part of it.
        var isDamaged: Bool { inode.damage.contains { $0.overlaps(range) } }

        static func hash(_ bytes: ArraySlice<UInt8>) -> Int {
            bytes.withUnsafeBytes { Int(CRC32C.checksum(RawSpan(_unsafeBytes: $0))) }
        }
    }

    /// By a record's number, all commits that held it.
    private(set) var places: [Int: [Place]] = [:]
    private(set) var commits: [Place] = []
    /// The highest commit that one whose write was done vouches for.
    private(set) var vouchedByWritten: UInt64 = 0
    private let decompressor = LZ4FrameDecompressor()
    let blockSize: Int
    /// As the log's `FORMAT` has it, which is written before any commit.
    private var log: RootFormat?

    init(blockSize: Int) { self.blockSize = blockSize }

    func note(_ write: SimulatedDisk.Write, path: String) {
        if path.contains("/FORMAT") {
            log = write.bytes.withUnsafeBytes { try? RootFormat.decode(RawSpan(_unsafeBytes: $0)) } ?? log
        }
        guard path.hasSuffix(".journal"), let log else { return }
        write.bytes.withUnsafeBytes { buffer in
            let bytes = RawSpan(_unsafeBytes: buffer)
            var position = 0
            while position + blockSize <= bytes.byteCount {
                guard case .valid(let header) = CommitHeader.read(bytes, at: position, of: log),
                    position + header.commitLength <= bytes.byteCount
                else {
                    position += blockSize
                    continue
                }
                let range = write.offset + position..<write.offset + position + header.commitLength
                let place = Place(
                    inode: write.inode, range: range, header: header,
                    hash: Place.hash(write.bytes[position..<position + header.commitLength]))
                commits.append(place)
                note(place, bytes.extracting(position..<position + header.commitLength))
                position += header.commitLength
            }
        }
    }

    /// A write was done as asked.
    func noteWritten(_ write: SimulatedDisk.Write) {
        let range = write.offset..<write.offset + write.bytes.count
        for commit in commits.reversed() where commit.inode === write.inode && range.contains(commit.range.lowerBound) {
            vouchedByWritten = max(vouchedByWritten, commit.header.durableThrough)
            if commit.range.lowerBound == range.lowerBound { break }
        }
    }

    private func note(_ place: Place, _ bytes: RawSpan) {
        guard let frames = try? CommitDecoder.frames(of: place.header, in: bytes) else { return }
        for frame in frames where !frame.header.isControl {
            guard let body = try? CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor) else {
                continue
            }
            var offset = 0
            while offset < body.count, let header = body.withRawSpan({ try? RecordHeader.decode($0, at: offset) }) {
                let start = offset + RecordHeader.length
                if let number = PayloadCode.number(of: body[start..<start + header.payloadLength]) {
                    places[number, default: []].append(place)
                }
                offset = start + header.payloadLength
            }
        }
    }

    /// Whether the disk spoiled a commit with one of these numbers.
    func hasSpoiledCommit(in numbers: Range<UInt64>) -> Bool {
        commits.contains { numbers.contains($0.header.commitNumber) && $0.isDamaged && !$0.isIntact }
    }

    /// Whether a whole commit can't be told from one that was under way beside a torn one: a commit before it is spoiled,
    /// nothing in its own file vouches for that one, and the next file's head, which would, is spoiled, too.
    func looksUnvouched(_ place: Place) -> Bool {
        let own = commits.filter { $0.inode === place.inode && $0.header.epoch == place.header.epoch }
        let through = own.lazy.filter(\.isIntact).map(\.header.durableThrough).max() ?? 0
        let isBehindDamage = own.contains {
            !$0.isIntact && $0.header.commitNumber > through && $0.header.commitNumber < place.header.commitNumber
        }
        let heads = commits.filter { $0.header.flags.contains(.checkpoint) }
        let next = heads.first { $0.header.fileSequence > place.header.fileSequence && $0.inode.isLinked }
        return isBehindDamage && next.map { !$0.isIntact && $0.isInDamagedFile } ?? false
    }

    /// The highest commit that any whole commit on the disk vouches for.
    var vouchedThrough: UInt64 {
        commits.lazy.filter(\.isIntact).map(\.header.durableThrough).max() ?? 0
    }
}
