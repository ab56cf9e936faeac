import WALFormat
import WALStorage

/// Reads a log's files and lets `RecoveryMachine` decide: the thin shell around it that does the I/O. Changes nothing
/// on disk.
struct Recovery<Storage: JournalStorage> {
    let storage: Storage
    let format: RootFormat
    var scope = RecoveryScope.wholeJournal
    /// Whether every frame is decompressed and its records walked.
    var opensBodies = false
    /// Opens bodies that are encrypted.
    var keys = FrameKeys(nil)
    /// Whether a writer goes on with what is found.
    var isForWriter = false
    /// Told now and then how many bytes of how many are read.
    var progress: (@Sendable (UInt64, UInt64) -> Void)?

    /// Bytes read at a time.
    private static var windowLength: Int { ReadLength.recoveryWindow }

    /// Reads one file of a living log again, whose contents recovery took from the checkpoints around it. `next`: the
    /// header of the file behind it, `state`: the log's; `stateByNow`: the same, when the file was read.
    func examine(
        _ file: LiveFile, next: JournalFileHeader, state: LogState, stateByNow: () -> LogState
    ) throws(StorageError) -> (file: LiveFile, report: RecoveryReport) {
        let handle = try storage.open("journal/" + file.name, forWriting: false)
        let size = try handle.size()
        let chain = JournalChain(links: [
            .init(name: file.name, header: file.header, size: size),
            .init(name: "", header: next, size: next.capacity),
        ])
        var machine = RecoveryMachine(chain: chain, report: RecoveryReport())
        machine.state = state
        // As it was before the file, so that numbers that are missing in it show.
        for (index, extent) in file.extents { machine.state.setNextSequence(extent.firstSequence, at: index) }
        machine.knowsState = true
        var scanner = JournalFileScanner(
            epoch: file.header.epoch, fileSequence: file.header.fileSequence, format: format,
            start: file.header.commitsStart, end: min(size, file.header.capacity))
        let unreadable = try scan(handle, with: &scanner) { _ in }
        machine.take(scanner, unreadable: unreadable)
        machine.excuseErasedFrames(by: stateByNow())
        return (machine.files[0], machine.report)
    }

    /// Runs recovery from the first file to the last. Throws `.storage` where files cannot be opened; a device that
    /// fails to read a range is no error but a finding.
    func run() throws(WALError) -> RecoveredLog {
        var disproved: [String: UInt64] = [:]
        while true {
            let recovered = try recover(disproving: disproved)
            var more: [String: UInt64]
            do throws(StorageError) { more = try headersDisproved(by: recovered) } catch { throw .storage(error) }
            // With each file found again, the chain tells more of the others.
            more = more.filter { disproved[$0.key] == nil }
            if more.isEmpty { return recovered }
            disproved.merge(more) { $1 }
        }
    }

    /// Runs recovery without believing the headers of some files, if they are still what they were: instead, these are
    /// taken for the files with the given sequence numbers.
    private func recover(disproving disproved: [String: UInt64]) throws(WALError) -> RecoveredLog {
        let recovered: Result<RecoveredLog, WALError>
        do throws(StorageError) {
            var found = try look()
            for index in found.indices {
                if let sequence = disproved[found[index].name] { try disprove(&found[index], sequence) }
            }
            try proveByCommits(&found)
            found = try compareTwins(found)
            recovered = if let error = versionFault(found) { .failure(error) } else { try recover(found) }
        } catch { throw .storage(error) }
        return try recovered.get()
    }

    /// Files whose headers cannot be right, with the sequence numbers that they have instead: the device acknowledged
    /// a new header and did not write it, or wrote another file's over it, so that a file of the log looks like one
    /// that is free for use. Its commits prove it: they belong to a file that is missing in the log, or they are of a
    /// later life than the header, and vouch for each other or for more than the log without them has. (The first
    /// write of a new life that was torn leaves such commits as well, but they vouch for nothing new.)
    private func headersDisproved(by recovered: RecoveredLog) throws(StorageError) -> [String: UInt64] {
        // A file of the log without a commit may be another one whose headers were written over.
        let names = Set(recovered.files.lazy.filter(\.hasAcceptedCommit).map(\.name))
        var claims: [UInt64: (name: String, offset: UInt64)] = [:]
        let buffer = AlignedBuffer(capacity: Self.windowLength, alignment: max(4096, format.blockSize))
        for name in try storage.entries(of: "journal").sorted() where JournalFileName.number(of: name) != nil {
            if names.contains(name) { continue }
            let found = try look(at: name, buffer: buffer)
            guard let header = found.latestHeader, !found.isForeign(to: format.logIdentifier),
                let claim = try claim(of: found, header, beside: recovered, buffer: buffer)
            else { continue }
            // Of several that claim one number, the one whose commits begin where a file's do.
            if claim.offset < claims[claim.fileSequence]?.offset ?? .max {
                claims[claim.fileSequence] = (name, claim.offset)
            }
        }
        return Dictionary(uniqueKeysWithValues: claims.map { ($1.name, $0) })
    }

