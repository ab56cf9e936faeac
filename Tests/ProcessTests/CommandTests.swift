import Foundation
import TestSupport
import Testing

/// What `walctl` does when all is well.
@Suite struct CommandTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }
    let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"

    @Test func everyFormatOfTheSampleIsTakenIn() throws {
        for (file, records) in [
            ("agent-spans.json", nil), ("agent-spans.pb", nil), ("agent-spans.delimited", 1000),
            ("agent-logs.json", nil), ("agent-metrics.pb", nil),
        ] as [(String, Int?)] {
            let root = directory.appending(file)
            let result = try walctl("append", root, projectFolder + "/Tests/Fixtures/" + file)
            #expect(result.status == 0, "\(file): \(result.error)")
            let appended = try appendedRecords(root).values.reduce(0, +)
            if let records { #expect(appended == records) } else { #expect(appended > 0) }
        }
    }

    @Test func receiptsNameTenantSequenceAndSpan() throws {
        let result = try walctl("append", root, sample, "--receipts")
        #expect(result.status == 0)
        let lines = result.output.split(separator: "\n")
        #expect(lines.count == 1000)
        #expect(lines.first?.contains("\"first\":1,") == true)
        #expect(lines.allSatisfy { $0.contains("\"ids\":[\"") && $0.contains("\"microseconds\":") })
    }

    @Test func whatGoesInComesOutOfCat() throws {
        let lines = (1...30).map { "{\"n\":\($0),\"tenant.id\":\"acme\"}" }
        _ = try walctl("append", root, "--format", "ndjson", input: lines.joined(separator: "\n"))
        #expect(try walctl("cat", root, "--tenant", "acme").output.split(separator: "\n").map(String.init) == lines)
        let some = try walctl("cat", root, "--tenant", "acme", "--from", "11", "--limit", "3")
        #expect(some.output.split(separator: "\n").map(String.init) == Array(lines[10..<13]))
    }

    @Test func catOfSpansCanBeAppendedAgain() throws {
        _ = try walctl("append", root, sample)
        let lines = try walctl("cat", root).output
        let again = directory.appending("again")
        let result = try walctl("append", again, "--format", "otlp-json", input: lines)
        #expect(result.status == 0, "\(result.error)")
        #expect(try appendedRecords(again) == appendedRecords(root))
        #expect(try walctl("cat", again).output == lines)
    }

    /// What `compact` moves shows in `segments`, `tenants`, `cat` and `verify`, and is replayed as before.
    @Test func whatIsCompactedIsStillThere() throws {
        _ = try walctl("append", root, sample)
        let before = try walctl("cat", root).output.split(separator: "\n").sorted()
        let tenants = try walctl("tenants", root, "--format", "json").output
        let compacted = try walctl("compact", root, "--format", "json")
        #expect(compacted.status == 0, "\(compacted.error)")
        #expect(compacted.output.contains("\"recordsMoved\" : 1000"))
        #expect(try walctl("cat", root).output.split(separator: "\n").sorted() == before)
        #expect(try walctl("tenants", root, "--format", "json").output == tenants)
        let segments = try walctl("segments", root)
        #expect(segments.status == 0, "\(segments.error)")
        #expect(segments.output.hasPrefix("tenant"))
        struct Line: Decodable {
            var tenant: String
            var records: Int
            var path: String
        }
        func lines() throws -> [Line] {
            let result = try walctl("segments", root, "--format", "json")
            return try JSONDecoder().decode([Line].self, from: Data(result.output.utf8))
        }
        let found = try lines()
        try #require(!found.isEmpty)
        #expect(found.reduce(0) { $0 + $1.records } == 1000)
        #expect(try walctl("segments", root, "--tenant", found[0].tenant).output.contains(found[0].tenant))
        try walctl("segments", root, "--tenant", "nobody").expectFailure(2, saying: "nobody")
        try walctl("compact", root, "--segment-limit-mib", "0").expectFailure(2, saying: "--segment-limit-mib")
        #expect(try walctl("verify", root).status == 0)
        #expect(try walctl("verify", root).output.contains("\(found.count) segments, 1000 records"))
        // A damaged one is a finding, and costs what stood there.
        let path = root + "/" + found[0].path
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        bytes[4096 + 200] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let verified = try walctl("verify", root)
        #expect(verified.status == 1 && verified.output.contains("segmentDamaged: \(found[0].path)"))
        bytes[4096 + 200] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let replay = try walctl("replay", root, "--to", "-")
        #expect(replay.output.split(separator: "\n").sorted() == before)
        #expect(try lines().isEmpty)
    }

    @Test func replayToFilesMovesTheSubscribersCursorOnly() throws {
        _ = try walctl("append", root, sample)
        let out = directory.appending("out")
        let first = try walctl("replay", root, "--to", "file:" + out, "--format", "json")
        #expect(first.status == 0, "\(first.error)")
        #expect(first.output.contains("\"records\" : 1000"))
        #expect(
            try walctl("replay", root, "--to", "file:" + out, "--format", "json").output.contains("\"records\" : 0"))
        let other = try walctl("replay", root, "--to", "-", "--subscriber", "other")
        #expect(other.output.split(separator: "\n").count == 1000)
        let files = try FileManager.default.contentsOfDirectory(atPath: out)
        #expect(files.count == 40)
        #expect(files.contains("tenant-00.ndjson"))
    }

    @Test func readOnlyCommandsChangeNoByte() throws {
        _ = try walctl("append", root, sample, "--journal-file-mib", "1", "--journal-limit-mib", "64")
        let before = try fingerprint(root)
        let commands = [
            ["inspect"], ["tenants"], ["cat"], ["verify"], ["segments"], ["repair"], ["retention", "show"],
            ["placement", "show"], ["verify", "--deep"], ["erase", "tenant-00", "--dry-run"],
            ["retention", "apply", "--tenant-budget-mib", "512", "--dry-run"],
        ]
        for command in commands {
            // The root comes behind the names of commands.
            let names = command.prefix { !$0.hasPrefix("-") && $0 != "tenant-00" }
            let result = try run(builtProduct("walctl"), names + [root] + command.dropFirst(names.count))
            #expect(result.status == 0, "\(command): \(result.error)")
        }
        #expect(try fingerprint(root) == before)
    }

    private func fingerprint(_ root: String) throws -> [String: Data] {
        var contents: [String: Data] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: root) {
            contents[name] = FileManager.default.contents(atPath: root + "/" + name) ?? Data()
        }
        return contents
    }

    @Test func inspectShowsEveryLevel() throws {
        _ = try walctl("append", root, sample)
        #expect(try walctl("inspect", root).output.contains("00000000.journal"))
        let commits = try walctl("inspect", root, "--file", "00000000.journal", "--format", "json").output
        #expect(commits.contains("\"checkpoint\""))
        let frames = try walctl("inspect", root, "--file", "00000000.journal", "--commit", "2").output
        #expect(frames.contains("tenant-00") && frames.contains("span"))
        let one = try walctl("inspect", root, "--file", "00000000.journal", "--commit", "2", "--frame", "0")
        #expect(one.status == 0)
    }

    @Test func helpShowsExamplesAndExitCodes() throws {
        let help = try walctl("--help")
        #expect(help.status == 0)
        #expect(help.output.contains("EXIT CODES") && help.output.contains("EXAMPLES"))
        let commands = [
            "append", "cat", "compact", "doctor", "erase", "inspect", "keys", "placement", "repair", "replay",
            "retention",
            "segments", "tenants", "verify",
        ]
        for command in commands {
            #expect(help.output.contains("  \(command) "), "\(command)")
            let help = try walctl(command, "--help")
            #expect(help.status == 0)
            #expect(help.output.contains("EXAMPLES"), "\(command)")
        }
    }

    @Test func recordsOfSomeTimesAreShown() throws {
        _ = try walctl("append", root, sample)
        func lines(_ arguments: String...) throws -> Int {
            let result = try walctl(["cat", root] + arguments)
            #expect(result.status == 0, "\(result.error)")
            return result.output.split(separator: "\n").count
        }
        let all = try lines()
        let early = try lines("--until", "2020-01-01")
        #expect(try early + lines("--since", "2020-01-01T00:00:00Z") == all)
        #expect(try lines("--since", "2020-01-01", "--until", "2100-01-01T00:00:00.500Z") + early == all)
        #expect(try lines("--since", "2100-01-01") == 0)
        let wrong = [
            "yesterday", "2026-11-28T09:30", "2026-11-28T09:30:00", "2026-11-28 09:30:00Z", "2026-11-28garbage",
            "2026-11-28T09:30:00Zjunk", "2026-02-30", "2026-02-30T00:00:00Z", "5", "-5m", "1600-01-01",
        ]
        for time in wrong { #expect(try walctl("cat", root, "--since=\(time)").status == 2, "\(time)") }
        let empty = try walctl("cat", root, "--since", "2020-01-02", "--until", "2020-01-01")
        #expect(empty.status == 2 && empty.error.contains("--until is not behind --since"))
    }

    @Test func budgetsAreShown() throws {
        _ = try walctl("append", root, sample)
        #expect(try !walctl("tenants", root, "--format", "json").output.contains("budgetBytes"))
        let given = ["--tenant-budget-mib", "3", "--tenant-policy", "tenant-01:7,drop-oldest"]
        let table = try walctl(["tenants", root] + given).output
        #expect(table.contains("budget") && table.contains("3.00 MiB") && table.contains("7.00 MiB"), "\(table)")
        let lines = try walctl(["tenants", root, "--format", "json"] + given).output
        #expect(lines.contains("\"budgetBytes\" : 3145728") && lines.contains("\"budgetBytes\" : 7340032"))
    }

    @Test func wrongUsageEndsWithTwo() throws {
        #expect(try walctl("frobnicate", root).status == 2)
        #expect(try walctl("append").status == 2)
        #expect(try walctl("append", root, "--batch", "0").status == 2)
        #expect(try walctl("inspect", root, "--commit", "1").status == 2)
        #expect(try walctl("replay", root, "--to", "ftp://x").status == 2)
    }
}
