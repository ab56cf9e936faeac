import Testing
import WALFormat

@Suite struct FrameHeaderTests {
    private static func control() -> FrameHeader {
        var header = FrameHeader.sample
        (header.tenant, header.kinds, header.firstSequence) = (nil, .control, 0)
        return header
    }

    @Test func roundTrip() throws {
        #expect(try decodeFrame(FrameHeader.sample.encoded()) == .sample)
        #expect(try decodeFrame([1, 2, 3] + FrameHeader.sample.encoded(), at: 3) == .sample)
        #expect(try decodeFrame(Self.control().encoded()) == Self.control())
    }

    @Test func lastSequenceCountsTheRecords() {
        #expect(FrameHeader.sample.lastSequence == FrameHeader.sample.firstSequence + 2)
    }

    /// Names of every length modulo 8, where the header's padding changes.
    @Test func everyNameLengthComesBack() throws {
        for count in 1...FormatLimits.maximumNameLength {
            var header = FrameHeader.sample
            header.tenant = try TenantName(String(repeating: "n", count: count))
            let bytes = header.encoded()
            #expect(bytes.count == FrameHeader.length(tenantLength: count))
            #expect(bytes.count % 8 == 0 && bytes.count >= 64 + count && bytes.count < 64 + count + 8)
            #expect(try decodeFrame(bytes) == header)
        }
    }

    /// The layout that SPEC.md states, field by field.
    @Test func layout() {
        let bytes = FrameHeader.sample.encoded()
        #expect(bytes.count == 72)
        #expect(bytes.integer(UInt32.self, at: 0) == crc(bytes, 4..<72))
        #expect(bytes.integer(UInt16.self, at: 4) == 72)
        #expect(bytes[6] == 0b11 && bytes[7] == 2)
        #expect(bytes.integer(UInt64.self, at: 8) == 0x0102_0304_0506_0708)
        #expect(bytes.integer(UInt32.self, at: 16) == 3)
        #expect(bytes.integer(UInt32.self, at: 20) == 100)
        #expect(bytes.integer(UInt32.self, at: 24) == 400)
        #expect(bytes.integer(UInt32.self, at: 28) == 0xCAFE_F00D)
        #expect(bytes.integer(UInt64.self, at: 32) == 11)
        #expect(bytes.integer(UInt64.self, at: 40) == 22)
        #expect(bytes.integer(UInt64.self, at: 48) == 0)
        #expect(bytes.integer(UInt16.self, at: 56) == 4)
        #expect(Array(bytes[58...]) == [0, 0, 0, 0, 0, 0] + Array("acme".utf8) + [0, 0, 0, 0])
    }

    @Test func everyFlippedBitIsDetected() {
        for original in [FrameHeader.sample, Self.control()] {
            var bytes = original.encoded()
            for bit in 0..<bytes.count * 8 {
                bytes.flip(bit: bit)
                if cause({ () throws(FormatError) in try decodeFrame(bytes) }) == nil { Issue.record("bit \(bit)") }
                bytes.flip(bit: bit)
            }
        }
    }

    @Test func headerCutOffAnywhereIsRefused() {
        let bytes = FrameHeader.sample.encoded()
        for length in 0..<bytes.count {
            let part = Array(bytes.prefix(length))
            #expect(cause { () throws(FormatError) in try decodeFrame(part) } != nil, "\(length) bytes")
        }
        for offset in [-1, .min, 1, 72, 73, .max] {
            #expect(cause { () throws(FormatError) in try decodeFrame(bytes, at: offset) } != nil, "at \(offset)")
        }
    }

    @Test func zerosAreNeverAFrame() {
        for count in [64, 72, 320, 4096] {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(cause { () throws(FormatError) in try decodeFrame(bytes) } != nil)
        }
        // Not even with the length that belongs to them: a checksum of zero must not match.
        var bytes = [UInt8](repeating: 0, count: 64)
        bytes.put(UInt16(64), at: 4)
        #expect(cause { () throws(FormatError) in try decodeFrame(bytes) } == .checksum)
    }
}
