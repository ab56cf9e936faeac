import WALFormat

/// A journal file as it was found: its name, size, and what its header copies say.
struct FoundFile {
    var name: String
    var size: UInt64
    var copies: [Result<JournalFileHeader, FormatError>]
    /// Where no copy is whole: the first commit of the file's latest life that proves itself.
    var firstCommit: CommitHeader?
    /// Whether later commits of that life vouch for it: it was acknowledged.
    var isVouchedFor = false
    /// Whether the device failed to read the header's blocks.
    var isHeaderUnreadable = false
    /// The newer of the whole copies.
    var latestHeader: JournalFileHeader? {
        copies.compactMap { try? $0.get() }.max { $0.fileSequence < $1.fileSequence }
    }
    /// Whether a whole copy names another log: then the file is that one's, whatever the other copy says.
    func isForeign(to log: LogIdentifier) -> Bool {
        copies.contains { if case .success(let header) = $0 { header.logIdentifier != log } else { false } }
    }
    /// Highest commit of the present life; looked for only where two files claim one place in the log.
    var lastCommit: UInt64 = 0
}

/// Which of the files found are the log, in order. Files are linked backwards: each header names the file before it;
/// the newest is the one with the highest sequence number. No I/O.
struct JournalChain {
    struct Link {
        var name: String
        var header: JournalFileHeader
        var size: UInt64
        var isHeaderLost = false
        /// Offset of the first commit that proves itself, where the headers are lost.
        var firstOffset: UInt64 = 0
        var isHeadWhole: Bool { firstOffset == header.commitsStart }
    }

    /// The log's files, oldest first.
    private(set) var links: [Link] = []
    /// Files that are free for use, by name.
    private(set) var reusable: [ReusableFile] = []
    /// Sequence numbers that the chain names and no file has, each with the index in `links` of the file behind it.
    /// And with its epoch, as the link tells it.
    private(set) var missing: [(sequence: UInt64, epoch: UInt64, before: Int)] = []
    private(set) var highestSequence: UInt64 = 0

    /// A chain of files that are known to follow each other.
    init(links: [Link]) { self.links = links }

    /// Sorts files out. Notes in the report what is found on the way.
    init(files: [FoundFile], logIdentifier: LogIdentifier, blockSize: Int, report: inout RecoveryReport) {
        var bySequence: [UInt64: Link] = [:]
        var withoutHeaders: [FoundFile] = []
        for file in files.sorted(by: { ($1.lastCommit, $0.name) < ($0.lastCommit, $1.name) }) {
            let whole = file.copies.compactMap { try? $0.get() }
            if let foreign = whole.first(where: { $0.logIdentifier != logIdentifier }) {
                report.note(.fileForeign, file.name, 0, 0..<file.size, "it belongs to log \(foreign.logIdentifier)")
                continue
            }
            if let header = whole.max(by: { $0.fileSequence < $1.fileSequence }) {
                highestSequence = max(highestSequence, header.fileSequence)
                if header.isSpare {
                    report.count(.fileSpare)
                    reusable.append(ReusableFile(name: file.name, size: file.size))
                } else if let twin = bySequence[header.fileSequence] {
                    // `files` comes sorted: the first of two twins is the one to be used.
                    report.note(
                        .fileDuplicated, file.name, header.fileSequence, 0..<file.size,
                        "it claims the place of \(twin.name), which is used; it is left alone")
                } else {
                    bySequence[header.fileSequence] = Link(name: file.name, header: header, size: file.size)
                }
                if whole.count == file.copies.count { report.count(.headerIntact) }
                // Two different whole copies: the first write of a new life was torn between them.
                if whole.count < file.copies.count, !header.isSpare {
                    report.note(
                        .headerCopyDamaged, file.name, header.fileSequence,
                        0..<UInt64(blockSize * FormatLimits.headerCopies), "the other copy is whole and serves")
                }
                continue
            }
            withoutHeaders.append(file)
        }
        // Oldest first, whatever their names are: each is judged beside those before it.
        withoutHeaders.sort {
            ($0.firstCommit?.fileSequence ?? .max, $0.firstCommit?.offset ?? 0, $0.name)
                < ($1.firstCommit?.fileSequence ?? .max, $1.firstCommit?.offset ?? 0, $1.name)
        }
        for file in withoutHeaders {
            adopt(file, logIdentifier: logIdentifier, blockSize: blockSize, into: &bySequence, report: &report)
        }
        follow(&bySequence)
        for link in bySequence.values.sorted(by: { $0.name < $1.name }) {
            report.count(
                link.header.fileSequence < (links.first?.header.fileSequence ?? 0) ? .fileSpare : .fileAbandoned)
            // What a file without its headers held is a conclusion, not a fact: it is not overwritten.
            if !link.isHeaderLost { reusable.append(ReusableFile(name: link.name, size: link.size)) }
        }
        reusable.sort { $0.name < $1.name }
        for link in links where link.isHeaderLost {
            report.note(
                .headerLost, link.name, link.header.fileSequence, 0..<link.header.commitsStart,
                "its commits prove themselves and are used")
        }
    }

