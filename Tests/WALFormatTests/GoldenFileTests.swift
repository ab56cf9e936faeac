import Foundation
import Testing
import WALFormat

/// Today's code against the bytes that version 2 wrote, in both directions; see Tests/Fixtures/golden/README.md.
@Suite struct GoldenFileTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../Fixtures/golden")

    /// Each file's name and how today's code writes it.
    private static let elements: [(name: String, encode: @Sendable () throws -> [UInt8])] = [
        ("FORMAT", { GoldenContents.rootFormat.encoded() }),
        ("journal-header.bin", { GoldenContents.journalHeader.encoded() }),
        ("journal-header-spare.bin", { GoldenContents.spareHeader.encoded() }),
        ("commit-raw.bin", { try GoldenContents.rawCommit().bytes }),
        (lz4Name, { try GoldenContents.lz4Commit().bytes }),
        ("commit-control.bin", { try GoldenContents.controlCommit().bytes }),
        ("commit-control-later.bin", { try GoldenContents.laterControlCommit().bytes }),
        (segmentName, { try GoldenContents.segment() }),
    ]

    private static let lz4Name = "commit-lz4.bin"
    private static let segmentName = "segment.bin"

    /// Writes all files anew, once and before any test reads them, where the environment asks for it.
    private static let prepared = Result {
        guard ProcessInfo.processInfo.environment["WRITE_GOLDEN_FILES"] == "1" else { return }
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        for (name, encode) in elements { try Data(encode()).write(to: directory.appending(path: name)) }
    }

    private static func committed(_ name: String) throws -> [UInt8] {
        try prepared.get()
        return Array(try Data(contentsOf: directory.appending(path: name)))
    }

    @Test func todaysCodeWritesTheSameBytes() throws {
        for (name, encode) in Self.elements where name != Self.lz4Name && name != Self.segmentName {
            let (today, golden) = (try encode(), try Self.committed(name))
            let difference = zip(today, golden).enumerated().first { $0.element.0 != $0.element.1 }?.offset
            #expect(today == golden, "\(name) differs at byte \(difference ?? min(today.count, golden.count))")
        }
    }

    @Test func filesAreSmallAndNoneIsForgotten() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.directory.path())
        #expect(
            Set(names)
                == Set(
                    Self.elements.map(\.name) + [
                        "README.md", "logs.tar.xz", "logs-with-segments.tar.xz", "logs-encrypted.tar.xz", "wal.keys",
                        "logs-carried.tar.xz",
                        "logs-placed.tar.xz",
                    ]))
        for (name, _) in Self.elements { #expect(try Self.committed(name).count <= 12288) }
    }

    @Test func rootFormatIsRead() throws {
        #expect(try decodeRoot(Self.committed("FORMAT")) == GoldenContents.rootFormat)
        #expect(GoldenContents.logIdentifier.description == "01234567-89ab-4def-bedc-ba9876543210")
    }

    @Test func journalHeadersAreRead() throws {
        for (name, header) in [
            ("journal-header.bin", GoldenContents.journalHeader),
            ("journal-header-spare.bin", GoldenContents.spareHeader),
        ] {
            let bytes = try Self.committed(name)
            #expect(try decodeJournal(bytes) == header)
            #expect(try decodeJournal(bytes, at: 4096) == header)
        }
    }

    /// (Its bytes depend on liblz4's version, as those of a compressed commit do.)
    @Test func segmentIsRead() throws {
        let bytes = try Self.committed(Self.segmentName)
        for base in [0, 8192] {
            let summary = try decodeSummary(bytes, at: base)
            #expect(summary.tenant == "acme" && summary.covered == 5...169 && summary.length == 12288)
            #expect(summary.created == GoldenContents.timestamp && summary.recordCount == 153)
            let start = Int(summary.indexOffset)
            let index = try decodeIndex(Array(bytes[start..<start + summary.indexLength]), of: summary)
            #expect(index.lostRanges == [.init(sequences: 10...15, cause: .damaged)])
            #expect(index.frames.map(\.firstSequence) == [7, 20] && index.frames.map(\.recordCount) == [3, 150])
            for (frame, sample) in zip(index.frames, [GoldenContents.rawFrames[0], GoldenContents.lz4Frame]) {
                let header = try decodeFrame(bytes, at: Int(frame.offset))
                #expect(header.checksum(in: bytes, at: Int(frame.offset)) == frame.headerChecksum)
                #expect(header.tenant == "acme" && header.firstSequence == frame.firstSequence)
                let body = Int(frame.offset) + header.length..<Int(frame.end)
                let located = LocatedFrame(header: header, body: body, isIntact: true)
                #expect(header.bodyChecksum == crc(bytes, body))
                #expect(try rawBody(of: located, in: bytes) == sample.body)
            }
        }
    }

    @Test func rawCommitIsRead() throws {
        try expect("commit-raw.bin", holds: GoldenContents.rawFrames, commit: 1_002, codecs: [.raw, .raw])
    }

    @Test func lz4CommitIsRead() throws {
        try expect(Self.lz4Name, holds: [GoldenContents.lz4Frame], commit: 1_003, codecs: [.lz4])
    }

    @Test(arguments: [
        ("commit-control.bin", GoldenContents.controlRecords),
        ("commit-control-later.bin", GoldenContents.laterControlRecords),
    ])
    func controlCommitIsRead(name: String, expected: [ControlRecord]) throws {
        let frame = SampleFrame(control: expected, timestamp: GoldenContents.timestamp)
        try expect(name, holds: [frame], commit: 1_001, codecs: [.raw], flags: [.checkpoint])
        let bytes = try Self.committed(name)
        let records = try decodeControl(Array(bytes[160..<160 + frame.body.count]), count: expected.count)
        #expect(records == expected)
    }

    /// Every type of control record stands in a golden file.
    @Test func everyTypeOfControlRecordIsThere() {
        let all = GoldenContents.controlRecords + GoldenContents.laterControlRecords
        #expect(Set(all.map { SampleFrame(control: [$0]).body[4] }) == [0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87])
    }

    /// The commit in a file against the frames that went into it.
    private func expect(
        _ name: String, holds samples: [SampleFrame], commit number: UInt64, codecs: [FrameCodec],
        flags: CommitHeader.Flags = []
    ) throws {
        let bytes = try Self.committed(name)
        guard case .valid(let commit) = readCommit(bytes) else { throw FormatError(.magic, "\(name) is no commit") }
        let placement = GoldenContents.placement(commit: number)
        #expect(
            CommitPlacement(
                epoch: commit.epoch, fileSequence: commit.fileSequence, offset: commit.offset,
                commitNumber: commit.commitNumber, durableThrough: commit.durableThrough,
                recordsBefore: commit.recordsBefore, previousChecksum: commit.previousChecksum) == placement)
        #expect(commit.timestamp == GoldenContents.timestamp)
        #expect(commit.flags == flags)
        #expect(commit.commitLength == bytes.count)
        let decoded = try frames(of: commit, in: bytes)
        #expect(decoded.map(\.header.codec) == codecs)
        #expect(decoded.count == samples.count)
        for (frame, sample) in zip(decoded, samples) {
            var expected = sample.header
            // Written by the encoder; the stored body's length and checksum are liblz4's affair.
            (expected.codec, expected.rawLength) = (frame.header.codec, sample.body.count)
            (expected.storedLength, expected.bodyChecksum) = (frame.body.count, crc(bytes, frame.body))
            #expect(frame.header == expected)
            #expect(try rawBody(of: frame, in: bytes) == sample.body)
        }
    }
}
