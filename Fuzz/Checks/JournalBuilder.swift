import TelemetryWAL
import WALFormat

/// A journal in the making: what the writer would have written, kept in step with what it would know, and what was done
/// to it since. Uses the format's own encoders.
struct JournalBuilder {
    struct File {
        var name: String
        var bytes: [UInt8]
        var header: JournalFileHeader
        /// Offsets of the commits of the present life.
        var commits: [Int] = []
        var end = 0
        var unreadable: [Range<UInt64>] = []
    }

    /// A frame of records, as it was written.
    struct Frame {
        var header: FrameHeader
        /// The records as they are before compression and encryption.
        var body: [UInt8]
        /// Of the file that it went to.
        var fileSequence: UInt64
        var isFailed: Bool
    }

    /// Choices of a new file.
    struct Beginning: OptionSet {
        let rawValue: UInt8
        static let withoutFirstHeader = Beginning(rawValue: 1)
        static let withoutSecondHeader = Beginning(rawValue: 2)
        static let withoutCheckpoint = Beginning(rawValue: 4)
        /// Its first write failed: the log goes on in another.
        static let abandoned = Beginning(rawValue: 8)
        /// Files before the last one have left the log.
        static let dropsOlderFiles = Beginning(rawValue: 16)
        static let skipsSequence = Beginning(rawValue: 32)
        /// The oldest file begins a new life, over what its old one left.
        static let reusesOldest = Beginning(rawValue: 64)
        /// In a file that is larger than the others.
        static let isLarge = Beginning(rawValue: 128)
    }

    /// Choices of a commit.
    struct Appending: OptionSet {
        let rawValue: UInt8
        static let compressed = Appending(rawValue: 1)
        /// Nothing says that those before it were durable.
        static let vouchesForNothing = Appending(rawValue: 2)
        static let hasSecondTenant = Appending(rawValue: 4)
        /// The write failed: what follows takes its place.
        static let failed = Appending(rawValue: 8)
        /// Sequence numbers are left out before it.
        static let skipsSequence = Appending(rawValue: 16)
        static let hasSpans = Appending(rawValue: 32)
        static let hasControlFrame = Appending(rawValue: 64)
    }

    static let fileLimit = 6
    static let tenants: [TenantName] = [
        "a", "b", "acme/ü", TenantName(stringLiteral: String(repeating: "x", count: 255)),
    ]
    static let subscribers: [TenantName] = ["s", "t"]

    let blockSize: Int
    /// Whether each record has bytes and a time of its own. The journals of the target `journal` have not: its corpus
    /// was found with others.
    let marksRecords: Bool
    var files: [File] = []
    /// All frames of records, in order.
    private(set) var frames: [Frame] = []
    /// No step did what no healthy writer on a healthy device does.
    var isAsWritten = true
    /// Bodies were changed behind right checksums, so that a checkpoint may deny what is in files before it.
    var forgesBodies = false
    /// Headers of files or commits were changed behind right checksums, so that numbers may go back, and what a file is may
    /// depend on who looks how closely.
    var forgesHeaders = false
    var format: RootFormat
    /// Index of the file that commits go to.
    private(set) var current: Int?
    private(set) var state = LogState()
    private var lastCommit: UInt64 = 0
    private var lastChecksum: UInt32 = 0
    private var records: UInt64 = 0
    private var previous = JournalFileHeader.Previous()
    private var lastSequence: UInt64 = 0
    private var made = 0
    private let compressor: LZ4FrameCompressor

    init(blockSize: Int, compressor: LZ4FrameCompressor, marksRecords: Bool = false) {
        self.blockSize = blockSize
        self.marksRecords = marksRecords
        self.compressor = compressor
        format = .fuzzed(blockSize: blockSize)
    }

    private var capacity: Int { Int(FormatLimits.minimumJournalFileSize) }

    /// Files before this one have left the log, as its headers say.
    var oldestLiveFile: UInt64 {
        files.lazy.map(\.header).filter { !$0.isSpare }.map(\.oldestLiveFileSequence).max() ?? 0
    }

    // MARK: - As the writer does