    /// The first of the commits that prove a file's headers wrong; nil if none does.
    private func claim(
        of found: FoundFile, _ header: JournalFileHeader, beside recovered: RecoveredLog, buffer: AlignedBuffer
    ) throws(StorageError) -> CommitHeader? {
        let file = try storage.open("journal/" + found.name, forWriting: false)
        let missing = recovered.missing
        if !missing.isEmpty {
            func isMissing(_ commit: CommitHeader) -> Bool { missing[commit.fileSequence] == commit.epoch }
            let lost = try commit(in: file, size: found.size, buffer: buffer) { isMissing($0) && !isMissing($1) }
            if let lost, isMissing(lost) { return lost }
        }
        let live = recovered.files.filter(\.hasAcceptedCommit).map(\.sequence)
        // A life's first commits stand at the file's beginning.
        let size = min(found.size, UInt64(Self.windowLength))
        let last = try commit(in: file, size: size, buffer: buffer, CommitHeader.isOfLaterLifeOrLater)
        guard let last, last.fileSequence > header.fileSequence,
            !live.contains(last.fileSequence), missing[last.fileSequence].map({ $0 == last.epoch }) ?? true,
            let first = try commit(in: file, size: size, buffer: buffer, { $0.fileSequence > $1.fileSequence })
        else { return nil }
        // From the oldest number on that is live by the newest header that says so, even if no file before is left.
        let oldest = recovered.files.map(\.header.oldestLiveFileSequence).last { $0 > 0 }
        let isBehindOldest =
            live.first.map { $0 < last.fileSequence } ?? false || oldest.map { $0 <= last.fileSequence } ?? false
        let isBetween = isBehindOldest && live.last.map { $0 > last.fileSequence } ?? false
        let provesMore =
            last.durableThrough > recovered.lastCommit || (isBetween && last.durableThrough >= first.commitNumber)
        return provesMore ? first : nil
    }

    private func disprove(_ found: inout FoundFile, _ sequence: UInt64) throws(StorageError) {
        // Beside a living writer the header may have come meanwhile.
        if found.latestHeader?.fileSequence == sequence { return }
        let buffer = AlignedBuffer(capacity: Self.windowLength, alignment: max(4096, format.blockSize))
        let file = try storage.open("journal/" + found.name, forWriting: false)
        found.firstCommit = try commit(in: file, size: found.size, buffer: buffer) {
            $0.fileSequence == sequence && $1.fileSequence != sequence
        }
        guard found.firstCommit?.fileSequence == sequence else { return }
        found.isVouchedFor = true
        found.copies = found.copies.map { _ in
            .failure(FormatError(.field, "it is of another life than the file's commits"))
        }
    }

    /// All journal files with what their headers say.
    private func look() throws(StorageError) -> [FoundFile] {
        let buffer = AlignedBuffer(capacity: Self.windowLength, alignment: max(4096, format.blockSize))
        var found: [FoundFile] = []
        for name in try storage.entries(of: "journal") where JournalFileName.number(of: name) != nil {
            found.append(try look(at: name, buffer: buffer))
        }
        return found
    }

    /// Where two files claim one place in the log, finds out how far each reaches.
    private func compareTwins(_ found: [FoundFile]) throws(StorageError) -> [FoundFile] {
        var found = found
        let headers = found.map(\.latestHeader)
        var counts: [UInt64: Int] = [:]
        for case let header? in headers where !header.isSpare { counts[header.fileSequence, default: 0] += 1 }
        for (index, header) in headers.enumerated() {
            guard let header, counts[header.fileSequence] ?? 0 > 1 else { continue }
            let file = try storage.open("journal/" + found[index].name, forWriting: false)
            var scanner = JournalFileScanner(
                epoch: header.epoch, fileSequence: header.fileSequence, format: format,
                start: header.commitsStart, end: min(found[index].size, header.capacity))
            _ = try scan(file, with: &scanner) { _ in }
            for case .commit(let commit) in scanner.events {
                found[index].lastCommit = max(found[index].lastCommit, commit.header.commitNumber)
            }
        }
        return found
    }

