import Foundation
import TestSupport
import Testing

/// `walctl retention`, and the policies that the writing commands take.
@Suite struct RetentionCommandTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }

    private struct Status: Decodable {
        struct Dropped: Decodable {
            var cause: String
            var records: UInt64
        }
        var tenant: String
        var backlog: UInt64
        var backlogBytes: UInt64
        var dropped: [Dropped]
    }

    private struct Drop: Decodable, Equatable {
        var tenant: String
        var cause: String
        var first: UInt64
        var last: UInt64
    }

    private func lines(_ count: Int, tenant: String) -> String {
        (1...count).map {
            "{\"n\":\($0),\"tenant.id\":\"\(tenant)\",\"text\":\"\(String(repeating: "x", count: 1000))\"}"
        }
        .joined(separator: "\n")
    }

    private func show() throws -> [Status] {
        let result = try walctl("retention", "show", root, "--format", "json")
        let found = try JSONDecoder().decode([Status].self, from: Data(result.output.utf8))
        #expect(result.status == (found.contains { !$0.dropped.isEmpty } ? 1 : 0), "\(result.error)")
        return found
    }

    /// A dry run says what goes and changes nothing; then it goes, is counted, and is seen by all commands.
    @Test func whatADryRunSaysIsWhatGoes() throws {
        for tenant in ["acme", "calm"] {
            let input = lines(3000, tenant: tenant)
            #expect(
                try walctl("append", root, "--format", "ndjson", "--batch", "100", input: input).status == 0)
        }
        #expect(try show().map(\.backlog) == [3000, 3000])
        let policy = ["--tenant-policy", "acme:1,drop-oldest", "--format", "json"]
        func apply(_ more: String...) throws -> [Drop] {
            let result = try walctl(["retention", "apply", root] + policy + more)
            #expect(result.status == 1, "\(result.error)")
            return try JSONDecoder().decode([Drop].self, from: Data(result.output.utf8))
        }
        let before = try walctl("cat", root).output
        let plan = try apply("--dry-run")
        #expect(plan.count == 1 && plan[0].tenant == "acme" && plan[0].cause == "budget" && plan[0].first == 1)
        #expect(try walctl("cat", root).output == before)
        #expect(try apply() == plan)
        let after = try show()
        #expect(after[0].dropped.map(\.records) == [plan[0].last] && after[0].backlogBytes <= 1 << 20)
        #expect(after[1].dropped.isEmpty && after[1].backlog == 3000)
        let tenants = try walctl("tenants", root)
        #expect(tenants.status == 0 && tenants.output.contains("\(plan[0].last)"))
        #expect(try walctl("verify", root).status == 0, "what was dropped is no damage")
        #expect(try walctl("retention", "show", root).output.contains("budget"))
    }

    /// Drop-newest is told record by record, and ends with 1; back-pressure ends with 3 and says what to do.
    @Test func appendsMeetTheirBudget() throws {
        let input = lines(1500, tenant: "acme")
        let newest = try walctl(
            "append", root, "--format", "ndjson", "--batch", "10", "--tenant-budget-mib", "1", "--when-full",
            "drop-newest", input: input)
        #expect(newest.status == 1 && newest.error.contains("dropped: its budget is used up"), "\(newest.error)")
        #expect(try show()[0].dropped.map(\.cause) == ["newest"])
        try walctl("append", root, "--format", "ndjson", "--tenant-budget-mib", "1", input: input)
            .expectFailure(3, saying: "replay and acknowledge")
    }

    @Test func policiesThatCannotBeRead() throws {
        _ = try walctl("append", root, "--format", "ndjson", input: lines(1, tenant: "acme"))
        for (arguments, words) in [([], "no policy"), (["--tenant-age", "7x"], "7x")] {
            let result = try walctl(["retention", "apply", root] + arguments)
            #expect(result.status == 2 && result.error.contains(words), "\(result.error)")
        }
        try walctl("retention", "apply", root, "--tenant-policy", "acme").expectFailure(2, saying: "colon")
        try walctl("retention", "apply", root, "--tenant-policy", "acme:1,oldest").expectFailure(2, saying: "oldest")
        try walctl("retention", "apply", root, "--tenant-age", "0s").expectFailure(2, saying: "at least a second")
    }
}
