import WALFormat
import WALStorage

/// A stretch of a journal file that readers go through.
struct ReadableFile: Sendable {
    var name: String
    var header: JournalFileHeader
    /// Offset of the first commit to read, and the end of the last one.
    var range: Range<UInt64>
    var damage: [Range<UInt64>]
    /// Whether whoever reads is told of the damage: no report has told of it.
    var isDamageNews = false
    /// Bodies of damaged frames that everybody has: not worth an error.
    var excusedFrames: [Range<UInt64>] = []
    /// Every subscriber has all that the file holds, or it was dropped: what is damaged in it is not worth an error. Its
    /// new life's first write may have failed in parts.
    var isDelivered = false
    /// The first commit of the file behind it, whose header says where this one ends: none of its commits has that number or
    /// a higher one, and all of them are durable. `.max` where no header says so.
    var commitsEnd: UInt64 = .max

    /// Notes what the file behind it says.
    mutating func isFollowed(by next: LiveFile?) {
        guard let next, next.header.previous.fileSequence == header.fileSequence else { return }
        commitsEnd = next.header.firstCommit
    }
}

/// Reads batches in the journal's order from a list of files. One thread at a time.
///
/// Nothing keeps a file from leaving the log and beginning a new life under a reader: what is met is checked commit by
/// commit, and where something else stands the cursor finds out whether the file has left. Then it goes on with the next
/// one, and says so (`hasMissedFile`): what it has not given of the old life was delivered, or is in segments.
struct JournalCursor<Storage: JournalStorage> {
    let storage: Storage
    let format: RootFormat
    private let keys: FrameKeys
    /// Tells whether a file has left the log, where the log is this process's own; else the file's header tells. Asked
    /// only when a file is not as expected, and after it was read: one that is still there then was there before.
    private let hasLeft: ((ReadableFile) -> Bool)?
    /// Whether a life in a file shows that the file has left: see `JournalFileLife`. Any other commit was put there by the
    /// device.
    private let isTornBeginning: (_ life: JournalFileLife, _ fileSequence: UInt64) -> Bool
    /// Tells the same of another process's log. Asked where the file's header does not tell, after it was read.
    private let hasLeftByNow: ((ReadableFile) -> Bool)?
    /// Reads little at a time and nothing ahead: others' I/O hardly waits, and nothing is read in vain by who stops soon.
    var isGentle: Bool
    /// The journal may be removed meanwhile, and another one made in its place.
    private let mayBeReplaced: Bool
    /// Through which number a tenant's records were erased by now: what was erased fails its checks and is no damage.
    /// Asked only when something fails them, and after it was read.
    private let erasedThrough: ((_ tenant: TenantName, _ last: UInt64) -> UInt64)?
    /// A file left the log before the cursor was through with it. Ends reading until there is more to read (`extend`).
    private(set) var hasMissedFile = false
    /// Some of the damage told so far is the device's failing to read, which may pass.
    private(set) var hasMetUnreadable = false
    /// Keeps frames whose keys are not to be had, for `carriedFrame`: the memory of a commit at most.
    var keepsFramesToCarry = false
    /// The frame that the last `.keyUnavailable` was thrown for, where they are kept.
    private(set) var carriedFrame: CarriedFrame?
    /// Frames of other times are passed over; nil: none are.
    var times: ClosedRange<UInt64>?
    /// The last commit that may be shown.
    var throughCommit: UInt64
    private(set) var files: [ReadableFile]
    private var file: Storage.File?
    private var window: FileWindow<Storage.File>?
    /// The next file, which is read ahead of the end of this one.
    private var ahead: (sequence: UInt64, file: Storage.File, window: FileWindow<Storage.File>)?
    private let decompressor = LZ4FrameDecompressor()
    /// What is left of a commit with frames that failed their checks, in its order: who is handed a tenant's batch has
    /// been told of what is missing before it.
    private var pending: [Result<RecordBatch, FrameFault>] = []
    /// Whether the place that is looked at has a commit of a later life that is none of the log's: the file had left the
    /// log and was begun anew, with a write that failed in parts.
    private var hasBegunAnew = false
    /// Where the next commit is expected, with the file's sequence number.
    private(set) var position: (fileSequence: UInt64, offset: UInt64) = (0, 0)
    /// Where the commit stands whose batches were given last.
    private(set) var commitOffset: UInt64 = 0

