import WALFormat

/// What the golden files hold. Nothing here may change: a change would be a change of the format.
enum GoldenContents {
    static let logIdentifier: LogIdentifier = {
        /// Not the tests' own generator, which may be changed for the tests' sake.
        struct Fixed: RandomNumberGenerator {
            var words: [UInt64] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210]
            mutating func next() -> UInt64 { words.removeFirst() }
        }
        var generator = Fixed()
        return LogIdentifier(using: &generator)
    }()

    static let rootFormat = RootFormat(
        logIdentifier: logIdentifier, blockSize: 4096, created: 1_700_000_000_123_456_789)

    static let journalHeader = JournalFileHeader(
        logIdentifier: logIdentifier, epoch: 0xA1A2_A3A4_A5A6_A7A8, fileSequence: 3, capacity: 64 << 20,
        blockSize: 4096, created: 1_700_000_001_123_456_789, firstCommit: 1_001, oldestLiveFileSequence: 2,
        previous: .init(
            fileSequence: 2, epoch: 0xB1B2_B3B4_B5B6_B7B8, endOffset: 0x03FF_E000, lastCommit: 1_000,
            lastChecksum: 0xC1C2_C3C4),
        recordsBefore: 54_321, sequenceFloor: 65_432)

    static let spareHeader = JournalFileHeader(
        logIdentifier: logIdentifier, epoch: 0xD1D2_D3D4_D5D6_D7D8, fileSequence: 0, capacity: 256 << 10,
        blockSize: 4096, created: 1_700_000_002_123_456_789, firstCommit: 0, oldestLiveFileSequence: 0,
        previous: .init(), recordsBefore: 0, sequenceFloor: 0)

    /// Where all commits stand; each has its own number.
    static func placement(commit: UInt64) -> CommitPlacement {
        CommitPlacement(
            epoch: journalHeader.epoch, fileSequence: 3, offset: 8192 + (commit - 1_001) * 4096, commitNumber: commit,
            durableThrough: commit - 1, recordsBefore: 54_321, previousChecksum: 0xC1C2_C3C4)
    }

    static let timestamp: UInt64 = 1_700_000_003_123_456_789

    static func rawCommit() throws -> SampleCommit {
        try SampleCommit(rawFrames, placement: placement(commit: 1_002), timestamp: timestamp)
    }

    static let rawFrames = [
        SampleFrame(
            "acme", first: 7, kind: .span, timestamp: timestamp, payloads: [Array("a span".utf8), [], [0, 0xFF, 0x80]]),
        SampleFrame("café/東京", first: 1, kind: .opaque, timestamp: timestamp + 10, payloads: [Array("hello".utf8)]),
    ]

    static func lz4Commit() throws -> SampleCommit {
        try SampleCommit([lz4Frame], placement: placement(commit: 1_003), timestamp: timestamp)
    }

    static let lz4Frame = SampleFrame(
        "globex", first: 1, kind: .log, timestamp: timestamp,
        payloads: (0..<150).map { Array("log line \($0): the same words again and again".utf8) })

    static func controlCommit() throws -> SampleCommit {
        try SampleCommit(
            [SampleFrame(control: controlRecords, timestamp: timestamp)], placement: placement(commit: 1_001),
            timestamp: timestamp, flags: [.checkpoint])
    }

    /// A segment of two frames, the second compressed, with a lost range between.
    static func segment() throws -> [UInt8] {
        let stored = [try rawCommit(), try lz4Commit()].map { commit in
            (commit, try? frames(of: commit.header, in: commit.bytes))
        }
        var bytes = [UInt8](repeating: 0, count: 4096)
        var index = SegmentIndex()
        for ((commit, frames), first) in zip(stored, [7, 20] as [UInt64]) {
            guard let frame = frames?.first else { throw FormatError(.field, "the commit has no frame") }
            var header = frame.header
            (header.tenant, header.firstSequence) = ("acme", first)
            let offset = bytes.count
            bytes += [UInt8](repeating: 0, count: header.length)
            let checksum = bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
                header.encode(into: &span, at: offset)
            }
            bytes += commit.bytes[frame.body]
            index.frames.append(
                .init(
                    offset: UInt64(offset), firstSequence: first, recordCount: header.recordCount,
                    storedLength: bytes.count - offset, lowestTimestamp: header.lowestTimestamp,
                    highestTimestamp: header.highestTimestamp, headerChecksum: checksum, rawLength: header.rawLength,
                    kinds: header.kinds))
            bytes += [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
        }
        index.lostRanges = [.init(sequences: 10...15, cause: .damaged)]
        let offset = bytes.count
        bytes += [UInt8](repeating: 0, count: 12288 - offset)
        let checksum = bytes.withMutableRawSpan { (span: inout MutableRawSpan) in index.encode(into: &span, at: offset)
        }
        let summary = SegmentSummary(
            logIdentifier: logIdentifier, blockSize: 4096, tenant: "acme", created: timestamp, covered: 5...169,
            length: 12288, indexOffset: UInt64(offset), indexChecksum: checksum, frameCount: 2, lostRangeCount: 1,
            recordCount: index.frames.reduce(0) { $0 + UInt64($1.recordCount) },
            rawLength: index.frames.reduce(0) { $0 + UInt64($1.rawLength) },
            lowestTimestamp: timestamp, highestTimestamp: index.frames.map(\.highestTimestamp).max() ?? 0)
        bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
            for base in [0, 8192] { summary.encode(into: &span, at: base) }
        }
        return bytes
    }

    /// What came after the first golden files: backlogs, drops and erasures.
    static func laterControlCommit() throws -> SampleCommit {
        try SampleCommit(
            [SampleFrame(control: laterControlRecords, timestamp: timestamp)], placement: placement(commit: 1_001),
            timestamp: timestamp, flags: [.checkpoint])
    }

    static let laterControlRecords: [ControlRecord] = [
        .checkpoint(tenants: 2, cursors: 0, subscribers: 0, sequenceFloor: 5),
        .tenantState(
            tenant: "acme", nextSequence: 700,
            backlog: BacklogSummary(
                appendedLength: 900_000, releasedThrough: 650, releasedLength: 708_642,
                oldestReceived: timestamp - 1_000)),
        .tenantState(tenant: "café/東京", nextSequence: 9),
        .dropped(
            tenant: "acme", cause: .age, through: 600,
            total: DropTotal(
                records: 600, length: 654_321, firstReceived: timestamp - 5_000, lastReceived: timestamp - 4_000)),
        .dropped(
            tenant: "acme", cause: .erasure, through: 650,
            total: DropTotal(
                records: 50, length: 54_321, firstReceived: timestamp - 3_000, lastReceived: timestamp - 2_000)),
        .erasure(tenant: "acme", through: 650, requested: timestamp - 10, isComplete: true),
        .erasure(tenant: "café/東京", through: 8, requested: timestamp - 5, isComplete: false),
    ]

    static let controlRecords: [ControlRecord] = [
        .checkpoint(tenants: 1, cursors: 1, subscribers: 2, sequenceFloor: 5),
        .tenantState(tenant: "acme", nextSequence: 7),
        .cursor(subscriber: "collector", tenant: "acme", acknowledgedThrough: 6),
        .subscriber(name: "collector", isRegistered: true),
        .subscriber(name: "archive", isRegistered: false),
        .watermark(durableThrough: 1_000),
    ]
}
