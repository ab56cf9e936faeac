import Testing
import WALFormat

/// Commits whose checksums all hold and whose parts contradict each other: a writer's error, which a reader must
/// notice rather than follow out of bounds.
@Suite struct CommitContradictionTests {
    private func cause(_ commit: SampleCommit) -> FormatError.Cause? {
        WALFormatTests.cause { () throws(FormatError) in try frames(of: commit.header, in: commit.bytes) }
    }

    /// The small commit after a change, with all checksums of headers right again.
    private func changed(_ change: (inout [UInt8]) -> Void) throws -> SampleCommit {
        var commit = try SampleCommit.small()
        change(&commit.bytes)
        try commit.reseal()
        return commit
    }

    @Test func fewerFramesThanHeadersLieThere() throws {
        #expect(cause(try changed { $0.put(UInt32(1), at: 84) }) == .field)
    }

    @Test func moreFramesThanHeadersLieThere() throws {
        var commit = try SampleCommit.small()
        commit.header.frameCount = 3
        #expect(cause(commit) == .truncated)
    }

    @Test func bodiesShorterThanTheirFramesSay() throws {
        #expect(cause(try changed { $0.put($0.integer(UInt32.self, at: 80) - 1, at: 80) }) == .field)
    }

    @Test func bodiesLongerThanTheirFramesSay() throws {
        #expect(cause(try changed { $0.put($0.integer(UInt32.self, at: 80) + 1, at: 80) }) == .field)
    }

    @Test func frameHeadersLongerThanTheyAre() throws {
        var commit = try SampleCommit.small()
        commit.bytes.put(UInt32(152), at: 76)
        commit.bytes.seal(96..<96 + 152, at: 12)
        commit.bytes.sealCommitHeader()
        guard case .valid(let header) = readCommit(commit.bytes) else { throw FormatError(.field, "not valid") }
        commit.header = header
        #expect(cause(commit) == .field)
    }

    /// Frame headers swapped: lengths add up all the same, the bodies' checksums tell.
    @Test func framesInTheWrongOrder() throws {
        let commit = try changed {
            let (first, second) = (Array($0[96..<168]), Array($0[168..<240]))
            $0.replaceSubrange(96..<240, with: second + first)
        }
        let decoded = try frames(of: commit.header, in: commit.bytes)
        #expect(decoded.map(\.header.tenant) == ["globex", "acme"])
        #expect(decoded.map(\.isIntact) == [false, false])
    }

    @Test func frameHeaderWithAWrongChecksumOfItsOwn() throws {
        #expect(cause(try changed { $0[96 + 32] ^= 1 }) == .checksum)
    }

    @Test func frameHeadersOfAnotherCommit() throws {
        let other = try SampleCommit([
            SampleFrame("acmf", first: 7, payloads: [Array("hello".utf8), []]),
            SampleFrame("globex", first: 1, kind: .log, payloads: [Array("world".utf8)]),
        ])
        var commit = try SampleCommit.small()
        commit.bytes.replaceSubrange(96..<240, with: other.bytes[96..<240])
        #expect(readCommit(commit.bytes) == .valid(commit.header))
        #expect(cause(commit) == .checksum)
    }

    @Test func recordsThatDoNotAddUp() throws {
        let body = recordBytes(kind: 4, timestamp: 1, [1, 2]) + recordBytes(kind: 1, timestamp: 2, [])
        try checkRecords(body, count: 2)
        func cause(_ body: [UInt8], _ count: Int, isControl: Bool = false) -> FormatError.Cause? {
            WALFormatTests.cause { () throws(FormatError) in
                try checkRecords(body, count: count, isControl: isControl)
            }
        }
        #expect(cause(body, 1) == .field)
        #expect(cause(body, 3) == .truncated)
        #expect(cause(body + [0], 2) == .field)
        #expect(cause(body, 0) == .field)
        #expect(cause([], 0) == nil)
    }

    @Test(arguments: [UInt8(5), 0x7F, 0x81, 0xFF])
    func recordsOfUnknownKindAreANewerVersion(kind: UInt8) throws {
        let body = recordBytes(kind: kind, timestamp: 1, [])
        #expect(WALFormatTests.cause { () throws(FormatError) in try checkRecords(body, count: 1) } == .version)
        try checkRecords(body, count: 1, isControl: true)
    }
}
