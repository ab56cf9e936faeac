import Testing
import WALFormat

/// Frames that are not what their header says. `decompressed` stops the test run where a byte is written outside the
/// target, so that refusing is one half of each test and staying inside the other.
@Suite struct LZ4DamageTests {
    private func isRefused(_ frame: [UInt8], rawLength: Int) -> Bool {
        cause { () throws(FormatError) in try decompressed(frame, rawLength: rawLength) } == .compression
    }

    @Test func frameCutOffAnywhereIsRefused() throws {
        let frame = try compressed(compressibleBytes(3_000))
        for length in 0..<frame.count { #expect(isRefused(Array(frame.prefix(length)), rawLength: 3_000)) }
    }

    @Test func bytesBehindTheFrameAreRefused() throws {
        let frame = try compressed(compressibleBytes(3_000))
        #expect(isRefused(frame + [0], rawLength: 3_000))
        #expect(isRefused(frame + frame, rawLength: 3_000))
        #expect(isRefused(frame + frame, rawLength: 6_000))
    }

    @Test func otherLengthThanDeclaredIsRefused() throws {
        let frame = try compressed(compressibleBytes(3_000))
        for rawLength in [0, 1, 16, 2_999, 3_001, 6_000, 1 << 20] { #expect(isRefused(frame, rawLength: rawLength)) }
    }

    /// Without a checksum of its own a damaged frame may decompress to other bytes of the right length: the body's
    /// CRC32C is there for that. It must stay inside its target.
    @Test func flippedBitsNeverOverrun() throws {
        var frame = try compressed(compressibleBytes(2_000))
        var refused = 0
        for bit in 0..<frame.count * 8 {
            frame.flip(bit: bit)
            if isRefused(frame, rawLength: 2_000) { refused += 1 }
            frame.flip(bit: bit)
        }
        // The frame's header (15 bytes and the end mark's 4) is checked by liblz4 in any case.
        #expect(refused > 15 * 8)
    }

    @Test func randomBytesAreRefused() {
        var generator = SeededGenerator(seed: 31)
        for _ in 0..<2_000 {
            var bytes = generator.bytes(generator.below(200))
            if bytes.count >= 4, generator.below(2) == 0 { bytes.put(UInt32(0x184D_2204), at: 0) }
            #expect(isRefused(bytes, rawLength: 1 + generator.below(1_000)))
        }
    }

    @Test func handmadeFrameIsRead() throws {
        let block = Array("0123456789abcdef".utf8)
        #expect(try decompressed(handmadeLZ4Frame(contentSize: 16, block: block), rawLength: 16) == block)
        #expect(try decompressed(handmadeLZ4Frame(contentSize: nil, block: block), rawLength: 16) == block)
    }

    /// A frame that promises exbibytes must neither take memory for them nor pass for a frame of 16 bytes.
    @Test(arguments: [17, 1 << 32, 1 << 62, UInt64.max])
    func hugeContentSizeIsRefused(contentSize: UInt64) {
        let block = Array("0123456789abcdef".utf8)
        #expect(isRefused(handmadeLZ4Frame(contentSize: contentSize, block: block), rawLength: 16))
        #expect(isRefused(handmadeLZ4Frame(contentSize: contentSize, block: block + block), rawLength: 16))
        #expect(isRefused(handmadeLZ4Frame(contentSize: contentSize, block: []), rawLength: 16))
    }

    @Test func moreContentThanAnnouncedIsRefused() {
        let block = Array("0123456789abcdef".utf8)
        #expect(isRefused(handmadeLZ4Frame(contentSize: 16, block: block + block), rawLength: 32))
        #expect(isRefused(handmadeLZ4Frame(contentSize: nil, block: block + block), rawLength: 16))
    }

    /// A frame that the format lets the reader pass over is no body.
    @Test func skippableFrameIsRefused() {
        #expect(isRefused([0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], rawLength: 16))
    }

    /// A megabyte of zeros in a few kilobytes: what the frame header declares is what is written, no more.
    @Test func bombStopsAtTheDeclaredLength() throws {
        let bomb = try compressed([UInt8](repeating: 0, count: 4 << 20))
        #expect(bomb.count < 40_000)
        #expect(isRefused(bomb, rawLength: 1_000))
    }

    @Test func commitWithADamagedFrameUnderAGoodChecksumIsRefused() throws {
        var commit = try SampleCommit([SampleFrame("acme", payloads: [compressibleBytes(20_000)])])
        let body = CommitHeader.length + commit.header.frameHeadersLength
        commit.bytes[body + 6] ^= 1
        commit.bytes.seal(body..<commit.used, at: 96 + 28)
        commit.bytes.seal(100..<body, at: 96)
        try commit.reseal()
        let frame = try #require(try frames(of: commit.header, in: commit.bytes).first)
        #expect(frame.isIntact)
        #expect(cause { () throws(FormatError) in try rawBody(of: frame, in: commit.bytes) } == .compression)
    }
}
