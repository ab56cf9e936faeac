import SimulatedKeys
import Testing

@testable import WALFormat

/// Encrypted frames: what they look like, and what they are bound to.
@Suite struct FrameSealTests {
    private let key = SimulatedKey(identifier: 7, secret: 0x5EC2E7)

    private func seal(
        _ key: (any FrameKey)? = nil, epoch: UInt64 = CommitPlacement.sample.epoch,
        _ log: LogIdentifier = RootFormat.sample().logIdentifier
    ) -> FrameSeal { FrameSeal(key: key ?? self.key, logIdentifier: log, epoch: epoch) }

    /// A commit of one frame.
    private func commit(_ frame: SampleFrame, seal: FrameSeal) throws -> (header: CommitHeader, bytes: [UInt8]) {
        let bound = CommitEncoder.bound(
            frameHeadersLength: frame.header.length, rawLengths: frame.body.count, frameCount: 1, blockSize: 4096)
        var buffer = [UInt8](repeating: 0xD1, count: bound)
        let compressor = LZ4FrameCompressor()
        let header = try buffer.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
            var encoder = CommitEncoder(
                at: 0, of: .sample(), frameHeadersLength: frame.header.length, rawLengths: frame.body.count)
            var header = frame.header
            try encoder.add(
                &header, rawBody: frame.body.span.bytes, into: &span, compressor: compressor, seal: seal)
            return encoder.finish(.sample, timestamp: 1, flags: [], into: &span)
        }
        return (header, Array(buffer[..<header.commitLength]))
    }

    private func body(_ frame: LocatedFrame, in bytes: [UInt8], _ seal: FrameSeal?) -> Result<[UInt8], FormatError> {
        do throws(FormatError) {
            return .success(
                try CommitDecoder.rawBody(
                    of: frame, in: bytes.span.bytes, decompressor: LZ4FrameDecompressor(), seal: seal))
        } catch { return .failure(error) }
    }

    private func cause(_ frame: LocatedFrame, in bytes: [UInt8], _ seal: FrameSeal?) -> FormatError.Cause? {
        guard case .failure(let error) = body(frame, in: bytes, seal) else { return nil }
        return error.cause
    }

    private static let short = SampleFrame("acme", first: 9, payloads: [Array("hello".utf8), []])
    /// One that is compressed.
    private static let long = SampleFrame(
        "acme", first: 9,
        payloads: (0..<60).map { Array("record number \($0) of sixty, much alike".utf8) + [1, 2, 3] }
            + [[UInt8](repeating: 7, count: 4000)])

    @Test(arguments: [0, 1]) func whatIsSealedIsOpened(_ which: Int) throws {
        let frame = which == 0 ? Self.short : Self.long
        let commit = try commit(frame, seal: seal())
        let frames = try CommitDecoder.frames(of: commit.header, in: commit.bytes.span.bytes)
        let found = try #require(frames.first)
        #expect(frames.count == 1 && found.isIntact)
        #expect(found.header.keyIdentifier == 7 && found.header.isSealed)
        #expect(found.header.codec == (which == 0 ? .raw : .lz4))
        #expect(found.header.rawLength == frame.body.count)
        if which == 0 { #expect(found.header.storedLength == frame.body.count + FrameSeal.overhead) }
        #expect(try body(found, in: commit.bytes, seal()).get() == frame.body)
        // Nothing of it lies in the open, nor does what an earlier commit left in the buffer.
        let hello = Array("hello".utf8)
        #expect(!commit.bytes.indices.dropLast(5).contains { Array(commit.bytes[$0..<$0 + 5]) == hello })
        // The same once more looks different.
        let again = try self.commit(frame, seal: seal())
        #expect(again.bytes[found.body] != commit.bytes[found.body])
    }

    @Test func nobodyElseOpensIt() throws {
        let commit = try commit(Self.short, seal: seal())
        let frame = try CommitDecoder.frames(of: commit.header, in: commit.bytes.span.bytes)[0]
        #expect(cause(frame, in: commit.bytes, nil) == .sealed)
        #expect(cause(frame, in: commit.bytes, seal(SimulatedKey(identifier: 8, secret: 0x5EC2E7))) == .sealed)
        #expect(cause(frame, in: commit.bytes, seal(SimulatedKey(identifier: 7, secret: 1))) == .authentication)
        #expect(cause(frame, in: commit.bytes, seal(epoch: 1)) == .authentication)
        var generator = SeededGenerator(seed: 77)
        #expect(cause(frame, in: commit.bytes, seal(nil, LogIdentifier(using: &generator))) == .authentication)
    }

    /// Each field of the header that says whose records these are and which.
    @Test func itIsBoundToItsPlace() throws {
        let commit = try commit(Self.short, seal: seal())
        let frame = try CommitDecoder.frames(of: commit.header, in: commit.bytes.span.bytes)[0]
        let changes: [(String, (inout FrameHeader) -> Void)] = [
            ("tenant", { $0.tenant = "acne" }),
            ("kinds", { $0.kinds = RecordKindSet(.log) }),
            ("codec", { $0.codec = .lz4 }),
            ("first sequence", { $0.firstSequence += 1 }),
            ("record count", { $0.recordCount -= 1 }),
            ("raw length", { $0.rawLength += 1 }),
            ("lowest timestamp", { $0.lowestTimestamp -= 1 }),
            ("highest timestamp", { $0.highestTimestamp += 1 }),
        ]
        for (field, change) in changes {
            var moved = frame
            change(&moved.header)
            #expect(cause(moved, in: commit.bytes, seal()) == .authentication, "not bound to: \(field)")
        }
        // A bit of the body, under a checksum that was made to hold.
        for offset in frame.body {
            var bytes = commit.bytes
            bytes[offset] ^= 1
            #expect(cause(frame, in: bytes, seal()) == .authentication, "byte \(offset)")
        }
    }

    @Test func boundsOfSealedFrames() throws {
        func cause(_ change: (inout FrameHeader) -> Void) -> FormatError.Cause? {
            var header = FrameHeader.sample
            header.keyIdentifier = .max
            change(&header)
            do throws(FormatError) {
                let bytes = header.encoded()
                _ = try FrameHeader.decode(bytes.span.bytes, at: 0)
                return nil
            } catch { return error.cause }
        }
        #expect(cause { $0.storedLength = 41 } == nil)
        #expect(cause { $0.storedLength = 40 } == .field)
        #expect(cause { $0.storedLength = 440 } == nil)
        #expect(cause { $0.storedLength = 441 } == .field)
        #expect(cause { ($0.codec, $0.storedLength) = (.raw, 440) } == nil)
        #expect(cause { ($0.codec, $0.storedLength) = (.raw, 439) } == .field)
        #expect(cause { ($0.tenant, $0.kinds, $0.firstSequence) = (nil, .control, 0) } == .field)
    }

    /// A carried frame is bound to what it was bound to in the journal, and says so itself.
    @Test(arguments: [0, 1]) func carriedFrameIsOpenedWithItsEpoch(_ which: Int) throws {
        let sample = which == 0 ? Self.short : Self.long
        let commit = try commit(sample, seal: seal())
        let frame = try CommitDecoder.frames(of: commit.header, in: commit.bytes.span.bytes)[0]
        let epoch = CommitPlacement.sample.epoch
        let taken = CarriedFrame(frame, in: commit.bytes.span.bytes, epoch: epoch)
        let carried = try #require(taken)
        let header = try decodeFrame(carried.bytes)
        #expect(header.isCarried && header.storedLength == frame.header.storedLength + 8)
        #expect(carried.entry.headerChecksum == header.checksum(in: carried.bytes.span.bytes))
        var located = LocatedFrame(header: header, body: header.length..<carried.bytes.count, isIntact: true)
        #expect(CRC32C.checksum(carried.bytes.span.bytes.extracting(located.body)) == header.bodyChecksum)
        #expect(located.epochInSegment(carried.bytes.span.bytes) == epoch)
        #expect(try body(located, in: carried.bytes, seal()).get() == sample.body)
        #expect(cause(located, in: carried.bytes, seal(epoch: 0)) == .authentication)
        located.header.firstSequence += 1
        #expect(cause(located, in: carried.bytes, seal()) == .authentication)
        // Not a second time, and nothing that is not encrypted.
        #expect(CarriedFrame(located, in: carried.bytes.span.bytes, epoch: epoch) == nil)
        located.header.isCarried = false
        located.header.keyIdentifier = 0
        #expect(CarriedFrame(located, in: carried.bytes.span.bytes, epoch: epoch) == nil)
    }

    /// In the journal no frame is.
    @Test func commitHasNoCarriedFrame() throws {
        // A compressed one, whose length would pass.
        var sample = Self.long
        sample.header.isCarried = true
        let commit = try commit(sample, seal: seal())
        #expect(throws: FormatError.self) {
            try CommitDecoder.frames(of: commit.header, in: commit.bytes.span.bytes)
        }
    }
}