    mutating func begin(_ choices: Beginning) {
        guard files.count < Self.fileLimit || choices.contains(.reusesOldest) else { return }
        let before = current.map { files[$0].name }
        let size = choices.contains(.isLarge) ? 2 * capacity : capacity
        lastSequence += choices.contains(.skipsSequence) ? 2 : 1
        made += 1
        let oldest = files.map(\.header).filter { !$0.isSpare }.map(\.oldestLiveFileSequence).max() ?? lastSequence
        var oldestLive = choices.contains(.dropsOlderFiles) ? previous.fileSequence : oldest
        if choices.contains(.reusesOldest) {
            oldestLive = max(oldestLive, (files.first?.header.fileSequence ?? 0) &+ 1)
        }
        let header = JournalFileHeader(
            logIdentifier: format.logIdentifier, epoch: 0xE000 + UInt64(made), fileSequence: lastSequence,
            capacity: UInt64(size), blockSize: blockSize, created: 1, firstCommit: lastCommit &+ 1,
            oldestLiveFileSequence: min(max(oldestLive, 1), lastSequence), previous: previous, recordsBefore: records,
            sequenceFloor: state.sequenceFloor)
        var file = File(name: Self.name(made), bytes: [UInt8](repeating: 0, count: size), header: header)
        if choices.contains(.reusesOldest), let old = files.first {
            file.name = old.name
            file.bytes = old.bytes
            if file.bytes.count < size { file.bytes += repeatElement(0, count: size - file.bytes.count) }
            files.removeFirst()
        }
        file.end = Int(header.commitsStart)
        var copies = [UInt8](repeating: 0, count: 2 * blockSize)
        copies.withMutableRawSpan { (span: inout MutableRawSpan) in header.encode(into: &span, at: 0) }
        for (copy, choice) in [Beginning.withoutFirstHeader, .withoutSecondHeader].enumerated()
        where !choices.contains(choice) {
            let range = copy * blockSize..<(copy + 1) * blockSize
            file.bytes.replaceSubrange(range, with: copies[range])
        }
        files.append(file)
        if choices.contains(.abandoned) {
            current = before.flatMap { name in files.firstIndex { $0.name == name } }
            return
        }
        current = files.count - 1
        if !choices.contains(.withoutCheckpoint) {
            commit([controlFrame(state.checkpoint())], flags: .checkpoint, durableThrough: lastCommit)
        }
    }

