import Testing
import WALFormat

@Suite struct JournalFileHeaderTests {
    private static let blockSize = FormatLimits.defaultBlockSize

    /// The sample after a change to its first copy's bytes, with the checksum right again.
    private func cause(bytes change: (inout [UInt8]) -> Void) -> FormatError.Cause? {
        var bytes = JournalFileHeader.sample.encoded()
        change(&bytes)
        bytes.seal(12..<Self.blockSize, at: 8)
        return WALFormatTests.cause { () throws(FormatError) in try decodeJournal(bytes) }
    }

    private func cause(_ change: (inout JournalFileHeader) -> Void) -> FormatError.Cause? {
        var header = JournalFileHeader.sample
        change(&header)
        let bytes = header.encoded()
        return WALFormatTests.cause { () throws(FormatError) in try decodeJournal(bytes) }
    }

    @Test func bothCopiesComeBack() throws {
        let bytes = JournalFileHeader.sample.encoded()
        #expect(try decodeJournal(bytes) == .sample)
        #expect(try decodeJournal(bytes, at: Self.blockSize) == .sample)
        #expect(Array(bytes[..<Self.blockSize]) == Array(bytes[Self.blockSize...]))
        #expect(JournalFileHeader.sample.commitsStart == 8192)
    }

    @Test(arguments: [4096, 8192, 65536])
    func everyBlockSizeComesBack(blockSize: Int) throws {
        var header = JournalFileHeader.sample
        header.blockSize = blockSize
        #expect(try decodeJournal(header.encoded(), at: blockSize, blockSize: blockSize) == header)
        #expect(header.commitsStart == UInt64(2 * blockSize))
    }

    @Test func spareComesBack() throws {
        var header = JournalFileHeader.sample
        (header.fileSequence, header.firstCommit, header.oldestLiveFileSequence) = (0, 0, 0)
        header.previous = .init()
        #expect(header.isSpare && !JournalFileHeader.sample.isSpare)
        #expect(try decodeJournal(header.encoded()) == header)
    }

    /// The layout that SPEC.md states, field by field.
    @Test func layout() {
        let bytes = JournalFileHeader.sample.encoded()
        #expect(Array(bytes[0..<8]) == Array("TWALJRN1".utf8))
        #expect(bytes.integer(UInt32.self, at: 8) == crc(bytes, 12..<4096))
        #expect(bytes.integer(UInt32.self, at: 12) == 2)
        #expect(bytes.integer(UInt64.self, at: 32) == 0x1122_3344_5566_7788)
        #expect(bytes.integer(UInt64.self, at: 40) == 5)
        #expect(bytes.integer(UInt64.self, at: 48) == 64 << 20)
        #expect(bytes.integer(UInt32.self, at: 56) == 4096)
        #expect(bytes.integer(UInt32.self, at: 60) == 0)
        #expect(bytes.integer(UInt64.self, at: 64) == 1_700_000_000_000_000_000)
        #expect(bytes.integer(UInt64.self, at: 72) == 42)
        #expect(bytes.integer(UInt64.self, at: 80) == 2)
        #expect(bytes.integer(UInt64.self, at: 88) == 0x99AA_BBCC_DDEE_FF00)
        #expect(bytes.integer(UInt64.self, at: 96) == 0x3F_F000)
        #expect(bytes.integer(UInt64.self, at: 104) == 41)
        #expect(bytes.integer(UInt32.self, at: 112) == 0xDEAD_BEEF)
        #expect(bytes.integer(UInt32.self, at: 116) == 0)
        #expect(bytes.integer(UInt64.self, at: 120) == 123_456)
        #expect(bytes.integer(UInt64.self, at: 128) == 4)
        #expect(bytes.integer(UInt64.self, at: 136) == 98_765)
        #expect(bytes[144..<4096].allSatisfy { $0 == 0 })
    }

    /// All 32,768 bits of the block, the zeros behind the fields included.
    @Test func everyFlippedBitIsDetected() {
        var bytes = JournalFileHeader.sample.encoded()
        for bit in 0..<Self.blockSize * 8 {
            bytes.flip(bit: bit)
            let cause = WALFormatTests.cause { () throws(FormatError) in try decodeJournal(bytes) }
            if cause != (bit < 64 ? .magic : .checksum) { Issue.record("bit \(bit)") }
            bytes.flip(bit: bit)
        }
    }

