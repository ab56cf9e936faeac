import Testing
import WALFormat

/// What a frame header may hold, each bound tried on it and one beyond. The checksum is right in all of them: the
/// bound alone decides.
@Suite struct FrameHeaderBoundsTests {
    private func cause(_ change: (inout FrameHeader) -> Void) -> FormatError.Cause? {
        var header = FrameHeader.sample
        change(&header)
        let bytes = header.encoded()
        return WALFormatTests.cause { () throws(FormatError) in try decodeFrame(bytes) }
    }

    /// Changes bytes that no `FrameHeader` can say, and makes the checksum right again.
    private func cause(of header: FrameHeader = .sample, bytes change: (inout [UInt8]) -> Void) -> FormatError.Cause? {
        var bytes = header.encoded()
        change(&bytes)
        bytes.seal(4..<bytes.count, at: 0)
        return WALFormatTests.cause { () throws(FormatError) in try decodeFrame(bytes) }
    }

    @Test func recordCount() {
        let most = FormatLimits.maximumRecordCount
        #expect(cause { ($0.recordCount, $0.rawLength) = (1, 400) } == nil)
        #expect(cause { $0.recordCount = 0 } == .field)
        // That many records with payloads of no bytes fill a frame up to its raw length.
        #expect(cause { ($0.recordCount, $0.rawLength) = (most, most * 16) } == nil)
        #expect(cause { ($0.recordCount, $0.rawLength) = (most + 1, FormatLimits.maximumFrameRawLength) } == .field)
    }

    @Test func rawLength() {
        #expect(cause { $0.rawLength = FormatLimits.maximumFrameRawLength } == nil)
        #expect(cause { $0.rawLength = FormatLimits.maximumFrameRawLength + 1 } == .field)
        #expect(cause { ($0.storedLength, $0.rawLength) = (40, 48) } == nil)
        // Three records need three headers.
        #expect(cause { ($0.storedLength, $0.rawLength) = (40, 47) } == .field)
    }

    @Test func storedLength() {
        #expect(cause { $0.storedLength = 1 } == nil)
        #expect(cause { $0.storedLength = 0 } == .field)
        #expect(cause { $0.storedLength = 400 } == nil)
        #expect(cause { $0.storedLength = 401 } == .field)
    }

    @Test func rawCodecStoresWhatItHolds() {
        #expect(cause { ($0.codec, $0.storedLength) = (.raw, 400) } == nil)
        #expect(cause { ($0.codec, $0.storedLength) = (.raw, 399) } == .field)
    }

    /// The number behind the last record's must be one that a frame can have, too.
    @Test func sequenceNumbers() {
        let most = FormatLimits.maximumNumber
        #expect(cause { $0.firstSequence = most - 3 } == nil)
        #expect(cause { $0.firstSequence = most - 2 } == .field)
        #expect(cause { $0.firstSequence = .max } == .field)
        #expect(cause { $0.firstSequence = 1 } == nil)
    }

    @Test func zeroIsNoSequenceNumberOfAUser() {
        #expect(cause { $0.firstSequence = 0 } == .field)
    }

    @Test func controlFramesHaveNeitherTenantNorSequence() {
        #expect(cause { ($0.tenant, $0.kinds, $0.firstSequence) = (nil, .control, 0) } == nil)
        #expect(cause { ($0.tenant, $0.kinds, $0.firstSequence) = (nil, .control, 1) } == .field)
        #expect(cause { ($0.kinds, $0.firstSequence) = (.control, 0) } == .field)
    }

    @Test func kindsGoTogetherWithATenant() {
        #expect(cause { $0.kinds = .user } == nil)
        #expect(cause { $0.kinds = [] } == .field)
        #expect(cause { $0.kinds = RecordKindSet(rawValue: 0x10) } == .field)
        #expect(cause { $0.kinds = RecordKindSet(rawValue: 0x81) } == .field)
        #expect(cause { $0.tenant = nil } == .field)
    }

    @Test func unknownCodecIsANewerVersion() {
        #expect(cause(bytes: { $0[7] = 0 }) == .version)
        #expect(cause(bytes: { $0[7] = 3 }) == .version)
        #expect(cause(bytes: { $0[7] = 1 }) == .field)
    }

    @Test func nameLengthAndHeaderLengthBelongTogether() {
        #expect(cause(bytes: { $0.put(UInt16(64), at: 4) }) == .field)
        #expect(cause(bytes: { $0.put(UInt16(80), at: 4) }) == .field)
        #expect(cause(bytes: { $0.put(UInt16(9), at: 56) }) == .field)
        #expect(cause(bytes: { $0.put(UInt16.max, at: 56) }) == .field)
    }

    @Test func nameLengthOneAboveItsLimit() {
        var header = FrameHeader.sample
        header.tenant = TenantName(stringLiteral: String(repeating: "x", count: 255))
        // 255 and 256 bytes of name make headers of the same length: only the limit tells them apart.
        #expect(header.encoded().count == FrameHeader.length(tenantLength: 256))
        #expect(cause(of: header, bytes: { _ in }) == nil)
        #expect(cause(of: header, bytes: { $0.put(UInt16(256), at: 56) }) == .field)
    }

    @Test func nameMustBeAName() {
        #expect(cause(bytes: { $0[64] = 0 }) == .field)
        #expect(cause(bytes: { $0[64] = 0xFF }) == .field)
    }
}
