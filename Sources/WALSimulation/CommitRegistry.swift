import SimulatedKeys
import TelemetryWAL
import WALFormat

/// Where each record was written: the simulator's own account of what the disk was given, with which the judge tells a
/// loss that the disk made from one that the log made.
final class CommitRegistry {
    /// A commit in a journal file, or a frame in a segment.
    final class Place {
        let inode: SimulatedDisk.Inode
        let range: Range<Int>
        /// nil for a frame in a segment.
        let header: CommitHeader?
        fileprivate(set) var hash: Int
        /// The disk broke its word about a part of it while it stood there.
        fileprivate(set) var wasSpoiled = false
        /// Its write was done.
        fileprivate var isWritten = false
        /// It was whole when an erasure began to overwrite a part of it, which may have failed since.
        fileprivate var isBeingRewritten = false

        init(inode: SimulatedDisk.Inode, range: Range<Int>, header: CommitHeader?, hash: Int) {
            self.inode = inode
            self.range = range
            self.header = header
            self.hash = hash
        }

        /// 0 for a segment's: whatever is in one was acknowledged.
        var commitNumber: UInt64 { header?.commitNumber ?? 0 }
        /// Whether the file has a name by which the log knows it.
        var isInLog: Bool { inode.isLinked && !inode.path.hasSuffix(".tmp") }
        /// Whether the file still holds exactly the commit's bytes.
        var isIntact: Bool {
            inode.isLinked && range.upperBound <= inode.content.count && !inode.isUnreadable(range)
                && hash == Self.hash(inode.content[range])
        }
        /// Whether the disk broke its word about any part of its file.
        var isInDamagedFile: Bool { !inode.damage.isEmpty || inode.hidesDamage }
        /// Whether the disk broke its word about a part of it.
        var isDamaged: Bool { inode.damage.contains { $0.overlaps(range) } || (inode.hidesDamage && wasSpoiled) }

        static func hash(_ bytes: ArraySlice<UInt8>) -> Int {
            bytes.withUnsafeBytes { Int(CRC32C.checksum(RawSpan(_unsafeBytes: $0))) }
        }
    }

    /// By a record's number, all commits that held it.
    private(set) var places: [Int: [Place]] = [:]
    private(set) var commits: [Place] = []
    /// Frames of segments.
    private(set) var frames: [Place] = []
    /// The highest commit that one whose write was done vouches for, and that still stands. (One behind the log's end may
    /// have been overwritten for an erasure.)
    var vouchedByWritten: UInt64 {
        guard let log else { return 0 }
        return commits.lazy.filter { $0.isWritten && self.stands($0, log) }.compactMap(\.header?.durableThrough).max()
            ?? 0
    }
    private let decompressor = LZ4FrameDecompressor()
    let blockSize: Int
    /// As the log's `FORMAT` has it, which is written before any commit.
    private var log: RootFormat?
    private let keys: SimulatedKeys
    /// Tenants that are encrypted from their first record on, and what was written of one of them all the same.
    var encrypted: Set<TenantName> = []
    private(set) var encryptionMistake: String?
    /// By a record's number, the key that it is encrypted with, 0 for none; keys that were destroyed, with the number of the
    /// first record that was handed over later.
    private var keyOfRecord: [Int: UInt64] = [:]
    var forgottenKeys: [UInt64: Int] = [:]
    /// Commits with an encrypted frame.
    private(set) var encryptedCommits: [Place] = []

    init(blockSize: Int, keys: SimulatedKeys) {
        self.blockSize = blockSize
        self.keys = keys
    }

