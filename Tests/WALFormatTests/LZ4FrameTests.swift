import Testing
import WALFormat

@Suite struct LZ4FrameTests {
    private static let sizes = [
        1, 2, 15, 16, 17, 255, 256, 257, 4095, 4096, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1 << 20,
    ]

    @Test(arguments: sizes)
    func roundTrip(size: Int) throws {
        var generator = SeededGenerator(seed: UInt64(size))
        let contents = [[UInt8](repeating: 0, count: size), compressibleBytes(size), generator.bytes(size)]
        for raw in contents {
            let frame = try compressed(raw)
            #expect(frame.count <= LZ4FrameCompressor.bound(rawLength: size))
            #expect(try decompressed(frame, rawLength: size) == raw)
        }
    }

    /// The smallest body that a frame can hold is one record header; nothing must go wrong below it all the same.
    @Test func emptyBodyMakesAFrame() throws {
        let frame = try compressed([])
        #expect(frame.count >= 11)
        #expect(try decompressed(frame, rawLength: 0) == [])
    }

    @Test func largestBody() throws {
        let raw = [UInt8](repeating: 0xAB, count: FormatLimits.maximumFrameRawLength)
        let frame = try compressed(raw)
        #expect(frame.count < raw.count / 100)
        #expect(try decompressed(frame, rawLength: raw.count) == raw)
    }

    @Test func compressionStartsAtTheOffsetGiven() throws {
        let raw = compressibleBytes(1_000)
        var target = [UInt8](repeating: 0x77, count: 300 + LZ4FrameCompressor.bound(rawLength: raw.count))
        let compressor = LZ4FrameCompressor()
        let length = try target.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
            try compressor.compress(raw.span.bytes, into: &span, at: 300)
        }
        #expect(target[..<300].allSatisfy { $0 == 0x77 })
        #expect(try decompressed(Array(target[300..<300 + length]), rawLength: 1_000) == raw)
    }

    /// One context serves many frames: what came before, damaged frames included, leaves no trace.
    @Test func contextsAreUsedAgain() throws {
        let decompressor = LZ4FrameDecompressor()
        let raw = compressibleBytes(100_000)
        let frame = try compressed(raw)
        for length in [0, 5, 1_000, frame.count - 1] {
            let part = Array(frame.prefix(length))
            #expect(throws: FormatError.self) { try decompressed(part, rawLength: raw.count, with: decompressor) }
            #expect(try decompressed(frame, rawLength: raw.count, with: decompressor) == raw)
        }
    }

    /// The frame states its content's size, so that the `lz4` tool can tell how much memory it needs.
    @Test func frameStatesItsContentSize() throws {
        let frame = try compressed(compressibleBytes(5_000))
        #expect(frame.integer(UInt32.self, at: 0) == 0x184D_2204)
        #expect(frame[4] & 0x08 != 0)
        #expect(frame.integer(UInt64.self, at: 6) == 5_000)
    }
}
