import Foundation
import TestSupport
import Testing

/// `walctl placement`, and what the other commands make of a log with tenants' own journals.
@Suite struct PlacementCommandTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }
    private var elsewhere: String { directory.appending("volume/acme") }

    private struct Residence: Decodable, Equatable {
        var tenant: String
        var placement: String
        var path: String
        var first: UInt64
        var last: UInt64?
        var fault: String?
    }

    private struct Verified: Decodable {
        struct Finding: Decodable {
            var what: String
            var file: String
        }
        var findings: [Finding]
        var ownJournals: Int
        var records: Int
    }

    private struct Repaired: Decodable {
        struct Step: Decodable { var path: String }
        var steps: [Step]
        var remaining: [Step]
        var recordsGivenUp: UInt64
    }

    private func fill(_ tenant: String) throws {
        let lines = (1...400).map { "{\"tenant.id\":\"\(tenant)\",\"n\":\($0)}" }.joined(separator: "\n")
        #expect(try walctl("append", root, "--format", "ndjson", "--batch", "100", input: lines).status == 0)
    }

    private func decode<Value: Decodable>(_ result: ProcessResult) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(result.output.utf8))
    }

    /// A log with a tenant that has moved, and one that has not.
    private func placedLog() throws {
        try fill("acme")
        try fill("calm")
        #expect(try walctl("placement", "set", root, "acme", "--dedicated", "--directory", elsewhere).status == 0)
        try fill("acme")
    }

    @Test func tenantsMoveAndEveryCommandSeesThem() throws {
        try placedLog()
        let shown: [Residence] = try decode(try walctl("placement", "show", root, "--format", "json"))
        #expect(
            shown == [
                Residence(tenant: "acme", placement: "shared", path: root, first: 1, last: 400),
                Residence(tenant: "acme", placement: "dedicated", path: elsewhere, first: 401),
            ])
        let verified: Verified = try decode(try walctl("verify", root, "--deep", "--format", "json"))
        #expect(verified.findings.isEmpty && verified.ownJournals == 1 && verified.records == 1200)
        let records = try walctl("cat", root, "--tenant", "acme").output.split(separator: "\n")
        #expect(records.count == 800)
        #expect(try walctl("compact", root).status == 0)
        #expect(try walctl("segments", root, "--format", "json").output.contains("volume/acme/tenants/acme/"))
        #expect(try walctl("inspect", root).output.contains("walctl inspect \(elsewhere)"))
        // The log's FORMAT says whether it is encrypted, and no other one.
        let inspected = try walctl("inspect", elsewhere, "--format", "json")
        #expect(inspected.status == 0 && !inspected.output.contains("isMarkedEncrypted"))
        #expect(try walctl("inspect", root, "--format", "json").output.contains("\"isMarkedEncrypted\" : false"))
        // A part of a log takes no records by itself.
        try walctl("append", elsewhere, "--format", "ndjson", "--tenant", "acme", input: "{}")
            .expectFailure(2, saying: "acme's own journal")
        #expect(try walctl("placement", "set", root, "acme", "--shared").status == 0)
        try fill("acme")
        #expect(try walctl("cat", root, "--tenant", "acme").output.split(separator: "\n").count == 1200)
    }

    @Test func aMissingVolumeIsAFindingOfItsTenantOnly() throws {
        try placedLog()
        try FileManager.default.moveItem(atPath: elsewhere, toPath: elsewhere + "-away")
        let shown = try walctl("placement", "show", root, "--format", "json")
        let residences: [Residence] = try decode(shown)
        #expect(shown.status == 1 && residences.map { $0.fault == nil } == [true, false])
        let verified = try walctl("verify", root, "--format", "json")
        let found: Verified = try decode(verified)
        #expect(verified.status == 1 && found.findings.map(\.what) == ["journalUnavailable"])
        let cat = try walctl("cat", root)
        #expect(cat.status == 1 && cat.output.split(separator: "\n").count == 800 && cat.error.contains(elsewhere))
        // Those who show a part of the log say what they do not show.
        let others = [
            ["tenants", root], ["segments", root], ["retention", "show", root], ["erase", root, "acme", "--dry-run"],
            ["retention", "apply", root, "--tenant-budget-mib", "512", "--dry-run"],
        ]
        for command in others {
            let result = try walctl(command)
            #expect(result.status == 1 && result.error.contains(elsewhere), "\(command): \(result.error)")
        }
        let repair = try walctl("repair", root)
        #expect(repair.status == 1 && repair.output.contains(elsewhere) && !repair.output.contains("clean"))
        try fill("calm")
        let refused = try walctl("append", root, "--format", "ndjson", "--tenant", "acme", input: "{}")
        #expect(refused.status == 1 && refused.error.contains(elsewhere))
        try FileManager.default.moveItem(atPath: elsewhere + "-away", toPath: elsewhere)
        #expect(try walctl("verify", root).status == 0)
    }

    @Test func repairsReachTenantsOwnJournals() throws {
        try placedLog()
        var file = try #require(try JournalImage.live(in: elsewhere).first)
        let hit = try #require(file.commits.filter { !$0.records.isEmpty }.dropFirst().first)
        file.flip(at: hit.body(try #require(hit.frames.first)).lowerBound + 3)
        try file.save()
        let verified: Verified = try decode(try walctl("verify", root, "--format", "json"))
        #expect(!verified.findings.isEmpty && verified.findings.allSatisfy { $0.file.hasPrefix(elsewhere + "/") })
        let done: Repaired = try decode(
            try walctl("repair", root, "--apply", "--forget-subscribers", "--format", "json"))
        #expect(!done.steps.isEmpty && done.steps.allSatisfy { $0.path.hasPrefix(elsewhere + "/") })
        #expect(done.remaining.isEmpty && done.recordsGivenUp == UInt64(hit.records.count))
        #expect(try walctl("verify", root).status == 0)
        #expect(
            try walctl("cat", root, "--tenant", "acme").output.split(separator: "\n").count == 800 - hit.records.count)
    }

    @Test func wrongUsageEndsWithTwo() throws {
        try fill("acme")
        // What the argument parser says has its usage behind it.
        #expect(try walctl("placement", "set", root, "acme").status == 2)
        let both = try walctl("placement", "set", root, "acme", "--shared", "--directory", "/x")
        #expect(both.status == 2 && both.error.contains("--directory goes with --dedicated"))
        try walctl("placement", "set", root, "acme", "--dedicated", "--directory", "relative")
            .expectFailure(2, saying: "absolute")
        try walctl("placement", "show", directory.appending("nothing")).expectFailure(2, saying: "no such directory")
    }
}
