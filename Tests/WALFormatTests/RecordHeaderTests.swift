import Testing
import WALFormat

@Suite struct RecordHeaderTests {
    @Test(arguments: [
        RecordHeader(payloadLength: 0, kind: 1, timestamp: 0),
        RecordHeader(payloadLength: 5, kind: 4, timestamp: 0x0102_0304_0506_0708),
        RecordHeader(payloadLength: 300, kind: 0xFF, timestamp: .max),
    ])
    func roundTrip(header: RecordHeader) throws {
        let payload = [UInt8](repeating: 7, count: header.payloadLength)
        let bytes = recordBytes(kind: header.kind, timestamp: header.timestamp, payload)
        #expect(try decodeRecord(bytes) == header)
        #expect(try decodeRecord([9, 9, 9] + bytes, at: 3) == header)
    }

    /// The layout that SPEC.md states, byte by byte.
    @Test func layout() {
        let bytes = recordBytes(kind: 4, timestamp: 0x1112_1314_1516_1718, [0xAB])
        #expect(bytes == [1, 0, 0, 0, 4, 0, 0, 0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0xAB])
    }

    @Test func zerosAreNeverARecord() {
        #expect(cause { () throws(FormatError) in try decodeRecord([UInt8](repeating: 0, count: 64)) } == .field)
    }

    @Test func reservedBytesMustBeZero() {
        for offset in 5..<8 {
            var bytes = recordBytes(kind: 4, timestamp: 1, [])
            bytes[offset] = 1
            #expect(cause { () throws(FormatError) in try decodeRecord(bytes) } == .field)
        }
    }

    @Test func headerCutOffAnywhereIsRefused() {
        let bytes = recordBytes(kind: 4, timestamp: 1, [])
        for length in 0..<bytes.count {
            let part = Array(bytes.prefix(length))
            #expect(cause { () throws(FormatError) in try decodeRecord(part) } == .truncated)
        }
        for offset in [-1, .min, 1, 16, 17, .max] {
            #expect(cause { () throws(FormatError) in try decodeRecord(bytes, at: offset) } == .truncated)
        }
    }

    @Test func payloadEndsAtTheBodysEndAtTheLatest() throws {
        let bytes = recordBytes(kind: 4, timestamp: 1, [1, 2, 3])
        #expect(try decodeRecord(bytes).payloadLength == 3)
        let short = Array(bytes.dropLast())
        #expect(cause { () throws(FormatError) in try decodeRecord(short) } == .field)
    }

    @Test func payloadLengthAtItsLimitAndOneAbove() throws {
        let limit = FormatLimits.maximumPayloadLength
        // One byte more than the limit is there, so that only the limit can refuse it.
        var bytes = [UInt8](repeating: 0, count: RecordHeader.length + limit + 1)
        bytes.put(UInt32(4), at: 4)
        bytes.put(UInt32(limit), at: 0)
        #expect(try decodeRecord(bytes).payloadLength == limit)
        bytes.put(UInt32(limit + 1), at: 0)
        #expect(cause { () throws(FormatError) in try decodeRecord(bytes) } == .field)
        bytes.put(UInt32.max, at: 0)
        #expect(cause { () throws(FormatError) in try decodeRecord(bytes) } == .field)
    }

    @Test func kindSetsHoldOneBitAKind() {
        #expect(RecordKind.allCases.map { RecordKindSet($0).rawValue } == [1, 2, 4, 8])
        #expect(RecordKindSet.user.kinds == RecordKind.allCases)
        #expect(RecordKindSet.control.isDisjoint(with: .user))
        #expect(RecordKindSet.control.kinds.isEmpty)
        #expect(RecordKind(rawValue: 0) == nil)
        #expect(RecordKind.allCases.map(\.description) == ["span", "log", "metric", "opaque"])
    }
}