    func note(_ write: SimulatedDisk.Write, path: String) {
        if path.contains("/FORMAT") {
            log = write.bytes.withUnsafeBytes { try? RootFormat.decode(RawSpan(_unsafeBytes: $0)) } ?? log
        }
        guard let log else { return }
        // What goes to quarantine is a copy for people.
        if path.contains("/quarantine/") { return }
        if path.contains("/tenants/") { noteSegment(write, log) }
        guard path.hasSuffix(".journal") else { return }
        noteRewriting(write, log)
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
                // One that stood there already is no other one.
                if rewritten[ObjectIdentifier(write)]?.places.contains(where: {
                    $0.range == range && $0.header == header
                })
                    ?? false
                {
                    position += header.commitLength
                    continue
                }
                let place = Place(
                    inode: write.inode, range: range, header: header,
                    hash: Place.hash(write.bytes[position..<position + header.commitLength]))
                commits.append(place)
                underWay[ObjectIdentifier(write), default: (write, [])].places.append(place)
                note(place, bytes.extracting(position..<position + header.commitLength))
                position += header.commitLength
            }
        }
    }

    /// Commits that stand where a write goes: an erasure overwrites bodies in them and leaves them commits.
    private func noteRewriting(_ write: SimulatedDisk.Write, _ log: RootFormat) {
        let range = write.offset..<write.offset + write.bytes.count
        let places = commits.filter { $0.inode === write.inode && $0.range.overlaps(range) && stands($0, log) }
        for place in places {
            // What an attempt before has put elsewhere, over a part of it, makes it another one.
            place.isBeingRewritten = place.isIntact || place.isBeingRewritten && !place.isDamaged
        }
        if !places.isEmpty { rewritten[ObjectIdentifier(write)] = (write, places) }
    }
    // With the writes themselves, some of which never end well, so that none is taken for another.
    private var rewritten: [ObjectIdentifier: (write: SimulatedDisk.Write, places: [Place])] = [:]
    private var underWay: [ObjectIdentifier: (write: SimulatedDisk.Write, places: [Place])] = [:]

    /// Whether a commit's header is what it was.
    private func stands(_ place: Place, _ log: RootFormat) -> Bool {
        guard place.range.upperBound <= place.inode.content.count else { return false }
        let header = place.inode.content[place.range].withUnsafeBytes {
            CommitHeader.read(RawSpan(_unsafeBytes: $0), at: 0, of: log)
        }
        if case .valid(let header) = header { return header == place.header }
        return false
    }

    /// A write was done: a commit whose header is what it was is the same commit.
    private func noteRewritten(_ write: SimulatedDisk.Write, _ log: RootFormat) {
        guard let places = rewritten.removeValue(forKey: ObjectIdentifier(write))?.places else { return }
        for place in places where place.isBeingRewritten && stands(place, log) {
            place.isBeingRewritten = false
            place.hash = Place.hash(place.inode.content[place.range])
        }
    }

    /// A whole segment, as short ones are written.
    private func noteSegment(_ write: SimulatedDisk.Write, _ log: RootFormat) {
        guard write.offset == 0 else { return }
        write.bytes.withUnsafeBytes { buffer in
            let bytes = RawSpan(_unsafeBytes: buffer)
            guard let summary = try? SegmentSummary.decode(bytes, at: 0, blockSize: log.blockSize),
                Int(summary.length) == bytes.byteCount
            else { return }
            let start = Int(summary.indexOffset)
            let encoded = bytes.extracting(start..<start + summary.indexLength)
            guard let index = try? SegmentIndex.decode(encoded, of: summary) else { return }
            for frame in index.frames {
                let range = Int(frame.offset)..<Int(frame.end)
                let place = Place(inode: write.inode, range: range, header: nil, hash: Place.hash(write.bytes[range]))
                frames.append(place)
                guard let header = try? FrameHeader.decode(bytes, at: range.lowerBound) else { continue }
                let body = range.lowerBound + header.length..<range.upperBound
                note(place, LocatedFrame(header: header, body: body, isIntact: true), bytes)
            }
        }
    }

    /// A write was done as asked.
    func noteWritten(_ write: SimulatedDisk.Write) {
        if let log { noteRewritten(write, log) }
        for place in underWay.removeValue(forKey: ObjectIdentifier(write))?.places ?? [] { place.isWritten = true }
    }

    private func note(_ place: Place, _ bytes: RawSpan) {
        guard let header = place.header, let frames = try? CommitDecoder.frames(of: header, in: bytes) else { return }
        for frame in frames where !frame.header.isControl { note(place, frame, bytes) }
        if frames.contains(where: \.header.isSealed) { encryptedCommits.append(place) }
    }

    private func note(_ place: Place, _ frame: LocatedFrame, _ bytes: RawSpan) {
        if let tenant = frame.header.tenant, encrypted.contains(tenant), !frame.header.isSealed {
            encryptionMistake =
                "a frame with \(tenant)'s records \(frame.header.firstSequence) to \(frame.header.lastSequence), which is "
                + "encrypted, was written in the open"
        }
        var seal: FrameSeal?
        if let log, frame.header.isSealed,
            let key = keys.everyKey(frame.header.keyIdentifier)
        {
            let epoch = place.header?.epoch ?? frame.epochInSegment(bytes)
            seal = FrameSeal(key: key, logIdentifier: log.logIdentifier, epoch: epoch)
        }
        guard
            let body = try? CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor, seal: seal)
        else { return }
        var offset = 0
        while offset < body.count, let header = body.withRawSpan({ try? RecordHeader.decode($0, at: offset) }) {
            let start = offset + RecordHeader.length
            if let number = PayloadCode.number(of: body[start..<start + header.payloadLength]) {
                places[number, default: []].append(place)
                note(number, key: frame.header.isSealed ? frame.header.keyIdentifier : 0)
            }
            offset = start + header.payloadLength
        }
    }

    private func note(_ number: Int, key: UInt64) {
        if let known = keyOfRecord.updateValue(key, forKey: number), known != key {
            encryptionMistake = "record \(number), encrypted with key \(known), was written with key \(key)"
        }
        if let first = forgottenKeys[key], number >= first {
            encryptionMistake = "record \(number) was encrypted with key \(key), which had been destroyed"
        }
    }

    /// Where a record stands that the log would look for: the last place that was written and is part of the log.
    func place(of number: Int) -> Place? { places[number]?.last { $0.isInLog } }

    /// Whether a record went with its key.
    func isForgotten(_ number: Int) -> Bool { keyOfRecord[number].map { forgottenKeys[$0] != nil } ?? false }

    /// The disk breaks its word about a range of a file: what was written there last is spoiled.
    func noteDamage(_ inode: SimulatedDisk.Inode, _ range: Range<Int>) {
        var covered: [Range<Int>] = []
        for place in commits.reversed() where place.inode === inode {
            if !covered.contains(where: { $0.overlaps(place.range) }), place.range.overlaps(range) {
                place.wasSpoiled = true
            }
            covered.append(place.range)
        }
        for place in frames where place.inode === inode && place.range.overlaps(range) { place.wasSpoiled = true }
    }

    /// Whether the disk spoiled a record wherever it stood once: it may have been lost on its way into a segment.
    func wasSpoiled(_ number: Int) -> Bool { places[number]?.contains { $0.wasSpoiled } ?? false }

    /// Whether the disk spoiled a commit with one of these numbers.
    func hasSpoiledCommit(in numbers: Range<UInt64>) -> Bool {
        commits.contains { numbers.contains($0.commitNumber) && $0.isDamaged && !$0.isIntact }
    }

    /// Whether a whole commit can't be told from one that was under way beside a torn one: a commit before it is spoiled,
    /// nothing in its own file vouches for that one, and the next file's head, which would, is spoiled, too. A commit
    /// of which an erasure overwrote a part looks torn itself.
    func looksUnvouched(_ place: Place) -> Bool {
        guard let header = place.header else { return false }
        let own = commits.filter { $0.inode === place.inode && $0.header?.epoch == header.epoch }
        let through = own.lazy.filter(\.isIntact).compactMap { $0.header?.durableThrough }.max() ?? 0
        let isBehindDamage = own.contains {
            !$0.isIntact && $0.commitNumber > through && $0.commitNumber < place.commitNumber
        }
        let next = commits.first { commit in
            commit.inode.isLinked
                && commit.header.map { $0.flags.contains(.checkpoint) && $0.fileSequence > header.fileSequence }
                    ?? false
        }
        let looksTorn = isBehindDamage || (header.commitNumber > through && isPartlyErased(place))
        // What vouches for it may stand where the disk fails.
        let hidesVouching =
            place.range.upperBound < place.inode.content.count
            && place.inode.isUnreadable(place.range.upperBound..<place.inode.content.count)
        guard let next else { return looksTorn && hidesVouching }
        return looksTorn && !next.isIntact && (next.isInDamagedFile || hidesVouching)
    }

    private func isPartlyErased(_ place: Place) -> Bool {
        guard let header = place.header else { return false }
        return place.inode.content[place.range].withUnsafeBytes { bytes in
            let frames = (try? CommitDecoder.frames(of: header, in: RawSpan(_unsafeBytes: bytes))) ?? []
            return frames.contains { !$0.isIntact }
        }
    }

    /// Names of files that had left the log and were begun anew by a write of which no commit stands: nothing in them says
    /// so, and what everybody had looks damaged.
    var namesOfFilesBegunInParts: Set<String> {
        guard let log else { return [] }
        var last: [ObjectIdentifier: Place] = [:]
        for place in commits where place.isInLog && place.header?.flags.contains(.checkpoint) ?? false {
            last[ObjectIdentifier(place.inode)] = place
        }
        let torn = last.values.filter { beginning in
            !beginning.isWritten
                && !commits.contains {
                    $0.inode === beginning.inode && $0.header?.epoch == beginning.header?.epoch && stands($0, log)
                }
        }
        return Set(torn.map { String($0.inode.path.split(separator: "/").last ?? "") })
    }

    /// The highest commit that any whole commit on the disk vouches for.
    var vouchedThrough: UInt64 {
        commits.lazy.filter(\.isIntact).compactMap { $0.header?.durableThrough }.max() ?? 0
    }
}
