import Foundation
import TestSupport
import Testing

/// `walctl repair`: what it says that it would do, what it does, and what the other commands say afterwards.
@Suite struct RepairCommandTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }

    private struct Report: Decodable {
        struct Loss: Decodable {
            var tenant: String
            var first: UInt64
            var last: UInt64
        }
        struct Step: Decodable {
            var action: String
            var path: String
            var losses: [Loss]
            var unnamedRecords: UInt64
        }
        var isApplied: Bool
        var steps: [Step]
        var setAside: [String]
        var recordsGivenUp: UInt64
        var remaining: [Step]
    }

    private struct Verified: Decodable {
        struct Finding: Decodable { var what: String }
        var findings: [Finding]
        var givenUp: [Report.Loss]
    }

    private func fill(_ tenant: String) throws {
        let lines = (1...400).map { "{\"tenant.id\":\"\(tenant)\",\"n\":\($0)}" }.joined(separator: "\n")
        #expect(try walctl("append", root, "--format", "ndjson", "--batch", "100", input: lines).status == 0)
    }

    private func decode<Value: Decodable>(_ result: ProcessResult) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(result.output.utf8))
    }

    @Test func damageGoesToQuarantineAndIsKnownFromThenOn() throws {
        try fill("acme")
        try fill("calm")
        #expect(try walctl("repair", root).status == 0)
        var file = try #require(try JournalImage.live(in: root).first)
        let hit = try #require(file.commits.filter { !$0.records.isEmpty }.dropFirst(2).first)
        file.flip(at: hit.body(try #require(hit.frames.first)).lowerBound + 3)
        try file.save()
        try Data("no file of a journal".utf8).write(to: URL(fileURLWithPath: root + "/journal/00000077.journal"))
        #expect(try walctl("verify", root).status == 1)
        let before = try walctl("cat", root).output

        let dry = try walctl("repair", root, "--format", "json")
        #expect(dry.status == 1, "\(dry.error)")
        let plan: Report = try decode(dry)
        #expect(!plan.isApplied && Set(plan.steps.map(\.action)) == ["moveToSegments", "setAside"])
        let loss = try #require(plan.steps.flatMap(\.losses).first)
        #expect(
            loss.tenant == "acme" && loss.last - loss.first == 99 && plan.steps.allSatisfy { $0.unnamedRecords == 0 })
        let text = try walctl("repair", root)
        #expect(text.status == 1 && text.output.contains("nothing was changed: give --apply"))
        #expect(text.output.contains("gives up tenant acme: records \(loss.first) to \(loss.last)"))
        #expect(!FileManager.default.fileExists(atPath: root + "/quarantine/00000077.journal.1"))
        #expect(try walctl("cat", root).output == before)

        // The damage is behind the last checkpoint: somebody may be missing who subscribes.
        let first = try walctl("repair", root, "--apply")
        #expect(first.status == 1 && first.output.contains("--forget-subscribers"), "\(first.output)")
        #expect(FileManager.default.fileExists(atPath: root + "/quarantine/00000077.journal.1"))
        let done = try walctl("repair", root, "--apply", "--format", "json")
        #expect(done.status == 0, "\(done.error)")
        let report: Report = try decode(done)
        #expect(report.isApplied && report.remaining.isEmpty && report.recordsGivenUp == 100)
        #expect(report.setAside.count == 1)
        for path in report.setAside { #expect(FileManager.default.fileExists(atPath: root + "/" + path)) }
        let verified = try walctl("verify", root, "--format", "json")
        #expect(verified.status == 0)
        let summary: Verified = try decode(verified)
        #expect(summary.findings.isEmpty)
        #expect(summary.givenUp.map(\.tenant) == ["acme"] && summary.givenUp.map(\.first) == [loss.first])
        #expect(try walctl("verify", root).output.contains("given up by a repair: tenant acme, records"))
        // What could be read can be read; who reads is told of the gap.
        let lines = { (text: String) in Set(text.split(separator: "\n")) }
        let after = try walctl("cat", root)
        #expect(lines(after.output).isSuperset(of: lines(before)))
        #expect(try walctl("repair", root).output.contains("nothing to repair"))
        #expect(try walctl("segments", root).status == 0)
    }

    @Test func badRootsAreToldInOneLine() throws {
        try walctl("repair", directory.appending("none")).expectFailure(2, saying: "no such directory")
        try fill("acme")
        var file = try #require(try JournalImage.live(in: root).first)
        file.zero(try #require(file.commits.dropFirst().first { !$0.records.isEmpty }).range)
        try file.save()
        try walctl("repair", root, "--apply", "--segment-limit-mib", "0").expectFailure(2, saying: "segmentLimit")
        #expect(try walctl("repair", root).status == 1)
    }
}