    init(
        storage: Storage, format: RootFormat, keys: FrameKeys, files: [ReadableFile], throughCommit: UInt64,
        isTornBeginning: @escaping (JournalFileLife, UInt64) -> Bool, isGentle: Bool = false,
        mayBeReplaced: Bool = false,
        hasLeft: ((ReadableFile) -> Bool)? = nil,
        hasLeftByNow: ((ReadableFile) -> Bool)? = nil,
        erasedThrough: ((_ tenant: TenantName, _ last: UInt64) -> UInt64)? = nil
    ) {
        self.isTornBeginning = isTornBeginning
        self.hasLeft = hasLeft
        self.hasLeftByNow = hasLeftByNow
        self.erasedThrough = erasedThrough
        self.isGentle = isGentle
        self.mayBeReplaced = mayBeReplaced
        self.storage = storage
        self.format = format
        self.keys = keys
        self.files = files
        self.throughCommit = throughCommit
        if let first = files.first { position = (first.header.fileSequence, first.range.lowerBound) }
    }

    private var blockSize: Int { format.blockSize }
    private static var nothingBegins: String { "no commit begins here" }

    /// Gives the cursor something else to read: what has been written since.
    mutating func extend(_ files: [ReadableFile], throughCommit: UInt64) {
        self.files = files
        self.throughCommit = throughCommit
        hasMissedFile = false
        if let first = files.first { position = (first.header.fileSequence, first.range.lowerBound) }
        closeFiles()
    }

    /// Closes the files. The next call opens what it needs again.
    mutating func closeFiles() {
        ahead = nil
        file = nil
        window = nil
    }

    /// The batches of the next commit that has any for `selects`; nil at the end, or where a file was missed. `selects` is asked for each
    /// frame's tenant and sequence numbers and says from which sequence number on it is wanted. Throws `.damaged` once
    /// for each place whose bytes fail their checks and that is worth telling (see `ReadableFile`), `.keyUnavailable` and
    /// `.keyForgotten` for each frame that cannot be opened; the next call goes on behind it.
    mutating func next(
        _ selects: (TenantName, ClosedRange<UInt64>, RecordKindSet) -> UInt64?
    ) throws(WALError) -> [RecordBatch]? {
        while !hasMissedFile, let current = files.first {
            switch pending.first {
            case .failure(let fault):
                pending.removeFirst()
                carriedFrame = fault.carried
                throw fault.error(path: path(of: current))
            case .success:
                let batches = pending.prefix { (try? $0.get()) != nil }.compactMap { try? $0.get() }
                pending.removeFirst(batches.count)
                return batches
            case nil: break
            }
            guard position.offset < current.range.upperBound else {
                leaveFile()
                continue
            }
            if let damage = current.damage.first(where: { $0.contains(position.offset) }) {
                let offset = position.offset
                position.offset = damage.upperBound
                if current.isDamageNews, !current.isDelivered {
                    throw .damaged(path: path(of: current), offset: offset, reason: Self.nothingBegins)
                }
                continue
            }
            let available: Int
            do throws(StorageError) {
                available = try fill(current, atLeast: blockSize)
            } catch {
                guard error.code == .notFound else { throw .storage(error) }
                guard hasLeft?(current) ?? true else {
                    position.offset = current.range.upperBound
                    throw .damaged(path: path(of: current), offset: 0, reason: "the file is gone")
                }
                miss()
                continue
            }
            guard available >= blockSize else {
                try handleEnd(of: current)
                continue
            }
            guard case .valid(let header)? = window?.withBytes({ CommitHeader.read($0, at: 0, of: format) }),
                header.epoch == current.header.epoch, header.fileSequence == current.header.fileSequence,
                header.offset == position.offset
            else {
                try handleUnexpected(current, Self.nothingBegins)
                continue
            }
            if header.commitNumber >= current.commitsEnd {
                try handleUnexpected(current, "a commit of the number \(header.commitNumber) is none of this file's")
                continue
            }
            if header.commitNumber > throughCommit, current.commitsEnd == .max { return nil }
            let batches: [RecordBatch]
            let whole: Int
            do throws(StorageError) {
                whole = try fill(current, atLeast: header.commitLength)
            } catch { throw .storage(error) }
            guard whole >= header.commitLength else {
                try handleEnd(of: current)
                continue
            }
            do throws(FormatError) {
                batches = try self.batches(of: header, selects)
            } catch {
                try handleUnexpected(current, error.description)
                continue
            }
            if hasMissedFile { return nil }
            commitOffset = header.offset
            position.offset += UInt64(header.commitLength)
            if pending.isEmpty, !batches.isEmpty { return batches }
        }
        return nil
    }

    /// A frame that fails its checks, or that no key opens.
    private struct FrameFault: Error {
        var tenant: TenantName
        var sequences: ClosedRange<UInt64>
        var keyIdentifier: UInt64
        var offset: UInt64
        var cause: FormatError
        var carried: CarriedFrame?

        func error(path: String) -> WALError {
            switch FrameRefusal(cause) {
            case .damaged:
                .damaged(
                    path: path, offset: offset,
                    reason: "records \(sequences.lowerBound) to \(sequences.upperBound) of tenant \(tenant): \(cause)")
            case .keyUnavailable: .keyUnavailable(tenant: tenant, sequences: sequences, reason: cause.description)
            case .keyForgotten: .keyForgotten(tenant: tenant, sequences: sequences, identifier: keyIdentifier)
            }
        }
    }

