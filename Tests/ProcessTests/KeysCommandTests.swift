#if Encryption
    import Foundation
    import TestSupport
    import Testing

    /// `walctl keys`, and what the other commands do with a key file.
    @Suite struct KeysCommandTests {
        let directory = TemporaryDirectory()
        var root: String { directory.appending("wal") }
        var keys: String { directory.appending("wal.keys") }

        private struct Key: Decodable, Equatable {
            var identifier: UInt64
            var tenant: String?
            var state: String
        }

        private struct Verification: Decodable {
            var framesNotOpened: UInt64
            var records: UInt64
        }

        private struct Replay: Decodable {
            var records: Int
            var lockedTenants: Int
            var forgottenRecords: UInt64
        }

        private func line(_ tenant: String, _ number: Int) -> String {
            "{\"tenant.id\":\"\(tenant)\",\"n\":\(number),\"mark\":\"one-of-a-kind-\(tenant)-\(number)\"}"
        }

        private func fill(_ tenant: String, _ numbers: ClosedRange<Int>, _ arguments: String...) throws {
            let input = numbers.map { line(tenant, $0) }.joined(separator: "\n")
            let result = try walctl(
                ["append", root, "--format", "ndjson", "--batch", "50"] + arguments, input: input)
            #expect(result.status == 0, "\(result.error)")
        }

        private func payloads(_ tenant: String, _ numbers: ClosedRange<Int>) -> [[UInt8]] {
            numbers.map { Array("one-of-a-kind-\(tenant)-\($0)".utf8) }
        }

        private func lines(_ result: ProcessResult) -> Int { result.output.split(separator: "\n").count }

        private func list() throws -> [Key] {
            let result = try walctl("keys", "list", keys, "--format", "json")
            #expect(result.status == 0, "\(result.error)")
            return try JSONDecoder().decode([Key].self, from: Data(result.output.utf8))
        }

        @Test func whatIsEncryptedIsReadWithKeysOnly() throws {
            #expect(try walctl("keys", "add", keys, "--tenant", "acme").status == 0)
            try fill("acme", 1...300, "--key-file", keys)
            try fill("calm", 1...300, "--key-file", keys)
            #expect(try walctl("inspect", root).output.contains("encrypted: appends need a key file"))
            #expect(try walctl("inspect", root, "--format", "json").output.contains("\"isMarkedEncrypted\" : true"))
            let secret = PayloadScan(payloads("acme", 1...300))
            #expect(try secret.places(below: root).isEmpty)
            #expect(try !PayloadScan(payloads("calm", 1...300)).places(below: root).isEmpty)

            let blind = try walctl("cat", root)
            #expect(blind.status == 1 && lines(blind) == 300)
            #expect(blind.error.contains("records 1 to 50 of tenant acme are encrypted"), "\(blind.error)")
            let seeing = try walctl("cat", root, "--key-file", keys)
            #expect(seeing.status == 0 && lines(seeing) == 600, "\(seeing.error)")

            let unopened = try walctl("verify", root, "--deep", "--format", "json")
            #expect(unopened.status == 0, "\(unopened.output)")
            let without = try JSONDecoder().decode(Verification.self, from: Data(unopened.output.utf8))
            #expect(without.framesNotOpened == 6 && without.records == 600)
            let opened = try walctl("verify", root, "--deep", "--format", "json", "--key-file", keys)
            let with = try JSONDecoder().decode(Verification.self, from: Data(opened.output.utf8))
            #expect(opened.status == 0 && with.framesNotOpened == 0)

            // Without the key compaction moves what is encrypted as it is; with it or not, nothing comes into the open.
            let carried = try walctl("compact", root)
            #expect(carried.status == 0 && carried.output.contains("300 of the records moved encrypted as they are"))
            #expect(try walctl("compact", root, "--key-file", keys).status == 0)
            #expect(try secret.places(below: root).isEmpty)
            #expect(lines(try walctl("cat", root, "--key-file", keys)) == 600)
            let inspected = try walctl("segments", root, "--tenant", "acme")
            #expect(inspected.status == 0, "\(inspected.error)")

            // A replay leaves what it cannot read to one that can.
            let part = try walctl("replay", root, "--to", "file:\(directory.appending("a"))", "--format", "json")
            #expect(part.status == 1)
            let partly = try JSONDecoder().decode(Replay.self, from: Data(part.output.utf8))
            #expect(partly.records == 300 && partly.lockedTenants == 1)
            let rest = try walctl(
                "replay", root, "--to", "file:\(directory.appending("b"))", "--format", "json", "--key-file", keys)
            #expect(rest.status == 0, "\(rest.error)")
            let wholly = try JSONDecoder().decode(Replay.self, from: Data(rest.output.utf8))
            #expect(wholly.records == 300 && wholly.lockedTenants == 0)
        }

        /// The text of a key file in the environment stands for the file, and gives way to one that is named.
        @Test func keysComeOutOfTheEnvironment() throws {
            #expect(try walctl("keys", "add", keys).status == 0)
            let text = try String(contentsOfFile: keys, encoding: .utf8)
            func walctlWithKeys(_ text: String, _ arguments: String..., input: String? = nil) throws -> ProcessResult {
                try run(
                    "/usr/bin/env", ["WALCTL_KEYS=\(text)", builtProduct("walctl")] + arguments,
                    input: input.map { Data($0.utf8) })
            }
            let appended = try walctlWithKeys(
                text, "append", root, "--format", "ndjson", input: line("acme", 1) + "\n" + line("acme", 2))
            #expect(appended.status == 0, "\(appended.error)")
            #expect(try PayloadScan(payloads("acme", 1...2)).places(below: root).isEmpty)
            #expect(try walctl("cat", root).status == 1)
            #expect(lines(try walctlWithKeys(text, "cat", root)) == 2)
            #expect(lines(try walctl("cat", root, "--key-file", keys)) == 2)
            try walctlWithKeys("{}", "cat", root).expectFailure(2, saying: "WALCTL_KEYS")
        }

        @Test func keysAreRotatedAndForgotten() throws {
            #expect(try walctl("keys", "add", keys).status == 0)
            try fill("acme", 1...100, "--key-file", keys)
            #expect(try walctl("keys", "add", keys).status == 0)
            try fill("acme", 101...200, "--key-file", keys)
            #expect(
                try list() == [
                    Key(identifier: 1, tenant: nil, state: "retired"),
                    Key(identifier: 2, tenant: nil, state: "current"),
                ])
            #expect(lines(try walctl("cat", root, "--key-file", keys)) == 200)
            try walctl("keys", "forget", keys, "1").expectFailure(2, saying: "--yes")
            #expect(lines(try walctl("cat", root, "--key-file", keys)) == 200)
            #expect(try walctl("keys", "forget", keys, "1", "--yes").status == 0)
            #expect(try list()[0].state == "forgotten")
            let left = try walctl("cat", root, "--key-file", keys)
            #expect(left.status == 1 && lines(left) == 100)
            #expect(left.error.contains("gone with key 1"), "\(left.error)")
            let replayed = try walctl(
                "replay", root, "--to", "file:\(directory.appending("a"))", "--format", "json", "--key-file", keys)
            #expect(replayed.status == 0, "\(replayed.error)")
            let replay = try JSONDecoder().decode(Replay.self, from: Data(replayed.output.utf8))
            #expect(replay.records == 100 && replay.forgottenRecords == 100)
            // What is gone at the end of what a tenant has keeps no place either.
            #expect(try walctl("keys", "add", keys, "--tenant", "late").status == 0)
            try fill("late", 1...30, "--key-file", keys)
            let late = try #require(try list().last?.identifier)
            #expect(try walctl("keys", "forget", keys, "\(late)", "--yes").status == 0)
            #expect(try walctl("replay", root, "--to", "-", "--key-file", keys).status == 0)
            let tenants = try walctl("tenants", root, "--format", "json").output
            #expect(!tenants.contains("\"backlog\" : 30"), "\(tenants)")
            // No current key: nothing goes to the disk in the open, and others' records behind it go there all the same.
            #expect(try walctl("keys", "forget", keys, "2", "--yes").status == 0)
            #expect(try walctl("keys", "add", keys, "--tenant", "calm").status == 0)
            let input = line("acme", 1) + "\n" + line("calm", 1)
            let refused = try walctl(
                ["append", root, "--format", "ndjson", "--key-file", keys], input: input)
            #expect(refused.status == 1 && refused.error.contains("none is current"), "\(refused.error)")
            #expect(try appendedRecords(root)["calm"] == 1)
        }

        @Test func badKeysAreToldInOneLine() throws {
            try fill("acme", 1...10)
            try walctl("cat", root, "--key-file", keys).expectFailure(2, saying: "No such file")
            #expect(try walctl("keys", "add", keys).status == 0)
            #expect(chmod(keys, 0o644) == 0)
            try walctl("cat", root, "--key-file", keys).expectFailure(2, saying: "chmod 600")
            try walctl("keys", "add", keys).expectFailure(2, saying: "chmod 600")
            #expect(chmod(keys, 0o600) == 0)
            try walctl("keys", "forget", keys, "7").expectFailure(2, saying: "there is no key 7")
            try Data("{".utf8).write(to: URL(fileURLWithPath: keys))
            try walctl("keys", "list", keys).expectFailure(2, saying: "no JSON")
        }
    }
#endif
