import Testing
import WALFormat

/// Decoders given anything at all. What they return must hold together, whatever the bytes; a trap ends the test run.
/// The same seeds come every time; Fuzz/ goes on where this ends.
@Suite struct MutationTests {
    /// Reads bytes in every way there is and checks what comes out against the bounds that callers rely on.
    private func readAll(_ bytes: [UInt8], at base: Int, decompressor: LZ4FrameDecompressor) {
        if case .valid(let commit) = readCommit(bytes, at: base) {
            let rest = base == 0 ? bytes : Array(bytes[base...])
            readFrames(of: commit, in: rest, decompressor: decompressor)
        }
        _ = try? decodeJournal(bytes, at: base)
        _ = try? decodeRoot(bytes)
        _ = try? decodeRecord(bytes, at: base)
        _ = try? decodeControl(bytes, count: 2)
        if let frame = try? decodeFrame(bytes, at: base) {
            precondition(frame.length <= bytes.count - base && frame.rawLength <= FormatLimits.maximumFrameRawLength)
        }
    }

    private func readFrames(of commit: CommitHeader, in bytes: [UInt8], decompressor: LZ4FrameDecompressor) {
        precondition(commit.commitLength <= FormatLimits.maximumCommitLength)
        precondition(96 + commit.frameHeadersLength + commit.bodiesLength <= commit.commitLength)
        guard let frames = try? frames(of: commit, in: bytes) else { return }
        precondition(frames.count == commit.frameCount)
        var end = 96 + commit.frameHeadersLength
        for frame in frames {
            precondition(frame.body.lowerBound == end && frame.body.count == frame.header.storedLength)
            end = frame.body.upperBound
            let raw = try? CommitDecoder.rawBody(of: frame, in: bytes.span.bytes, decompressor: decompressor)
            guard let raw else { continue }
            precondition(frame.isIntact && raw.count == frame.header.rawLength)
            _ = try? checkRecords(raw, count: frame.header.recordCount)
            let control = try? decodeControl(raw, count: frame.header.recordCount)
            precondition(control == nil || control?.count == frame.header.recordCount)
        }
        precondition(end == 96 + commit.frameHeadersLength + commit.bodiesLength)
    }

    @Test func randomBytesNeverTrap() {
        var generator = SeededGenerator(seed: 41)
        let decompressor = LZ4FrameDecompressor()
        let magics = ["TWALCMT1", "TWALJRN1", "TWALFMT1", ""]
        for _ in 0..<20_000 {
            var bytes = generator.bytes(generator.below(400))
            let magic = magics[generator.below(4)].utf8
            if bytes.count >= 8, !magic.isEmpty { bytes.replaceSubrange(0..<8, with: magic) }
            // Checksums right, fields random: only the bounds stand guard.
            if bytes.count >= 96, generator.below(2) == 0 { bytes.sealCommitHeader() }
            readAll(
                bytes, at: generator.below(8) == 0 ? generator.below(bytes.count + 1) : 0, decompressor: decompressor)
        }
    }

    @Test func mutatedCommitsNeverTrap() throws {
        var generator = SeededGenerator(seed: 42)
        let decompressor = LZ4FrameDecompressor()
        let commits = try Self.commits().map { Array($0.bytes.prefix($0.used)) }
        for _ in 0..<20_000 {
            var bytes = commits[generator.below(commits.count)]
            for _ in 0...generator.below(3) { mutate(&bytes, using: &generator) }
            if generator.below(4) > 0 { seal(&bytes) }
            readAll(bytes, at: 0, decompressor: decompressor)
        }
    }

    /// So that the test above tests something: mutations behind good checksums reach the innermost decoders.
    @Test func sealedMutationsReachTheBodies() throws {
        var generator = SeededGenerator(seed: 43)
        var reached = 0
        let commits = try Self.commits().map { Array($0.bytes.prefix($0.used)) }
        for _ in 0..<1_000 {
            var bytes = commits[generator.below(commits.count)]
            mutate(&bytes, using: &generator)
            seal(&bytes)
            guard case .valid(let commit) = readCommit(bytes), let frames = try? frames(of: commit, in: bytes) else {
                continue
            }
            if frames.allSatisfy({ $0.isIntact }) { reached += 1 }
        }
        #expect(reached > 300)
    }

    private static func commits() throws -> [SampleCommit] {
        [
            try .small(),
            try SampleCommit([SampleFrame("acme", payloads: [compressibleBytes(6_000)])]),
            try SampleCommit([
                SampleFrame(control: [
                    .checkpoint(tenants: 1, cursors: 1, subscribers: 1, sequenceFloor: 1),
                    .tenantState(tenant: "acme", nextSequence: 9),
                    .cursor(subscriber: "collector", tenant: "acme", acknowledgedThrough: 8),
                    .subscriber(name: "collector", isRegistered: true), .watermark(durableThrough: 4),
                ])
            ]),
        ]
    }

    private func mutate(_ bytes: inout [UInt8], using generator: inout SeededGenerator) {
        guard !bytes.isEmpty else { return }
        let index = generator.below(bytes.count)
        switch generator.below(6) {
        case 0: bytes.flip(bit: index * 8 + generator.below(8))
        case 1: bytes[index] = UInt8(truncatingIfNeeded: generator.next())
        case 2: bytes[index] = [0, 1, 0x7F, 0x80, 0xFF][generator.below(5)]
        case 3: bytes.removeLast(min(bytes.count, generator.below(40)))
        case 4: bytes += generator.bytes(generator.below(40))
        default:
            // A field of the headers, where most decisions are taken.
            let offset = generator.below(min(bytes.count, 240) / 4 + 1) * 4
            if offset + 4 <= bytes.count { bytes.put(UInt32(truncatingIfNeeded: generator.next() >> 40), at: offset) }
        }
    }

    /// Makes all checksums right that can be found, from the bodies up.
    private func seal(_ bytes: inout [UInt8]) {
        guard bytes.count >= 96 else { return }
        let headersEnd = 96 + Int(bytes.integer(UInt32.self, at: 76))
        var (header, body) = (96, headersEnd)
        for _ in 0..<min(bytes.integer(UInt32.self, at: 84), 8) where header + 64 <= bytes.count {
            let length = Int(bytes.integer(UInt16.self, at: header + 4))
            let stored = Int(bytes.integer(UInt32.self, at: header + 20))
            guard length >= 64, header + length <= bytes.count else { break }
            if body <= bytes.count, stored <= bytes.count - body { bytes.seal(body..<body + stored, at: header + 28) }
            bytes.seal(header + 4..<header + length, at: header)
            header += length
            body += stored
        }
        if headersEnd <= bytes.count { bytes.seal(96..<headersEnd, at: 12) }
        bytes.sealCommitHeader()
    }
}