    private func path(of file: ReadableFile) -> String { "\(storage.rootDescription)/journal/\(file.name)" }

    /// The file has left the log.
    private mutating func miss() {
        hasMissedFile = true
        // Should it be offered again, as an unchanging list of files does, nothing of it is wanted.
        if let current = files.first { position.offset = current.range.upperBound }
        leaveFile()
    }

    /// The file ends before the log does: it was cut off since it was opened, or began a new life.
    private mutating func handleEnd(of current: ReadableFile) throws(WALError) {
        let end = position.offset
        try handleUnexpected(current, "the file ends here")
        if !hasMissedFile, position.offset == end { leaveFile() }
    }

    private mutating func leaveFile() {
        files.removeFirst()
        file = nil
        window = nil
        if let next = files.first { position = (next.header.fileSequence, next.range.lowerBound) }
    }

    /// The wanted batches of a commit at the position. Where a frame fails its checks all goes to `pending`: its
    /// neighbours are given all the same, which may be other tenants'.
    private mutating func batches(
        of header: CommitHeader, _ selects: (TenantName, ClosedRange<UInt64>, RecordKindSet) -> UInt64?
    ) throws(FormatError) -> [RecordBatch] {
        guard let window else { return [] }
        let (isDelivered, excused) = (files.first?.isDelivered ?? false, files.first?.excusedFrames ?? [])
        var faults: [(index: Int, fault: FrameFault)] = []
        let batches = try window.withBytes { (window: RawSpan) throws(FormatError) in
            let bytes = window.extracting(0..<header.commitLength)
            var batches: [RecordBatch] = []
            for frame in try CommitDecoder.frames(of: header, in: bytes) {
                guard let tenant = frame.header.tenant else { continue }
                let sequences = frame.header.firstSequence...frame.header.lastSequence
                guard let from = selects(tenant, sequences, frame.header.kinds), from <= sequences.upperBound else {
                    continue
                }
                let (lowest, highest) = (frame.header.lowestTimestamp, frame.header.highestTimestamp)
                if let times, !times.overlaps(lowest...max(lowest, highest)) { continue }
                do throws(FormatError) {
                    batches.append(
                        try batch(frame, in: bytes, tenant: tenant, from: from, of: header))
                } catch {
                    let offset = header.offset + UInt64(frame.body.lowerBound)
                    if FrameRefusal(error) == .damaged,
                        isDelivered || excused.contains(where: { $0.contains(offset) })
                    {
                        continue
                    }
                    var epoch = header.epoch
                    #if Simulation
                        if DeliberateBug.isActive(.forgetEpochOfCarried) { epoch = 0 }
                    #endif
                    let isToBeCarried = keepsFramesToCarry && FrameRefusal(error) == .keyUnavailable
                    let fault = FrameFault(
                        tenant: tenant, sequences: max(from, sequences.lowerBound)...sequences.upperBound,
                        keyIdentifier: frame.header.keyIdentifier, offset: offset, cause: error,
                        carried: isToBeCarried ? CarriedFrame(frame, in: bytes, epoch: epoch) : nil)
                    faults.append((batches.count, fault))
                }
            }
            return batches
        }
        if let erasedThrough {
            faults.removeAll {
                // Those of a forgotten key may be many, and are passed in any case.
                guard FrameRefusal($0.fault.cause) != .keyForgotten else { return false }
                let last = $0.fault.sequences.upperBound
                return last <= erasedThrough($0.fault.tenant, last)
            }
        }
        if !faults.isEmpty {
            let isDamaged = faults.contains { FrameRefusal($0.fault.cause) == .damaged }
            if let current = files.first, isDamaged || hasLeft != nil, (try? isGone(current)) ?? false {
                miss()
                return []
            }
            let unreadable = window.unreadable
            for (_, fault) in faults where unreadable.contains(where: { $0.upperBound > fault.offset }) {
                hasMetUnreadable = true
            }
            pending = batches.map { .success($0) }
            for (index, fault) in faults.reversed() { pending.insert(.failure(fault), at: index) }
        }
        return batches
    }

    private func batch(
        _ frame: LocatedFrame, in bytes: RawSpan, tenant: TenantName, from: UInt64, of commit: CommitHeader
    ) throws(FormatError) -> RecordBatch {
        // What fails its checksum is damaged, whatever becomes of its key.
        let seal =
            frame.isIntact
            ? try keys.seal(for: frame.header, logIdentifier: format.logIdentifier, epoch: commit.epoch) : nil
        return try RecordBatch(
            tenant: tenant, frame: frame, in: bytes, from: from, commitNumber: commit.commitNumber,
            decompressor: decompressor, seal: seal)
    }