    @Test func headerCutOffAnywhereIsTruncated() {
        let bytes = Array(JournalFileHeader.sample.encoded().prefix(Self.blockSize))
        for length in 0..<Self.blockSize {
            let part = Array(bytes.prefix(length))
            let cause = WALFormatTests.cause { () throws(FormatError) in try decodeJournal(part) }
            if cause != .truncated { Issue.record("\(length) bytes") }
        }
        for base in [-1, .min, 1, 4096, .max] {
            let cause = WALFormatTests.cause { () throws(FormatError) in try decodeJournal(bytes, at: base) }
            #expect(cause == .truncated, "at \(base)")
        }
    }

    @Test func zerosAreNeverAHeader() {
        #expect(cause(bytes: { for index in $0.indices { $0[index] = 0 } }) == .magic)
    }

    @Test func foreignMagic() {
        #expect(cause(bytes: { $0.replaceSubrange(0..<8, with: "TWALJRN2".utf8) }) == .magic)
        #expect(cause(bytes: { $0.replaceSubrange(0..<8, with: "TWALFMT1".utf8) }) == .magic)
    }

    /// Damage must never pass for a newer version: the checksum is asked first.
    @Test func versionIsTrustedOnlyBehindAGoodChecksum() {
        #expect(cause(bytes: { $0.put(FormatLimits.formatVersion + 1, at: 12) }) == .version)
        #expect(cause(bytes: { $0.put(UInt32(0), at: 12) }) == .version)
        var bytes = JournalFileHeader.sample.encoded()
        bytes.put(FormatLimits.formatVersion + 1, at: 12)
        #expect(WALFormatTests.cause { () throws(FormatError) in try decodeJournal(bytes) } == .checksum)
    }

    @Test func capacity() {
        let (least, most) = (FormatLimits.minimumJournalFileSize, FormatLimits.maximumJournalFileSize)
        #expect(cause { $0.capacity = least } == nil)
        #expect(cause { $0.capacity = least - 4096 } == .field)
        #expect(cause { $0.capacity = most } == nil)
        #expect(cause { $0.capacity = most + 4096 } == .field)
        #expect(cause { $0.capacity = least + 1 } == .field)
        #expect(cause { $0.capacity = .max } == .field)
    }

    @Test func sequenceFloor() {
        #expect(cause { $0.sequenceFloor = 0 } == .field)
        #expect(cause { $0.sequenceFloor = 1 } == nil)
        #expect(cause { $0.sequenceFloor = FormatLimits.maximumNumber } == nil)
        #expect(cause { $0.sequenceFloor = FormatLimits.maximumNumber + 1 } == .field)
    }

    @Test func blockSizeIsTheLogs() {
        #expect(cause(bytes: { $0.put(UInt32(8192), at: 56) }) == .field)
        #expect(cause(bytes: { $0.put(UInt32(0), at: 56) }) == .field)
    }

    @Test func epochIsNotZero() { #expect(cause { $0.epoch = 0 } == .field) }

    @Test func firstCommitFollowsThePreviousFilesLast() {
        #expect(cause { $0.firstCommit = 43 } == .field)
        #expect(cause { $0.firstCommit = 41 } == .field)
        let most = FormatLimits.maximumNumber
        #expect(cause { ($0.firstCommit, $0.previous.lastCommit) = (most, most - 1) } == nil)
        #expect(cause { ($0.firstCommit, $0.previous.lastCommit) = (most + 1, most) } == .field)
        #expect(cause { ($0.firstCommit, $0.previous.lastCommit) = (.max, .max - 1) } == .field)
        #expect(cause { ($0.firstCommit, $0.previous.lastCommit) = (0, .max) } == .field)
    }

    @Test func previousFileIsAnEarlierOne() {
        #expect(cause { $0.previous.fileSequence = 5 } == .field)
        #expect(cause { $0.previous.fileSequence = 6 } == .field)
        #expect(cause { $0.previous.fileSequence = 0 } == nil)
    }

    @Test func numbersAtTheirLimitAndOneAbove() {
        let most = FormatLimits.maximumNumber
        #expect(cause { $0.fileSequence = most } == nil)
        #expect(cause { $0.fileSequence = most + 1 } == .field)
        #expect(cause { $0.recordsBefore = most } == nil)
        #expect(cause { $0.recordsBefore = most + 1 } == .field)
        #expect(cause { $0.previous.endOffset = FormatLimits.maximumJournalFileSize } == nil)
        #expect(cause { $0.previous.endOffset = FormatLimits.maximumJournalFileSize + 1 } == .field)
    }

    @Test func oldestLiveFileIsThisOneAtTheLatest() {
        #expect(cause { $0.oldestLiveFileSequence = 5 } == nil)
        #expect(cause { $0.oldestLiveFileSequence = 6 } == .field)
        #expect(cause { $0.oldestLiveFileSequence = 1 } == nil)
        #expect(cause { $0.oldestLiveFileSequence = 0 } == .field)
    }
}
