import Testing
import WALFormat

/// The block that says what a segment is, and the index that says where its frames stand.
@Suite struct SegmentTests {
    private static let blockSize = 4096

    // MARK: - Summary

    private func summaryCause(_ change: (inout [UInt8]) -> Void) -> FormatError.Cause? {
        var bytes = SampleSegment.summaryBytes
        change(&bytes)
        bytes.seal(12..<Self.blockSize, at: 8)
        return cause { () throws(FormatError) in try decodeSummary(bytes) }
    }

    @Test func summaryComesBack() throws {
        #expect(try decodeSummary(SampleSegment.summaryBytes) == SampleSegment.summary)
        let behind = [UInt8](repeating: 7, count: Self.blockSize) + SampleSegment.summaryBytes
        #expect(try decodeSummary(behind, at: Self.blockSize) == SampleSegment.summary)
    }

    /// The layout that SPEC.md states, field by field.
    @Test func summaryLayout() {
        let bytes = SampleSegment.summaryBytes
        #expect(bytes.count == 4096 && Array(bytes[0..<8]) == Array("TWALSEG1".utf8))
        #expect(bytes.integer(UInt32.self, at: 8) == crc(bytes, 12..<4096))
        #expect(bytes.integer(UInt32.self, at: 12) == FormatLimits.formatVersion)
        #expect(Array(bytes[16..<20]) == [0x01, 0x23, 0x45, 0x67])
        #expect(bytes.integer(UInt32.self, at: 32) == 4096)
        #expect(bytes.integer(UInt16.self, at: 36) == 4 && bytes.integer(UInt16.self, at: 38) == 0)
        #expect(bytes.integer(UInt64.self, at: 40) == 1_700_000_000_000_000_000)
        #expect(bytes.integer(UInt64.self, at: 48) == 90 && bytes.integer(UInt64.self, at: 56) == 130)
        #expect(bytes.integer(UInt64.self, at: 64) == 16384)
        #expect(bytes.integer(UInt64.self, at: 72) == 8192)
        #expect(bytes.integer(UInt32.self, at: 80) == SampleSegment.summary.indexChecksum)
        #expect(bytes.integer(UInt32.self, at: 84) == 2 && bytes.integer(UInt32.self, at: 88) == 2)
        #expect(bytes.integer(UInt32.self, at: 92) == 0)
        #expect(bytes.integer(UInt64.self, at: 96) == 21 && bytes.integer(UInt64.self, at: 104) == 1400)
        #expect(bytes.integer(UInt64.self, at: 112) == 5 && bytes.integer(UInt64.self, at: 120) == 99)
        #expect(Array(bytes[128..<132]) == Array("acme".utf8))
        #expect(bytes.integer(UInt64.self, at: 384) == 40 && bytes.integer(UInt64.self, at: 392) == 41)
        #expect(bytes[132..<384].allSatisfy { $0 == 0 } && bytes[400...].allSatisfy { $0 == 0 })
    }

    @Test func timesOfReceiptInTheWrongOrderAreOutOfBounds() {
        #expect(summaryCause { $0.put(UInt64(42), at: 384) } == .field)
        #expect(summaryCause { $0.put(UInt64(0), at: 384) } == nil)
    }

    @Test func everyFlippedBitOfASummaryIsDetected() {
        var bytes = SampleSegment.summaryBytes
        for bit in 0..<Self.blockSize * 8 {
            bytes.flip(bit: bit)
            let found = cause { () throws(FormatError) in try decodeSummary(bytes) }
            if found != (bit < 64 ? .magic : .checksum) { Issue.record("bit \(bit)") }
            bytes.flip(bit: bit)
        }
    }