    /// Makes at least so many bytes from the position on present, if the file has them. Returns how many there are.
    private mutating func fill(_ current: ReadableFile, atLeast needed: Int) throws(StorageError) -> Int {
        if file == nil, let ahead, ahead.sequence == current.header.fileSequence {
            (file, window) = (ahead.file, ahead.window)
            self.ahead = nil
        } else if file == nil {
            file = try storage.open("journal/" + current.name, forWriting: false)
        }
        guard let file else { return 0 }
        openNextFile(behind: current)
        if let window, position.offset >= window.start, position.offset <= window.end {
            window.advance(to: position.offset)
        } else {
            window = makeWindow(on: file, of: current, from: position.offset)
        }
        do throws(StorageError) { return try window?.fill(atLeast: needed) ?? 0 } catch {
            window = nil
            throw error
        }
    }

    private func makeWindow(
        on file: Storage.File, of readable: ReadableFile, from offset: UInt64
    ) -> FileWindow<Storage.File> {
        // Never into a damaged place: the device may fail to read it, and with it what stands before.
        let damage = readable.damage.map(\.lowerBound).filter { $0 >= offset }.min() ?? .max
        return FileWindow(
            file, from: offset, to: min(damage, readable.range.upperBound, readable.header.capacity),
            blockSize: blockSize, isGentle: isGentle)
    }

    /// Begins to read the next file shortly before this one's end, so that the device is not idle in between. What
    /// goes wrong with that shows when its turn comes.
    private mutating func openNextFile(behind current: ReadableFile) {
        let left = current.range.upperBound - min(current.range.upperBound, position.offset)
        guard !isGentle, ahead == nil, files.count > 1, left < UInt64(8 * FileWindow<Storage.File>.pieceLength) else {
            return
        }
        let next = files[1]
        guard let file = try? storage.open("journal/" + next.name, forWriting: false) else { return }
        ahead = (next.header.fileSequence, file, makeWindow(on: file, of: next, from: next.range.lowerBound))
    }

    /// The expected commit is not there: the file has begun a new life, or it is damaged.
    private mutating func handleUnexpected(_ current: ReadableFile, _ reason: String) throws(WALError) {
        if try isGone(current) {
            miss()
            return
        }
        let damaged = position.offset
        hasBegunAnew = false
        let isUnreadable = window?.unreadable.contains { $0.contains(damaged) } ?? false
        hasMetUnreadable = hasMetUnreadable || isUnreadable
        try seekNextCommit(current)
        if current.isDelivered || hasBegunAnew { return }
        throw .damaged(
            path: path(of: current), offset: damaged,
            reason: isUnreadable ? "the device fails to read it; see the kernel's log" : reason)
    }

    /// Whether a file in which something is not as expected has left the log. Asked after it was read.
    private func isGone(_ current: ReadableFile) throws(WALError) -> Bool {
        if let hasLeft { return hasLeft(current) }
        return try beginsNewLife(current) || hasLeftByNow?(current) ?? false
    }

    /// A new life has a whole header of a later sequence number at least once; or, where the journal was removed and another
    /// one made in its place, of a later time. No whole header, or an earlier one, which the device put or left there, is
    /// damage of this life.
    private func beginsNewLife(_ current: ReadableFile) throws(WALError) -> Bool {
        do throws(StorageError) {
            return try file?.journalHeaders(blockSize: blockSize).contains {
                $0.fileSequence > current.header.fileSequence
                    || (mayBeReplaced && $0.epoch != current.header.epoch && $0.created > current.header.created)
            } ?? false
        } catch { throw .storage(error) }
    }

    /// Whether a commit of a file's present life stands at the position. Notes one of a life whose beginning was torn.
    private mutating func lookForCommit(of current: ReadableFile) -> Bool {
        guard case .valid(let header)? = window?.withBytes({ CommitHeader.read($0, at: 0, of: format) }),
            header.offset == position.offset
        else { return false }
        let life = JournalFileLife(fileSequence: header.fileSequence, epoch: header.epoch)
        hasBegunAnew = hasBegunAnew || isTornBeginning(life, current.header.fileSequence)
        return header.epoch == current.header.epoch
    }

    private mutating func seekNextCommit(_ current: ReadableFile) throws(WALError) {
        _ = lookForCommit(of: current)
        position.offset += UInt64(blockSize)
        while position.offset < current.range.upperBound {
            do throws(StorageError) {
                guard try fill(current, atLeast: blockSize) >= blockSize else {
                    position.offset = current.range.upperBound
                    return
                }
            } catch { throw .storage(error) }
            if lookForCommit(of: current) { return }
            position.offset += UInt64(blockSize)
        }
    }
}
