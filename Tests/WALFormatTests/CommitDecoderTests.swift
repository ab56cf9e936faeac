import Testing
import WALFormat

@Suite struct CommitDecoderTests {
    /// Many tenants, raw and compressed, user and control: all come back as they were.
    @Test func everyFrameComesBack() throws {
        var generator = SeededGenerator(seed: 11)
        let samples = [
            SampleFrame("acme", first: 7, kind: .span, payloads: [compressibleBytes(20_000), [], [1]]),
            SampleFrame("globex", first: 1, kind: .metric, payloads: [generator.bytes(9_000)]),
            SampleFrame(control: [.watermark(durableThrough: 41)]),
            SampleFrame("ünï/cødé", first: 99, payloads: (0..<500).map { Array("record \($0)".utf8) }),
        ]
        let commit = try SampleCommit(samples)
        let decoded = try frames(of: commit.header, in: commit.bytes)
        #expect(decoded.map(\.header.codec) == [.lz4, .raw, .raw, .lz4])
        #expect(decoded.map(\.header.tenant) == samples.map(\.header.tenant))
        var end = CommitHeader.length + commit.header.frameHeadersLength
        for (frame, sample) in zip(decoded, samples) {
            #expect(frame.isIntact)
            #expect(frame.body.lowerBound == end)
            end = frame.body.upperBound
            #expect(frame.header.firstSequence == sample.header.firstSequence)
            #expect(frame.header.highestTimestamp == sample.header.highestTimestamp)
            let raw = try rawBody(of: frame, in: commit.bytes)
            #expect(raw == sample.body)
            try checkRecords(raw, count: frame.header.recordCount, isControl: frame.header.isControl)
        }
        #expect(end == commit.used)
    }

    @Test func mostFramesThatACommitHolds() throws {
        let count = FormatLimits.maximumFrameCount
        let commit = try SampleCommit(
            (0..<count).map { SampleFrame(TenantName(stringLiteral: "t\($0)"), payloads: [[UInt8($0 & 0xFF)]]) })
        let decoded = try frames(of: commit.header, in: commit.bytes)
        #expect(decoded.count == count)
        #expect(decoded.allSatisfy { $0.isIntact })
        #expect(decoded.last?.header.tenant == "t4095")
    }

    @Test func paddingNeedNotBeThere() throws {
        let commit = try SampleCommit.small()
        let used = Array(commit.bytes.prefix(commit.used))
        let whole = try frames(of: commit.header, in: commit.bytes)
        #expect(try frames(of: commit.header, in: used) == whole)
    }

    @Test func commitCutOffAnywhereIsTruncated() throws {
        let commit = try SampleCommit.small()
        for length in 0..<commit.used {
            let part = Array(commit.bytes.prefix(length))
            #expect(cause { () throws(FormatError) in try frames(of: commit.header, in: part) } == .truncated)
        }
    }

    /// Every bit outside the padding is vouched for: by the header, by the frame headers' checksum, or by exactly the
    /// one frame's whose body it is.
    @Test func everyFlippedBitIsDetectedAndBlamedOnItsPlace() throws {
        let commit = try SampleCommit.small()
        let intact = try frames(of: commit.header, in: commit.bytes)
        let headersEnd = CommitHeader.length + commit.header.frameHeadersLength
        var bytes = commit.bytes
        for bit in 0..<commit.used * 8 {
            bytes.flip(bit: bit)
            defer { bytes.flip(bit: bit) }
            guard case .valid(let header) = readCommit(bytes) else {
                if bit >= CommitHeader.length * 8 { Issue.record("bit \(bit) is none of the header's") }
                continue
            }
            let found = Result { () throws(FormatError) in try frames(of: header, in: bytes) }
            switch found {
            case .failure(let error):
                if error.cause != .checksum || bit >= headersEnd * 8 { Issue.record("bit \(bit): \(error)") }
            case .success(let frames):
                let damaged = intact.map { $0.body.contains(bit / 8) }
                if !damaged.contains(true) { Issue.record("bit \(bit) goes unnoticed") }
                if frames.map(\.isIntact) != damaged.map(!) { Issue.record("bit \(bit) is blamed on another frame") }
            }
        }
    }

    /// What SPEC.md says of padding: written as zeros, not covered, so that damage there loses nothing.
    @Test func paddingIsNotCovered() throws {
        let commit = try SampleCommit.small()
        let intact = try frames(of: commit.header, in: commit.bytes)
        var bytes = commit.bytes
        for index in commit.used..<bytes.count { bytes[index] = 0xFF }
        #expect(readCommit(bytes) == .valid(commit.header))
        #expect(try frames(of: commit.header, in: bytes) == intact)
    }

    @Test func damagedBodyIsNotReadAndItsNeighboursAre() throws {
        let commit = try SampleCommit.small()
        var bytes = commit.bytes
        bytes[commit.used - 1] ^= 1
        let decoded = try frames(of: commit.header, in: bytes)
        #expect(decoded.map(\.isIntact) == [true, false])
        #expect(try rawBody(of: decoded[0], in: bytes).count == 37)
        #expect(cause { () throws(FormatError) in try rawBody(of: decoded[1], in: bytes) } == .checksum)
    }
}