    /// Takes a file without whole headers for what its commits say it is, if they can be of its present life: an
    /// earlier life's commits may be all that is left of it.
    private mutating func adopt(
        _ file: FoundFile, logIdentifier: LogIdentifier, blockSize: Int, into bySequence: inout [UInt64: Link],
        report: inout RecoveryReport
    ) {
        let commitsStart = UInt64(FormatLimits.headerCopies * blockSize)
        let newest = bySequence.values.max { $0.header.fileSequence < $1.header.fileSequence }?.header
        if let first = file.firstCommit, bySequence[first.fileSequence] == nil {
            let isNamedByNext = bySequence.values.contains {
                $0.header.previous.epoch == first.epoch && $0.header.previous.fileSequence == first.fileSequence
            }
            let isNewest = newest.map { first.fileSequence > $0.fileSequence } ?? true
            let isWholeAndLive =
                (first.offset == commitsStart || file.isVouchedFor)
                && newest.map { first.fileSequence >= $0.oldestLiveFileSequence } ?? true
            if isNamedByNext || isNewest || isWholeAndLive {
                highestSequence = max(highestSequence, first.fileSequence)
                let header = JournalFileHeader(
                    logIdentifier: logIdentifier, epoch: first.epoch, fileSequence: first.fileSequence,
                    capacity: file.size, blockSize: blockSize, created: first.timestamp,
                    firstCommit: first.commitNumber, oldestLiveFileSequence: 0,
                    previous: .init(lastCommit: first.commitNumber - 1), recordsBefore: first.recordsBefore,
                    sequenceFloor: 1)
                bySequence[first.fileSequence] = Link(
                    name: file.name, header: header, size: file.size, isHeaderLost: true, firstOffset: first.offset)
                return
            }
        }
        report.note(
            file.isHeaderUnreadable ? .rangeUnreadable : .headerDestroyed, file.name, 0, 0..<file.size,
            file.isHeaderUnreadable
                ? "the device fails to read its header; it is left alone"
                : "nothing in its \(file.size) bytes tells what it held; it is left alone")
    }

    /// Walks from the newest file backwards.
    private mutating func follow(_ bySequence: inout [UInt64: Link]) {
        guard let newest = bySequence.values.max(by: { $0.header.fileSequence < $1.header.fileSequence }) else {
            return
        }
        var oldestLive = newest.isHeaderLost ? 1 : newest.header.oldestLiveFileSequence
        var next: Link? = newest
        while let link = next {
            bySequence[link.header.fileSequence] = nil
            links.append(link)
            if links.count == 1 || oldestLive == 1 { oldestLive = max(oldestLive, link.header.oldestLiveFileSequence) }
            let earlier = bySequence.keys.filter { $0 < link.header.fileSequence && $0 >= oldestLive }
            if link.isHeaderLost {
                // Its link backwards is lost with it: the next lower number is the best there is.
                next = earlier.max().flatMap { bySequence[$0] }
                continue
            }
            let wanted = link.header.previous.fileSequence
            if wanted < oldestLive { break }
            next = bySequence[wanted]
            if next == nil {
                missing.append((wanted, link.header.previous.epoch, links.count - 1))
                next = earlier.filter { $0 < wanted }.max().flatMap { bySequence[$0] }
            }
        }
        links.reverse()
        missing = missing.map { ($0.sequence, $0.epoch, links.count - 1 - $0.before) }
    }
}

extension RecoveryReport {
    /// Counts a case and, where it is one, keeps the finding.
    mutating func note(
        _ what: RecoveryCase, _ file: String, _ fileSequence: UInt64, _ byteRange: Range<UInt64>, _ detail: String,
        commits: ClosedRange<UInt64>? = nil
    ) {
        count(what)
        if what.isFinding {
            findings.append(
                Finding(
                    what: what, file: file, fileSequence: fileSequence, byteRange: byteRange, commits: commits,
                    detail: detail))
        }
    }
}