    @Test func summaryCutOffIsTruncated() {
        for length in [0, 1, 127, 4095] {
            let part = Array(SampleSegment.summaryBytes.prefix(length))
            #expect(cause { () throws(FormatError) in try decodeSummary(part) } == .truncated)
        }
        for base in [-1, 1, .max] {
            #expect(
                cause { () throws(FormatError) in try decodeSummary(SampleSegment.summaryBytes, at: base) }
                    == .truncated)
        }
    }

    @Test func versionIsTrustedOnlyBehindAGoodChecksum() {
        #expect(summaryCause { $0.put(FormatLimits.formatVersion + 1, at: 12) } == .version)
        var bytes = SampleSegment.summaryBytes
        bytes.put(FormatLimits.formatVersion + 1, at: 12)
        #expect(cause { () throws(FormatError) in try decodeSummary(bytes) } == .checksum)
    }

    @Test func summaryFieldsAreBounded() {
        #expect(summaryCause { _ in } == nil)
        #expect(summaryCause { $0.put(UInt32(8192), at: 32) } == .field)
        for length in [0, 256, .max] as [UInt16] { #expect(summaryCause { $0.put(length, at: 36) } == .field) }
        #expect(summaryCause { $0[128] = 0xFF } == .field)
        #expect(summaryCause { $0.put(UInt64(0), at: 48) } == .field)
        #expect(summaryCause { $0.put(UInt64(131), at: 48) } == .field)
        #expect(summaryCause { $0.put(FormatLimits.maximumNumber, at: 56) } == .field)
        for length in [0, 4096, 16385, FormatLimits.maximumSegmentLength + 4096] as [UInt64] {
            #expect(summaryCause { $0.put(length, at: 64) } == .field)
        }
        for offset in [0, 4088, 8193, 12288, .max - 7] as [UInt64] {
            #expect(summaryCause { $0.put(offset, at: 72) } == .field)
        }
        for count in [0, 22, 65537, .max] as [UInt32] { #expect(summaryCause { $0.put(count, at: 84) } == .field) }
        #expect(summaryCause { $0.put(UInt32(65537), at: 88) } == .field)
        for count in [0, 1, 42, .max] as [UInt64] { #expect(summaryCause { $0.put(count, at: 96) } == .field) }
        for count in [1 << 21, 1 << 60] as [UInt64] {
            let found = summaryCause {
                $0.put(FormatLimits.maximumNumber - 1, at: 56)
                $0.put(count + 1, at: 96)
                $0.put(FormatLimits.maximumNumber, at: 104)
            }
            #expect(found == .field)
        }
        #expect(summaryCause { $0.put(UInt64(21 * 16 - 1), at: 104) } == .field)
        #expect(summaryCause { $0.put(FormatLimits.maximumNumber + 1, at: 104) } == .field)
        #expect(summaryCause { $0.put(UInt64(4), at: 120) } == .field)
    }

    // MARK: - Index

    private func indexCause(_ change: (inout SegmentIndex) -> Void) -> FormatError.Cause? {
        var index = SampleSegment.index
        change(&index)
        let (bytes, checksum) = encodeIndex(index)
        var summary = SampleSegment.summary
        summary.indexChecksum = checksum
        return cause { () throws(FormatError) in try decodeIndex(bytes, of: summary) }
    }

    @Test func indexComesBack() throws {
        let (bytes, checksum) = encodeIndex(SampleSegment.index)
        #expect(checksum == crc(bytes) && checksum == SampleSegment.summary.indexChecksum)
        #expect(bytes.count == SampleSegment.summary.indexLength)
        #expect(try decodeIndex(bytes, of: SampleSegment.summary) == SampleSegment.index)
    }

    /// The layout that SPEC.md states, field by field.
    @Test func indexLayout() {
        let (bytes, _) = encodeIndex(SampleSegment.index)
        #expect(bytes.count == 2 * 56 + 2 * 24)
        #expect(bytes.integer(UInt64.self, at: 0) == 4096 && bytes.integer(UInt64.self, at: 8) == 100)
        #expect(bytes.integer(UInt32.self, at: 16) == 20 && bytes.integer(UInt32.self, at: 20) == 900)
        #expect(bytes.integer(UInt64.self, at: 24) == 5 && bytes.integer(UInt64.self, at: 32) == 60)
        #expect(bytes.integer(UInt32.self, at: 40) == 0xAABB_CCDD && bytes.integer(UInt32.self, at: 44) == 1000)
        #expect(bytes[48] == 3 && bytes[49..<56].allSatisfy { $0 == 0 })
        #expect(bytes.integer(UInt64.self, at: 56) == 5000 && bytes.integer(UInt64.self, at: 64) == 130)
        #expect(bytes.integer(UInt64.self, at: 112) == 91 && bytes.integer(UInt64.self, at: 120) == 95)
        #expect(bytes[128] == 1 && bytes[129..<136].allSatisfy { $0 == 0 })
        #expect(bytes.integer(UInt64.self, at: 136) == 125 && bytes.integer(UInt64.self, at: 144) == 129)
        #expect(bytes[152] == 2 && bytes[153..<160].allSatisfy { $0 == 0 })
    }

    @Test func everyFlippedBitOfAnIndexIsDetected() {
        var (bytes, _) = encodeIndex(SampleSegment.index)
        for bit in 0..<bytes.count * 8 {
            bytes.flip(bit: bit)
            let changed = bytes
            let found = cause { () throws(FormatError) in try decodeIndex(changed, of: SampleSegment.summary) }
            if found != .checksum { Issue.record("bit \(bit)") }
            bytes.flip(bit: bit)
        }
        let short = Array(bytes.dropLast())
        #expect(cause { () throws(FormatError) in try decodeIndex(short, of: SampleSegment.summary) } == .truncated)
    }

    @Test func framesFollowEachOtherInsideTheSegment() {
        #expect(indexCause { _ in } == nil)
        #expect(indexCause { $0.frames[0].offset = 4088 } == .field)
        #expect(indexCause { $0.frames[0].offset = 4097 } == .field)
        #expect(indexCause { $0.frames[1].offset = 4992 } == .field)
        #expect(indexCause { $0.frames[1].offset = .max - 7 } == .field)
        #expect(indexCause { $0.frames[1].storedLength = 3193 } == .field)
        #expect(indexCause { $0.frames[0].storedLength = 72 } == .field)
        #expect(indexCause { $0.frames[0].storedLength = 1073 } == .field)
        #expect(indexCause { $0.frames[0].firstSequence = 89 } == .field)
        #expect(indexCause { $0.frames[1].firstSequence = 119 } == .field)
        #expect(indexCause { $0.frames[1].firstSequence = 131 } == .field)
        #expect(indexCause { $0.frames[1].firstSequence = .max } == .field)
        #expect(indexCause { $0.frames[1].recordCount = 2 } == .field)
        #expect(indexCause { $0.frames[0].recordCount = 0 } == .field)
        #expect(indexCause { $0.frames[0].recordCount = 19 } == .field)
        #expect(indexCause { $0.frames[0].rawLength = 999 } == .field)
        #expect(indexCause { $0.frames[0].lowestTimestamp = 4 } == .field)
        #expect(indexCause { $0.frames[1].highestTimestamp = 100 } == .field)
        #expect(indexCause { $0.frames[0].kinds = [] } == .field)
        #expect(indexCause { $0.frames[0].kinds = .control } == .field)
        #expect(indexCause { $0.frames.swapAt(0, 1) } == .field)
    }

    @Test func lostRangesHoldNoRecord() {
        func changed(_ first: UInt64, _ last: UInt64) -> FormatError.Cause? {
            indexCause { $0.lostRanges[0].sequences = first...last }
        }
        #expect(changed(90, 99) == nil)
        #expect(changed(89, 95) == .field)
        #expect(changed(91, 100) == .field)
        #expect(changed(110, 110) == .field)
        #expect(changed(125, 125) == .field)
        #expect(changed(126, 131) == .field)
        #expect(indexCause { $0.lostRanges[1].sequences = 120...130 } == .field)
        var (bytes, _) = encodeIndex(SampleSegment.index)
        bytes[128] = 4
        var summary = SampleSegment.summary
        summary.indexChecksum = crc(bytes)
        #expect(cause { () throws(FormatError) in try decodeIndex(bytes, of: summary) } == .version)
        bytes[128] = 1
        bytes.put(UInt64(96), at: 112)
        summary.indexChecksum = crc(bytes)
        #expect(cause { () throws(FormatError) in try decodeIndex(bytes, of: summary) } == .field)
    }

    @Test func segmentWithoutRecordsMayTellOfLosses() throws {
        var (summary, index) = (SampleSegment.summary, SampleSegment.index)
        index.frames = []
        let (bytes, checksum) = encodeIndex(index)
        (summary.frameCount, summary.recordCount, summary.rawLength) = (0, 0, 0)
        (summary.indexChecksum, summary.lowestTimestamp, summary.highestTimestamp) = (checksum, 0, 0)
        #expect(try decodeSummary(encode(summary)) == summary)
        #expect(try decodeIndex(bytes, of: summary) == index)
    }

    // MARK: - Looking up

    @Test func framesAreFoundByNumber() {
        let index = SampleSegment.index
        for (sequence, expected) in [(1, 0), (100, 0), (119, 0), (120, 1), (130, 1), (131, 2)] as [(UInt64, Int)] {
            #expect(index.firstFrame(from: sequence) == expected)
        }
        #expect(SegmentIndex().firstFrame(from: 1) == 0)
    }

    @Test func framesAreFoundByTime() {
        let index = SampleSegment.index
        func found(_ times: ClosedRange<UInt64>) -> [UInt64] {
            index.frames.filter { $0.mayHold(times) }.map(\.firstSequence)
        }
        #expect(found(0...4).isEmpty && found(100...200).isEmpty)
        #expect(found(0...5) == [100])
        #expect(found(60...70) == [100, 130])
        #expect(found(61...99) == [130])
    }
}

/// A segment of 21 records in two frames, with two lost ranges.
enum SampleSegment {
    static let index = SegmentIndex(
        frames: [
            .init(
                offset: 4096, firstSequence: 100, recordCount: 20, storedLength: 900, lowestTimestamp: 5,
                highestTimestamp: 60, headerChecksum: 0xAABB_CCDD, rawLength: 1000,
                kinds: [RecordKindSet(.span), RecordKindSet(.log)]),
            .init(
                offset: 5000, firstSequence: 130, recordCount: 1, storedLength: 300, lowestTimestamp: 50,
                highestTimestamp: 99, headerChecksum: 1, rawLength: 400, kinds: RecordKindSet(.opaque)),
        ],
        lostRanges: [.init(sequences: 91...95, cause: .damaged), .init(sequences: 125...129, cause: .dropped)])

    static let summary = SegmentSummary(
        logIdentifier: GoldenContents.logIdentifier, blockSize: 4096, tenant: "acme",
        created: 1_700_000_000_000_000_000, covered: 90...130, length: 16384, indexOffset: 8192,
        indexChecksum: encodeIndex(index).checksum, frameCount: 2, lostRangeCount: 2, recordCount: 21, rawLength: 1400,
        lowestTimestamp: 5, highestTimestamp: 99, received: 40...41)

    static var summaryBytes: [UInt8] { encode(summary) }
}

private func encode(_ summary: SegmentSummary) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: summary.blockSize)
    bytes.withMutableRawSpan { (span: inout MutableRawSpan) in summary.encode(into: &span, at: 0) }
    return bytes
}

private func encodeIndex(_ index: SegmentIndex) -> (bytes: [UInt8], checksum: UInt32) {
    var bytes = [UInt8](repeating: 0xEE, count: index.length)
    let checksum = bytes.withMutableRawSpan { (span: inout MutableRawSpan) in index.encode(into: &span, at: 0) }
    return (bytes, checksum)
}