    static func name(_ number: Int) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits + ".journal"
    }

    mutating func append(tenant: Int, count: Int, length: Int, _ choices: Appending) {
        var frames: [(FrameHeader, [UInt8])] = []
        var given: [ControlRecord] = []
        if choices.contains(.hasControlFrame) { frames.append(controlFrame([.watermark(durableThrough: 0)])) }
        for place in 0..<(choices.contains(.hasSecondTenant) ? 2 : 1) {
            let name = Self.tenants[(tenant + place) % Self.tenants.count]
            let index = state.index(of: name)
            var first = index.map { state.tenants[$0].nextSequence } ?? state.sequenceFloor
            if choices.contains(.skipsSequence) { first &+= 3 }
            guard first > 0, first <= FormatLimits.maximumNumber - UInt64(count) else { return }
            frames.append(
                userFrame(name, first, count: count, length: length, choices.contains(.hasSpans) ? .span : .opaque))
            given.append(.tenantState(tenant: name, nextSequence: first + UInt64(count)))
        }
        let written = commit(
            frames, flags: [], durableThrough: choices.contains(.vouchesForNothing) ? 0 : lastCommit,
            records: UInt64(count * given.count), isCompressed: choices.contains(.compressed),
            counts: !choices.contains(.failed))
        guard written, let current else { return }
        for (header, body) in frames where !header.isControl {
            self.frames.append(
                Frame(
                    header: header, body: body, fileSequence: files[current].header.fileSequence,
                    isFailed: choices.contains(.failed)))
        }
        if !choices.contains(.failed) { for record in given { state.apply(record) } }
    }

    mutating func control(_ records: [ControlRecord], flags: CommitHeader.Flags = .watermark) {
        guard !records.isEmpty else { return }
        let frame = controlFrame(records)
        guard commit([frame], flags: flags, durableThrough: lastCommit) else { return }
        // No writer's state has numbers beyond their limits, and no reader takes such a record.
        guard (try? ControlRecord.decodeAll(frame.1.span.bytes, count: records.count)) != nil else { return }
        for record in records { state.apply(record) }
    }

    mutating func addSpare() {
        guard files.count < Self.fileLimit else { return }
        made += 1
        let header = JournalFileHeader(
            logIdentifier: format.logIdentifier, epoch: 0xE000 + UInt64(made), fileSequence: 0,
            capacity: UInt64(capacity), blockSize: blockSize, created: 1, firstCommit: 0, oldestLiveFileSequence: 0,
            previous: .init(), recordsBefore: 0, sequenceFloor: 0)
        var file = File(name: Self.name(made), bytes: [UInt8](repeating: 0, count: capacity), header: header)
        file.bytes.withMutableRawSpan { (span: inout MutableRawSpan) in header.encode(into: &span, at: 0) }
        file.end = Int(header.commitsStart)
        files.append(file)
    }

    // MARK: - Commits

    /// Puts a commit behind the last one of the current file. Returns false where it has no room or no number; then
    /// nothing is done.
    @discardableResult
    private mutating func commit(
        _ frames: [(FrameHeader, [UInt8])], flags: CommitHeader.Flags, durableThrough: UInt64,
        records count: UInt64 = 0, isCompressed: Bool = false, counts: Bool = true
    ) -> Bool {
        guard let current, lastCommit < FormatLimits.maximumNumber, durableThrough <= lastCommit,
            records <= FormatLimits.maximumNumber
        else { return false }
        var file = files[current]
        let headers = frames.reduce(0) { $0 + $1.0.length }
        let raw = frames.reduce(0) { $0 + $1.1.count }
        var bytes = [UInt8](
            repeating: 0,
            count: CommitEncoder.bound(
                frameHeadersLength: headers, rawLengths: raw, frameCount: frames.count, blockSize: blockSize))
        let placement = CommitPlacement(
            epoch: file.header.epoch, fileSequence: file.header.fileSequence, offset: UInt64(file.end),
            commitNumber: lastCommit + 1, durableThrough: durableThrough, recordsBefore: records,
            previousChecksum: lastChecksum)
        let (log, compressor) = (RootFormat.fuzzed(blockSize: blockSize), compressor)
        let written = try? bytes.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
            var encoder = CommitEncoder(
                at: 0, of: log, frameHeadersLength: headers, rawLengths: raw, compresses: isCompressed)
            for (header, body) in frames {
                var header = header
                try encoder.add(
                    &header, rawBody: body.span.bytes, into: &span, compressor: compressor,
                    seal: FuzzedKeys.seal(for: header, blockSize: log.blockSize, epoch: placement.epoch))
            }
            return encoder.finish(placement, timestamp: 4, flags: flags, into: &span)
        }
        guard let header = written, file.end + header.commitLength <= file.bytes.count else { return false }
        file.bytes.replaceSubrange(file.end..<file.end + header.commitLength, with: bytes[..<header.commitLength])
        if counts {
            file.commits.append(file.end)
            file.end += header.commitLength
            lastCommit = header.commitNumber
            lastChecksum = header.checksum
            records += count
            seal(file)
        }
        files[current] = file
        return true
    }

    private mutating func seal(_ file: File) {
        previous = JournalFileHeader.Previous(
            fileSequence: file.header.fileSequence, epoch: file.header.epoch, endOffset: UInt64(file.end),
            lastCommit: lastCommit, lastChecksum: lastChecksum)
    }

    // MARK: - As nobody should

    /// A commit was changed by hand: what is written next goes on from what it says now.
    mutating func follow(commitAt offset: Int, of index: Int) {
        guard index == current, files[index].commits.last == offset else { return }
        files[index].bytes.withUnsafeMutableBytes { bytes in
            lastCommit = bytes.integer(UInt64.self, at: offset + 40) ?? lastCommit
            lastChecksum = bytes.integer(UInt32.self, at: offset + 8) ?? lastChecksum
        }
        seal(files[index])
    }

    mutating func remove(at index: Int) {
        files.remove(at: index)
        if let current { self.current = current == index ? nil : current > index ? current - 1 : current }
    }
}
