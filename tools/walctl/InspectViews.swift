import TelemetryWAL
import WALFormat
import WALStorage

/// A log's root, as `inspect` prints it.
struct RootView: Encodable {
    struct File: Encodable {
        var file: String
        var sequence: UInt64
        var epoch: String
        var firstCommit: UInt64
        var used: UInt64
        var size: UInt64
        var tenants: Int
        /// First and end byte of each damaged range.
        var damage: [[UInt64]]
    }

    var root: String
    var log: String
    var created: String
    var blockSize: Int
    /// `FORMAT` says that records have been encrypted: without keys nothing is appended. nil in a tenant's own journal,
    /// of which the log's `FORMAT` says it.
    var isMarkedEncrypted: Bool?
    var writer: String
    var lastCommit: UInt64
    var tenants: Int
    var subscribers: [String]
    var files: [File]
    var ownJournals: [OwnJournal]

    /// A journal that a tenant has of its own.
    struct OwnJournal: Encodable {
        var tenant: String
        var path: String
        /// Why it cannot be read.
        var fault: String?
    }

    init(root: String, reader: WriteAheadLogReader<DirectStorage>) {
        self.root = root
        log = reader.format.logIdentifier.description
        created = readable(time: reader.format.created)
        blockSize = reader.format.blockSize
        isMarkedEncrypted = reader.format.tenant == nil ? reader.format.isEncrypted : nil
        writer =
            switch reader.writer {
            case .none: "none"
            case .process(let process): process.map { "process \($0)" } ?? "some process"
            }
        lastCommit = reader.lastCommit
        tenants = reader.tenants.count
        subscribers = reader.subscribers.map { readable(name: $0) }
        files = reader.journalFiles.map {
            File(
                file: $0.name, sequence: $0.header.fileSequence, epoch: String($0.header.epoch, radix: 16),
                firstCommit: $0.header.firstCommit, used: $0.endOffset, size: $0.header.capacity,
                tenants: $0.tenantCount, damage: $0.damage.map { [$0.lowerBound, $0.upperBound] })
        }
        ownJournals = reader.journals.compactMap { journal in
            guard let tenant = journal.tenant else { return nil }
            var fault: String?
            if case .failure(let error) = journal.view { fault = "\(error)" }
            return OwnJournal(tenant: readable(name: tenant), path: journal.path, fault: fault)
        }
    }
}

/// A commit, as `inspect` prints it.
struct CommitView: Encodable {
    var commit: UInt64
    var offset: UInt64
    var length: Int
    var frames: Int
    /// Users' records.
    var records: Int
    var durableThrough: UInt64
    var time: String
    var flags: [String]
    var checksum: String

    init(_ status: CommitStatus) {
        let header = status.header
        commit = header.commitNumber
        offset = header.offset
        length = header.commitLength
        frames = header.frameCount
        records = status.frames.reduce(0) { $1.header.isControl ? $0 : $0 + $1.header.recordCount }
        durableThrough = header.durableThrough
        time = readable(time: header.timestamp)
        flags = []
        if header.flags.contains(.checkpoint) { flags.append("checkpoint") }
        if header.flags.contains(.watermark) { flags.append("watermark") }
        if header.flags.contains(.closing) { flags.append("closing") }
        checksum = String(header.checksum, radix: 16)
    }
}

/// A frame, as `inspect` prints it.
struct FrameView: Encodable {
    var frame: Int
    var tenant: String?
    var kinds: [String]
    var firstSequence: UInt64?
    var lastSequence: UInt64?
    var records: Int
    var codec: String
    var storedLength: Int
    var rawLength: Int
    var lowestTime: String
    var highestTime: String
    var isIntact: Bool
    /// Which key the body is encrypted with; absent: none.
    var key: UInt64?

    init(index: Int, frame located: LocatedFrame) {
        let header = located.header
        frame = index
        tenant = header.tenant.map { readable(name: $0) }
        kinds = header.isControl ? ["control"] : header.kinds.kinds.map(\.description)
        firstSequence = header.isControl ? nil : header.firstSequence
        lastSequence = header.isControl ? nil : header.lastSequence
        records = header.recordCount
        codec = header.codec == .lz4 ? "lz4" : "raw"
        storedLength = header.storedLength
        rawLength = header.rawLength
        lowestTime = readable(time: header.lowestTimestamp)
        highestTime = readable(time: header.highestTimestamp)
        isIntact = located.isIntact
        key = header.isSealed ? header.keyIdentifier : nil
    }
}
