import Testing
import WALFormat

@Suite struct CommitHeaderTests {
    private let identifier: [UInt8] = [
        0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0x4D, 0xEF, 0xBE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10,
    ]

    @Test func roundTrip() throws {
        let commit = try SampleCommit.small()
        #expect(readCommit(commit.bytes) == .valid(commit.header))
        #expect(readCommit([5, 6, 7] + commit.bytes, at: 3) == .valid(commit.header))
        #expect(commit.header.checksum == crc(identifier + commit.bytes[12..<96]))
    }

    /// The layout that SPEC.md states, field by field.
    @Test func layout() throws {
        let commit = try SampleCommit(
            [SampleFrame("acme", payloads: [[1]])], flags: [.checkpoint, .closing])
        let bytes = commit.bytes
        #expect(Array(bytes[0..<8]) == Array("TWALCMT1".utf8))
        #expect(bytes.integer(UInt32.self, at: 8) == crc(identifier + bytes[12..<96]))
        #expect(bytes.integer(UInt32.self, at: 12) == crc(bytes, 96..<168))
        #expect(bytes.integer(UInt64.self, at: 16) == 0x1122_3344_5566_7788)
        #expect(bytes.integer(UInt64.self, at: 24) == 3)
        #expect(bytes.integer(UInt64.self, at: 32) == 0x2000)
        #expect(bytes.integer(UInt64.self, at: 40) == 42)
        #expect(bytes.integer(UInt64.self, at: 48) == 40)
        #expect(bytes.integer(UInt64.self, at: 56) == 1_000_000)
        #expect(bytes.integer(UInt64.self, at: 64) == 0x0102_0304_0506_0708)
        #expect(bytes.integer(UInt32.self, at: 72) == 4096)
        #expect(bytes.integer(UInt32.self, at: 76) == 72)
        #expect(bytes.integer(UInt32.self, at: 80) == 17)
        #expect(bytes.integer(UInt32.self, at: 84) == 1)
        #expect(bytes.integer(UInt32.self, at: 88) == 0xDEAD_BEEF)
        #expect(bytes.integer(UInt32.self, at: 92) == 5)
    }

    /// What is right in every other way and does not know the log's UUID is no commit of it: an imitation in a payload,
    /// another log's commit.
    @Test func commitOfAnotherLogIsBroken() throws {
        let commit = try SampleCommit.small()
        var generator = SeededGenerator(seed: 5)
        let other = RootFormat(logIdentifier: LogIdentifier(using: &generator), blockSize: 4096, created: 0)
        #expect(readCommit(commit.bytes, of: other) == .broken(claimedEpoch: commit.header.epoch))
        var imitation = commit.bytes
        imitation.seal(12..<96, at: 8)
        #expect(readCommit(imitation) == .broken(claimedEpoch: commit.header.epoch))
    }

    @Test func lengthIsWholeBlocks() throws {
        var commit = try SampleCommit.small()
        #expect(readCommit(commit.bytes, of: .sample(blockSize: 8192)) == .broken(claimedEpoch: commit.header.epoch))
        commit.bytes.put(UInt32(8192), at: 72)
        commit.bytes.sealCommitHeader()
        for (blockSize, isValid) in [(4096, true), (8192, true), (16384, false)] {
            let reading = readCommit(commit.bytes, of: .sample(blockSize: blockSize))
            if case .valid = reading { #expect(isValid) } else { #expect(!isValid) }
        }
        commit.bytes.put(UInt32(8191), at: 72)
        commit.bytes.sealCommitHeader()
        #expect(readCommit(commit.bytes) == .broken(claimedEpoch: commit.header.epoch))
    }

    @Test func flagsHaveABitEach() {
        #expect(CommitHeader.Flags.checkpoint.rawValue == 1)
        #expect(CommitHeader.Flags.watermark.rawValue == 2)
        #expect(CommitHeader.Flags.closing.rawValue == 4)
    }

    @Test func everyFlippedBitIsDetected() throws {
        let commit = try SampleCommit.small()
        var bytes = commit.bytes
        for bit in 0..<CommitHeader.length * 8 {
            bytes.flip(bit: bit)
            switch readCommit(bytes) {
            case .valid: Issue.record("bit \(bit)")
            case .absent: if bit >= 64 { Issue.record("bit \(bit) lies behind the magic") }
            case .broken(let epoch):
                // Recovery goes by the epoch that is there, even where that itself is what broke.
                if bit < 64 || epoch != bytes.integer(UInt64.self, at: 16) { Issue.record("bit \(bit)") }
            }
            bytes.flip(bit: bit)
        }
    }

    @Test func zerosAreAbsent() {
        for count in [0, 1, 95, 96, 97, 4096] { #expect(readCommit([UInt8](repeating: 0, count: count)) == .absent) }
    }

    /// Zero may not pass behind a good magic either: the CRC32C of zeros is not zero.
    @Test func magicBeforeZerosIsBroken() {
        #expect(readCommit(Array("TWALCMT1".utf8) + [UInt8](repeating: 0, count: 4088)) == .broken(claimedEpoch: 0))
    }

    @Test(arguments: ["TWALCMT2", "TWALCMT0", "TWALJRN1", "TWALFMT1", "twalcmt1", "1TMCLAWT"])
    func foreignMagicIsAbsent(magic: String) throws {
        var bytes = try SampleCommit.small().bytes
        bytes.replaceSubrange(0..<8, with: magic.utf8)
        #expect(readCommit(bytes) == .absent)
    }

    @Test func headerCutOffAnywhereIsAbsent() throws {
        let bytes = try SampleCommit.small().bytes
        for length in 0..<CommitHeader.length { #expect(readCommit(Array(bytes.prefix(length))) == .absent) }
        let whole = Array(bytes.prefix(CommitHeader.length))
        for base in [-1, .min, 1, 96, 97, .max] { #expect(readCommit(whole, at: base) == .absent, "at \(base)") }
    }

    /// The checksum that the next commit repeats is the one that stands in the bytes, after encoding and after reading.
    @Test func chainOfTwoCommits() throws {
        let first = try SampleCommit.small()
        var placement = CommitPlacement.sample
        placement.previousChecksum = first.header.checksum
        let second = try SampleCommit([SampleFrame("acme", payloads: [[]])], placement: placement)
        guard case .valid(let readFirst) = readCommit(first.bytes),
            case .valid(let readSecond) = readCommit(second.bytes)
        else { throw FormatError(.magic, "a commit is not valid") }
        #expect(readSecond.previousChecksum == readFirst.checksum)
        #expect(readFirst.checksum == first.bytes.integer(UInt32.self, at: 8))
    }
}
