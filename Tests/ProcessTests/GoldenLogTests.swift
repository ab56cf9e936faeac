import Foundation
import TestSupport
import Testing

/// Whole logs as earlier builds wrote them, see Tests/Fixtures/golden/README.md: today's tools read them to the last record,
/// and find nothing amiss.
@Suite struct GoldenLogTests {
    private let directory = TemporaryDirectory()

    private struct Summary: Decodable {
        struct Loss: Decodable, Equatable {
            var tenant: String
            var first: UInt64
            var last: UInt64
        }
        struct Finding: Decodable { var what: String }
        var findings: [Finding]
        var givenUp: [Loss]
        var segments: Int
    }

    private struct Tenant: Decodable {
        var tenant: String
        var appended: UInt64
        var dropped: UInt64
    }

    /// Archive, log, records that `walctl cat` shows, segments, records that were dropped or erased of `acme`.
    private static let logs: [(String, String, Int, Int, UInt64)] = [
        ("logs", "closed", 2141, 0, 0), ("logs", "killed", 405, 0, 0), ("logs", "replayed", 1768, 0, 0),
        ("logs", "delivered", 1768, 0, 0),
        // What was delivered has left; of `acme` 20 records are in a segment, and as many in the journal.
        ("logs-with-segments", "compacted", 2060, 42, 0),
        // Dropped records are shown for as long as their journal file stays.
        ("logs-with-segments", "dropped", 2060, 41, 40), ("logs-with-segments", "erased", 2040, 41, 40),
        ("logs-with-segments", "repaired", 2060, 42, 0), ("logs-placed", "placed", 1160, 43, 0),
    ]

    @Test(arguments: logs)
    func isReadAsItWasWritten(archive: String, log: String, records: Int, segments: Int, dropped: UInt64) throws {
        let packed = projectFolder + "/Tests/Fixtures/golden/\(archive).tar.xz"
        #expect(try run("/usr/bin/env", ["tar", "-xJf", packed, "-C", directory.path, log]).status == 0)
        let root = directory.appending(log)
        let verified = try walctl("verify", root, "--deep", "--format", "json")
        #expect(verified.status == 0, "\(verified.output)")
        let summary = try JSONDecoder().decode(Summary.self, from: Data(verified.output.utf8))
        #expect(summary.findings.isEmpty && summary.segments == segments)
        #expect(summary.givenUp == (log == "repaired" ? [.init(tenant: "Zoë", first: 21, last: 40)] : []))
        #expect(try walctl("cat", root).output.split(separator: "\n").count == records)
        let listed = try walctl("tenants", root, "--format", "json")
        let tenants = try JSONDecoder().decode([Tenant].self, from: Data(listed.output.utf8))
        let acme = try #require(tenants.first { $0.tenant == "acme" } ?? tenants.first)
        #expect(acme.dropped == dropped)
        // Nothing is written for it.
        #expect(!FileManager.default.fileExists(atPath: root + "/LOCK"))
    }

    #if Encryption
        /// Unpacks a log, which `verify` finds whole with its keys and without.
        private func unpackWithKeys(_ log: String) throws -> (root: String, keys: String) {
            let golden = projectFolder + "/Tests/Fixtures/golden"
            let packed = golden + "/logs-\(log).tar.xz"
            #expect(try run("/usr/bin/env", ["tar", "-xJf", packed, "-C", directory.path]).status == 0)
            let (root, keys) = (directory.appending(log), directory.appending("wal.keys"))
            try FileManager.default.copyItem(atPath: golden + "/wal.keys", toPath: keys)
            #expect(chmod(keys, 0o600) == 0)
            for arguments in [[], ["--key-file", keys]] {
                let verified = try walctl(["verify", root, "--deep", "--format", "json"] + arguments)
                #expect(verified.status == 0, "\(verified.output)")
            }
            return (root, keys)
        }

        /// What moved without keys, then with, and what stands in the journal.
        @Test func isReadAsItWasCarried() throws {
            let (root, keys) = try unpackWithKeys("carried")
            let shown = try walctl("cat", root, "--key-file", keys)
            #expect(shown.status == 0, "\(shown.error)")
            #expect(shown.output.split(separator: "\n").count == Self.carriedRecords)
            #expect(try walctl("cat", root).output.split(separator: "\n").count == 20)
        }

        private static let carriedRecords = 184

        /// What can be read: two keys of `acme` have been, one of `gone` is forgotten, one is for all others.
        @Test func isDecryptedAsItWasEncrypted() throws {
            let (root, keys) = try unpackWithKeys("encrypted")
            let shown = try walctl("cat", root, "--key-file", keys)
            #expect(shown.status == 1)
            let count = shown.output.split(separator: "\n").count
            #expect(count == Self.encryptedRecords)
            #expect(shown.error.contains("tenant gone are gone with key 3"), "\(shown.error)")
            #expect(try walctl("cat", root).output.split(separator: "\n").count == 20)
        }

        private static let encryptedRecords = 164
    #endif
}