    private func recover(_ found: [FoundFile]) throws(StorageError) -> Result<RecoveredLog, WALError> {
        let start = MonotonicTime.now
        var report = RecoveryReport()
        let chain = JournalChain(
            files: found, logIdentifier: format.logIdentifier, blockSize: format.blockSize, report: &report)
        var machine = RecoveryMachine(chain: chain, report: report)
        var firstToRead = 0
        if scope == .sinceCheckpoint, !opensBodies,
            let summary = CheckpointSummary(chain, storage: storage, format: format)
        {
            firstToRead = summary.firstToRead
            machine.state = summary.states[firstToRead]
            for index in 0..<firstToRead {
                machine.skip(before: summary.states[index], after: summary.states[index + 1])
            }
        }
        let total = chain.links[firstToRead...].reduce(0) { $0 + min($1.size, $1.header.capacity) }
        var read: UInt64 = 0
        for link in chain.links[firstToRead...] {
            let file = try storage.open("journal/" + link.name, forWriting: false)
            var scanner = JournalFileScanner(
                epoch: link.header.epoch, fileSequence: link.header.fileSequence, format: format,
                start: link.header.commitsStart, end: min(link.size, link.header.capacity),
                opensBodies: opensBodies, keys: keys)
            let unreadable = try scan(file, with: &scanner) { progress?(read + $0, total) }
            if let fault = scanner.unsupported {
                return .failure(
                    .unsupportedFormat(
                        path: storage.rootDescription + "/journal/" + link.name, reason: fault.description))
            }
            read += min(link.size, link.header.capacity)
            machine.take(scanner, unreadable: unreadable)
        }
        // Behind the look at the headers: what has left the journal since is not missed, and what had left is in here.
        var leftovers = SegmentCatalog.Leftovers()
        let segments = try SegmentCatalog(
            of: storage, format: format, isForWriter: isForWriter, leftovers: &leftovers)
        let numbers = found.compactMap { JournalFileName.number(of: $0.name) }
        var recovered = machine.finish(
            segments: segments, leftovers: leftovers, nextFileNumber: JournalFileName.next(behind: numbers))
        recovered.report.bytesRead = read
        recovered.report.duration = .nanoseconds(Int64(MonotonicTime.now.since(start)))
        return .success(recovered)
    }

    /// A file of a newer format must stop the opening: what it holds is not known to be free.
    private func versionFault(_ found: [FoundFile]) -> WALError? {
        for file in found {
            for case .failure(let error) in file.copies where error.cause == .version {
                return .unsupportedFormat(
                    path: storage.rootDescription + "/journal/" + file.name, reason: error.description)
            }
        }
        return nil
    }

    /// Reads a file's header copies.
    private func look(at name: String, buffer: AlignedBuffer) throws(StorageError) -> FoundFile {
        let file = try storage.open("journal/" + name, forWriting: false)
        var found = FoundFile(name: name, size: try file.size(), copies: [])
        let length = FormatLimits.headerCopies * format.blockSize
        var unreadable: [Range<UInt64>] = []
        let count = try read(file, into: buffer, length: length, from: 0, unreadable: &unreadable)
        for copy in 0..<FormatLimits.headerCopies {
            do throws(FormatError) {
                let header = try buffer.withBytes { (bytes: RawSpan) throws(FormatError) in
                    try JournalFileHeader.decode(
                        bytes.extracting(0..<count), at: copy * format.blockSize, blockSize: format.blockSize)
                }
                found.copies.append(.success(header))
            } catch { found.copies.append(.failure(error)) }
        }
        found.isHeaderUnreadable = !unreadable.isEmpty
        return found
    }

