import Testing
import WALFormat

@Suite struct CommitEncoderTests {
    @Test func frameHeadersStandTogetherAndBodiesBehindThem() throws {
        let frames = [
            SampleFrame("acme", payloads: [Array("one".utf8)]), SampleFrame("a much longer name", payloads: [[], [2]]),
            SampleFrame("x", payloads: [[3, 3, 3]]),
        ]
        let commit = try SampleCommit(frames)
        #expect(commit.header.frameCount == 3)
        #expect(commit.header.frameHeadersLength == 72 + 88 + 72)
        #expect(commit.header.bodiesLength == 19 + 33 + 19)
        #expect(Array(commit.bytes[96 + 232..<commit.used]) == frames.flatMap(\.body))
        #expect(commit.header.frameHeadersChecksum == crc(commit.bytes, 96..<96 + 232))
    }

    @Test(arguments: [4096, 8192, 65536])
    func lengthIsAMultipleOfTheBlockSize(blockSize: Int) throws {
        var generator = SeededGenerator(seed: 4)
        for payload in [1, blockSize - 184, blockSize - 183, 3 * blockSize] {
            let commit = try SampleCommit(
                [SampleFrame("acme", payloads: [generator.bytes(payload)])], blockSize: blockSize)
            #expect(commit.header.commitLength % blockSize == 0)
            #expect(commit.header.commitLength - commit.used < blockSize)
        }
    }

    /// Header, one frame header of 72 bytes and one record header leave 3,912 bytes of a block for the payload.
    @Test func fullBlockHasNoPadding() throws {
        var generator = SeededGenerator(seed: 5)
        let full = try SampleCommit([SampleFrame("acme", payloads: [generator.bytes(3_912)])])
        #expect(full.header.commitLength == 4096 && full.used == 4096)
        let more = try SampleCommit([SampleFrame("acme", payloads: [generator.bytes(3_913)])])
        #expect(more.header.commitLength == 8192 && more.used == 4097)
    }

    /// What an earlier commit left in the buffer may be another tenant's.
    @Test(arguments: [UInt8(0x00), 0x5A, 0xFF])
    func paddingIsZeroHoweverDirtyTheBufferWas(dirt: UInt8) throws {
        let commit = try SampleCommit([SampleFrame("acme", payloads: [[1, 2, 3]])], dirt: dirt)
        #expect(commit.bytes[commit.used...].allSatisfy { $0 == 0 })
        #expect(commit.bytes.count == 4096 && commit.used < 200)
        let clean = try SampleCommit([SampleFrame("acme", payloads: [[1, 2, 3]])], dirt: 0)
        #expect(commit.bytes == clean.bytes)
    }

    /// Compression writes where the body may not stay: nothing of what was tried there may be left.
    @Test func paddingIsZeroBehindARefusedCompression() throws {
        var generator = SeededGenerator(seed: 6)
        let commit = try SampleCommit([
            SampleFrame("acme", payloads: [generator.bytes(5_000)]), SampleFrame("globex", payloads: [[1]]),
        ])
        #expect(commit.bytes[commit.used...].allSatisfy { $0 == 0 })
    }

    @Test func nothingAroundTheCommitIsTouched() throws {
        let commit = try SampleCommit([SampleFrame("acme", payloads: [[1, 2, 3]])], at: 4096, dirt: 0x77)
        #expect(commit.buffer[..<4096].allSatisfy { $0 == 0x77 })
        #expect(commit.buffer[8192...].allSatisfy { $0 == 0x77 })
        #expect(readCommit(commit.buffer, at: 4096) == .valid(commit.header))
    }

    /// The bound must hold for bodies that do not shrink, many or long: `add` traps where room is missing.
    @Test(arguments: [(4096, 256), (4096, 16), (40, 65_536), (7, 1_000_000), (1, FormatLimits.maximumPayloadLength)])
    func boundHoldsForIncompressibleFrames(frames: Int, payload: Int) throws {
        var generator = SeededGenerator(seed: 7)
        // One piece of randomness for all: making it anew costs more than the test.
        let noise = generator.bytes(min(payload, 1 << 20))
        let body = (0..<payload / noise.count).flatMap { _ in noise }
        let commit = try SampleCommit(
            (0..<frames).map { SampleFrame(TenantName(stringLiteral: "tenant-\($0)"), payloads: [body]) })
        #expect(commit.header.frameCount == frames)
        #expect(readCommit(commit.bytes) == .valid(commit.header))
    }

    @Test func framesThatWereAnnouncedMustBeAdded() async {
        await #expect(processExitsWith: .failure) {
            var buffer = [UInt8](repeating: 0, count: 1 << 20)
            buffer.withMutableRawSpan { (span: inout MutableRawSpan) in
                let encoder = CommitEncoder(at: 0, of: .sample(), frameHeadersLength: 72, rawLengths: 100)
                _ = encoder.finish(.sample, timestamp: 0, flags: [], into: &span)
            }
        }
    }
}
