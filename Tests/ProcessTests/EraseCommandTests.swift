import Foundation
import TestSupport
import Testing

/// `walctl erase`: what it asks, what it says, what is left.
@Suite struct EraseCommandTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }

    private struct Plan: Decodable {
        var appended: UInt64
        var undelivered: UInt64
        var segments: Int
    }

    private struct Report: Decodable {
        struct File: Decodable {
            var path: String
            var bytesOverwritten: UInt64
            var isRemoved: Bool
        }
        var erasedThrough: UInt64
        var undelivered: UInt64
        var files: [File]
        var leftAlone: [String]
    }

    private struct Tenant: Decodable {
        var tenant: String
        var appended: Int
        var erasedThrough: UInt64?
        var isErasureComplete: Bool?
    }

    private func fill(_ tenant: String, mark: String) throws {
        let lines = (1...2000).map { "{\"tenant.id\":\"\(tenant)\",\"n\":\($0),\"mark\":\"\(mark)\"}" }
        let input = lines.joined(separator: "\n")
        #expect(try walctl("append", root, "--format", "ndjson", "--batch", "100", input: input).status == 0)
    }

    /// A dry run changes nothing; without --yes nobody is asked where nobody can answer; then all of it goes, and the
    /// commands agree on that.
    @Test func whatIsErasedIsGoneForAllCommands() throws {
        try fill("acme", mark: "one-of-a-kind-4711")
        try fill("calm", mark: "quite-ordinary")
        #expect(try walctl("compact", root).status == 0)
        try fill("acme", mark: "one-of-a-kind-4711")
        let before = try walctl("cat", root).output
        let dry = try walctl("erase", root, "acme", "--dry-run", "--format", "json")
        #expect(dry.status == 0, "\(dry.error)")
        let plan = try JSONDecoder().decode(Plan.self, from: Data(dry.output.utf8))
        #expect(plan.appended == 4000 && plan.undelivered == 4000 && plan.segments == 1)
        try walctl("erase", root, "acme").expectFailure(2, saying: "--yes")
        #expect(try walctl("cat", root).output == before)

        let result = try walctl("erase", root, "acme", "--yes", "--format", "json")
        #expect(result.status == 0, "\(result.error)")
        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        #expect(report.erasedThrough == 4000 && report.undelivered == 4000 && report.leftAlone.isEmpty)
        #expect(report.files.contains { $0.isRemoved && $0.path.hasPrefix("tenants/acme/") })
        #expect(report.files.contains { !$0.isRemoved && $0.path.hasPrefix("journal/") && $0.bytesOverwritten > 0 })
        let scan = PayloadScan([Array("one-of-a-kind-4711".utf8)])
        #expect(try scan.places(below: root).isEmpty)
        let after = try walctl("cat", root).output
        #expect(after == before.split(separator: "\n").filter { !$0.contains("4711") }.map { $0 + "\n" }.joined())
        #expect(try walctl("verify", root).status == 0)
        let tenants = try walctl("tenants", root, "--format", "json")
        let lines = try JSONDecoder().decode([Tenant].self, from: Data(tenants.output.utf8))
        #expect(lines.map(\.tenant) == ["acme", "calm"] && lines.map(\.appended) == [4000, 2000])
        #expect(lines.map(\.erasedThrough) == [4000, nil] && lines.map(\.isErasureComplete) == [true, nil])
        #expect(try walctl("erase", root, "acme", "--yes").output.contains("erased through record 4000"))
        #expect(try walctl("inspect", root).status == 0)
    }

    @Test func badNamesAreToldInOneLine() throws {
        try fill("acme", mark: "x")
        try walctl("erase", root, "nobody", "--yes").expectFailure(2, saying: "no tenant nobody")
        try walctl("erase", root, "", "--yes").expectFailure(2, saying: "TENANT")
        try walctl("erase", directory.appending("none"), "acme", "--yes").expectFailure(2, saying: "no such directory")
    }
}