    /// Finds out by their commits what the files without a whole header are: of the present life, which is the one with
    /// the highest sequence number. A number that another file has is not meant: the device put that one's commit here.
    private func proveByCommits(_ found: inout [FoundFile]) throws(StorageError) {
        var taken = Set(
            found.lazy.filter { !$0.isForeign(to: format.logIdentifier) }.compactMap(\.latestHeader)
                .map(\.fileSequence))
        taken.formUnion(found.compactMap { $0.firstCommit?.fileSequence })
        var open = found.indices.filter { found[$0].latestHeader == nil && found[$0].firstCommit == nil }
        while !open.isEmpty {
            for index in open where found[index].firstCommit.map({ taken.contains($0.fileSequence) }) ?? true {
                try proveByCommits(&found[index], besides: taken)
            }
            open.removeAll { found[$0].firstCommit == nil }
            // Of two with one number, the one whose commits begin where a file's do.
            guard
                let next = open.min(by: {
                    guard let one = found[$0].firstCommit, let other = found[$1].firstCommit else { return false }
                    return (one.fileSequence, one.offset, found[$0].name)
                        < (other.fileSequence, other.offset, found[$1].name)
                })
            else { return }
            if let first = found[next].firstCommit { taken.insert(first.fileSequence) }
            open.removeAll { $0 == next }
        }
    }

    private func proveByCommits(_ found: inout FoundFile, besides taken: Set<UInt64>) throws(StorageError) {
        let buffer = AlignedBuffer(capacity: Self.windowLength, alignment: max(4096, format.blockSize))
        let file = try storage.open("journal/" + found.name, forWriting: false)
        found.firstCommit = try commit(in: file, size: found.size, buffer: buffer, besides: taken) {
            $0.fileSequence > $1.fileSequence
        }
        let last = try commit(
            in: file, size: found.size, buffer: buffer, besides: taken, CommitHeader.isOfLaterLifeOrLater)
        if let first = found.firstCommit, let last { found.isVouchedFor = last.durableThrough >= first.commitNumber }
    }

    /// Of the whole commit headers in a file, the first that no other is better than. Those with the file sequence
    /// numbers `taken` do not count.
    private func commit(
        in file: Storage.File, size: UInt64, buffer: AlignedBuffer, besides taken: Set<UInt64> = [],
        _ isBetter: (CommitHeader, CommitHeader) -> Bool
    ) throws(StorageError) -> CommitHeader? {
        var best: CommitHeader?
        var offset = UInt64(FormatLimits.headerCopies * format.blockSize)
        var unreadable: [Range<UInt64>] = []
        while offset + UInt64(format.blockSize) <= size {
            let length = Int(min(UInt64(Self.windowLength), size - offset)) & ~(format.blockSize - 1)
            let count = try read(file, into: buffer, length: length, from: offset, unreadable: &unreadable)
            buffer.withBytes { bytes in
                for position in stride(from: 0, to: count, by: format.blockSize) {
                    guard case .valid(let header) = CommitHeader.read(bytes, at: position, of: format),
                        header.offset == offset + UInt64(position), !taken.contains(header.fileSequence)
                    else { continue }
                    if best.map({ isBetter(header, $0) }) ?? true { best = header }
                }
            }
            offset += UInt64(length)
        }
        return best
    }

    /// Feeds a file to a scanner, window by window. Returns what the device failed to read.
    private func scan(
        _ file: Storage.File, with scanner: inout JournalFileScanner, _ progress: (UInt64) -> Void
    ) throws(StorageError) -> [Range<UInt64>] {
        let window = FileWindow(
            file, from: scanner.offset, to: scanner.end, blockSize: format.blockSize)
        var needed = format.blockSize
        while !scanner.isFinished {
            // A commit's length is known to be sound before memory is taken for it.
            guard try window.fill(atLeast: needed) >= needed else { break }
            needed = window.withBytes { scanner.scan($0) }
            window.advance(to: scanner.offset)
            progress(scanner.offset)
        }
        return window.unreadable
    }

    /// Reads a range to a buffer's start; blocks that the device fails to give are noted, and read as zeros.
    private func read(
        _ file: Storage.File, into buffer: AlignedBuffer, length: Int, from offset: UInt64,
        unreadable: inout [Range<UInt64>]
    ) throws(StorageError) -> Int {
        try file.readAround(
            &unreadable, into: buffer, at: 0, length: length, from: offset, blockSize: format.blockSize)
    }
}

extension CommitHeader {
    /// Whether a commit is of a later life of its file than another one, or later in the same.
    fileprivate static func isOfLaterLifeOrLater(_ one: CommitHeader, _ other: CommitHeader) -> Bool {
        (one.fileSequence, one.commitNumber) > (other.fileSequence, other.commitNumber)
    }
}
