import Testing
import WALFormat

/// SPEC.md and the code say the same.
@Suite struct SpecificationTests {
    private static let limits: [String: UInt64] = [
        "formatVersion": UInt64(FormatLimits.formatVersion),
        "defaultBlockSize": UInt64(FormatLimits.defaultBlockSize),
        "maximumBlockSize": UInt64(FormatLimits.maximumBlockSize),
        "maximumNumber": FormatLimits.maximumNumber,
        "maximumNameLength": UInt64(FormatLimits.maximumNameLength),
        "maximumPayloadLength": UInt64(FormatLimits.maximumPayloadLength),
        "maximumFrameRawLength": UInt64(FormatLimits.maximumFrameRawLength),
        "maximumFrameCount": UInt64(FormatLimits.maximumFrameCount),
        "maximumRecordCount": UInt64(FormatLimits.maximumRecordCount),
        "maximumCommitLength": UInt64(FormatLimits.maximumCommitLength),
        "minimumJournalFileSize": FormatLimits.minimumJournalFileSize,
        "maximumJournalFileSize": FormatLimits.maximumJournalFileSize,
        "headerCopies": UInt64(FormatLimits.headerCopies),
        "maximumSegmentLength": FormatLimits.maximumSegmentLength,
        "maximumSegmentFrameCount": UInt64(FormatLimits.maximumSegmentFrameCount),
        "maximumCommitsUnderWay": UInt64(FormatLimits.maximumCommitsUnderWay),
    ]

    /// Swift cannot list an enum's static members, so its source is asked: a limit that is added there and not here
    /// would go untested.
    @Test func noLimitIsForgottenHere() throws {
        let declared = try Specification.lines(of: "Sources/WALFormat/FormatLimits.swift").compactMap {
            $0.firstMatch(of: /public static let ([A-Za-z]+)/).map { String($0.1) }
        }
        #expect(Set(declared) == Set(Self.limits.keys))
    }

    @Test(arguments: limits.keys.sorted())
    func limitIsTheOneThatTheSpecificationStates(name: String) throws {
        let row = try #require(try Specification.tableRows().first { $0.first == name }, "SPEC.md lacks \(name)")
        try #require(row.count >= 4, "the limits' table has name, value, unit and meaning")
        #expect(UInt64(row[1].filter { !", _".contains($0) }) == Self.limits[name])
        #expect(!row[3].isEmpty)
    }

    /// The paths that SPEC.md gives for names. Rows that describe long names in words are left to `TenantPathTests`.
    @Test func namesBecomeThePathsThatTheSpecificationStates() throws {
        let rows = try Specification.tableRows()
        let start = try #require(rows.firstIndex { $0.starts(with: ["name", "path"]) }, "no table of names and paths")
        var count = 0
        for row in rows[(start + 2)...].prefix(while: { $0.count == 3 }) where !row[0].contains("×") {
            #expect(try TenantName(row[0]).pathComponents.joined(separator: "/") == row[1])
            count += 1
        }
        #expect(count >= 5)
    }

    /// The example's table of fields says of each offset what its dump shows there, and leaves nothing out.
    @Test func workedExamplesTableIsItsDump() throws {
        let dump = try #require(try Specification.hexDumps().first { $0.starts(with: "TWALCMT1".utf8) })
        var end = 0
        for row in try Specification.tableRows() where row.count >= 3 && row[0].hasPrefix("0x") {
            guard let offset = Int(row[0].dropFirst(2), radix: 16), !row[1].isEmpty else { continue }
            let bytes = row[1].split(separator: " ").compactMap { UInt8($0, radix: 16) }
            // Other tables speak of 0x81 and the like; the example's rows follow each other from 0 on.
            guard offset == end, !bytes.isEmpty else { continue }
            end += bytes.count
            #expect(end <= dump.count && dump[offset..<end].elementsEqual(bytes), "\(row[0]) \(row[2])")
        }
        #expect(end == dump.count)
    }

    /// The commit that SPEC.md takes apart byte by byte.
    @Test func workedExampleIsACommitWithOneRecord() throws {
        let dumps = try Specification.hexDumps().filter { $0.starts(with: "TWALCMT1".utf8) }
        let bytes = try #require(dumps.first, "SPEC.md has no hex dump of a commit")
        guard case .valid(let commit) = readCommit(bytes) else { throw FormatError(.checksum, "not a valid commit") }
        #expect(commit.epoch == 0x1122_3344_5566_7788)
        #expect(commit.commitNumber == 2)
        #expect(commit.frameCount == 1)
        let frame = try #require(try frames(of: commit, in: bytes).first)
        #expect(frame.isIntact)
        #expect(frame.header.tenant == "acme")
        let body = try rawBody(of: frame, in: bytes)
        try checkRecords(body, count: 1)
        let record = try decodeRecord(body)
        #expect(RecordKind(rawValue: record.kind) == .opaque)
        #expect(Array(body[16...]) == Array("hello".utf8))
    }
}
