import Testing
import WALFormat

/// When the encoder compresses a body, and when it lets it be.
@Suite struct CodecChoiceTests {
    private func headers(_ frames: [SampleFrame], blockSize: Int = 4096) throws -> [FrameHeader] {
        let commit = try SampleCommit(frames, blockSize: blockSize)
        return try WALFormatTests.frames(of: commit.header, in: commit.bytes).map(\.header)
    }

    private func codec(_ payload: [UInt8], blockSize: Int = 4096) throws -> FrameCodec {
        try headers([SampleFrame("acme", payloads: [payload])], blockSize: blockSize)[0].codec
    }

    /// Shrinking what fits into one block saves no I/O. 184 bytes of headers go before the payload.
    @Test(arguments: [4096, 8192, 65536])
    func whatFitsIntoOneBlockStaysRaw(blockSize: Int) throws {
        #expect(try codec(compressibleBytes(blockSize - 184), blockSize: blockSize) == .raw)
        #expect(try codec(compressibleBytes(blockSize - 183), blockSize: blockSize) == .lz4)
    }

    @Test func compressionSavesBlocks() throws {
        let commit = try SampleCommit([SampleFrame("acme", payloads: [compressibleBytes(50_000)])])
        #expect(commit.header.commitLength < 30_000)
    }

    @Test func whatDoesNotShrinkStaysRaw() throws {
        var generator = SeededGenerator(seed: 3)
        #expect(try codec(generator.bytes(100_000)) == .raw)
    }

    /// A sixteenth is the least that is worth a reader's decompression.
    @Test func littleSavedStaysRaw() throws {
        var generator = SeededGenerator(seed: 3)
        // 10,016 bytes with the record's header: 626 are a sixteenth.
        func codec(zeros: Int) throws -> FrameCodec {
            try self.codec(generator.bytes(10_000 - zeros) + [UInt8](repeating: 0, count: zeros))
        }
        #expect(try codec(zeros: 300) == .raw)
        #expect(try codec(zeros: 600) == .raw)
        #expect(try codec(zeros: 800) == .lz4)
    }

    @Test func smallBodiesStayRawAmongLargeOnes() throws {
        let zeros = { (count: Int) in [UInt8](repeating: 0, count: count - RecordHeader.length) }
        let headers = try headers([
            SampleFrame("large", payloads: [compressibleBytes(10_000)]),
            SampleFrame("below", payloads: [zeros(255)]), SampleFrame("limit", payloads: [zeros(256)]),
        ])
        #expect(headers.map(\.codec) == [.lz4, .raw, .lz4])
        #expect(headers.map(\.rawLength) == [10_016, 255, 256])
    }

    @Test func encoderFillsInCodecLengthsAndChecksum() throws {
        let frame = SampleFrame("acme", payloads: [compressibleBytes(10_000)])
        let commit = try SampleCommit([frame])
        let header = try #require(try WALFormatTests.frames(of: commit.header, in: commit.bytes).first?.header)
        var expected = frame.header
        expected.codec = .lz4
        expected.rawLength = 10_016
        expected.storedLength = commit.header.bodiesLength
        expected.bodyChecksum = crc(commit.bytes, 168..<commit.used)
        #expect(header == expected)
    }
}
