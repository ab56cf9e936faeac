import Foundation
import TestSupport
import Testing

/// Bad input gets one clear line and the right exit code, and costs nothing that was there.
@Suite struct BadInputTests {
    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }
    let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"

    /// A log with ten records of `acme`.
    private func makeLog() throws {
        let lines = (1...10).map { "{\"n\":\($0)}" }.joined(separator: "\n")
        #expect(try walctl("append", root, "--format", "ndjson", "--tenant", "acme", input: lines).status == 0)
    }

    private func expectTenRecords() throws {
        #expect(try walctl("verify", root).status == 0)
        #expect(try appendedRecords(root)["acme"] == 10)
    }

    // MARK: - Input

    @Test func malformedOTLPIsNamedWithItsPlace() throws {
        try makeLog()
        try walctl("append", root, "--format", "otlp-json", input: "{\"resourceSpans\":[{\"scopeSpans\":7}]}")
            .expectFailure(1, saying: "standard input")
        try walctl("append", root, "--format", "otlp-proto", input: "\u{1}\u{2}nonsense")
            .expectFailure(1, saying: "standard input")
        try expectTenRecords()
    }

    @Test func inputCutOffInTheMiddleKeepsWhatPrecedes() throws {
        let whole = try Data(contentsOf: URL(fileURLWithPath: sample))
        let cut = directory.appending("cut")
        try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: cut))
        try walctl("append", root, cut).expectFailure(1, saying: cut, "byte")
        #expect(try appendedRecords(root).values.reduce(0, +) > 300)
        #expect(try walctl("verify", root).status == 0)
    }

    @Test func bitFlippedInputIsRefusedOrTakenButNeverCrashes() throws {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: projectFolder + "/Tests/Fixtures/agent-spans.pb"))
        for position in stride(from: 3, to: bytes.count, by: bytes.count / 12) {
            bytes[position] ^= 0x40
            let file = directory.appending("flipped")
            try bytes.write(to: URL(fileURLWithPath: file))
            let result = try walctl("append", root, file, "--format", "otlp-proto", "--signal", "traces")
            #expect([0, 1].contains(result.status), "\(result.error)")
            bytes[position] ^= 0x40
        }
        #expect(try walctl("verify", root).status == 0)
    }

    @Test func emptyInputAppendsNothing() throws {
        try makeLog()
        #expect(try walctl("append", root, "--format", "ndjson", "--tenant", "acme", input: "").status == 0)
        try expectTenRecords()
    }

    @Test func inputThatIsNotThereOrADirectory() throws {
        try walctl("append", root, directory.appending("none")).expectFailure(3, saying: "none", "No such file")
        try walctl("append", root, directory.path).expectFailure(3, saying: directory.path)
    }

    @Test func recordOfSixtyFourMebibytesIsRefusedAndTheRestTaken() throws {
        let large = "{\"x\":\"" + String(repeating: "x", count: 64 << 20) + "\"}"
        let result = try walctl(
            "append", root, "--format", "ndjson", "--tenant", "acme", input: "{\"n\":1}\n\(large)\n{\"n\":2}\n")
        #expect(result.status == 1)
        #expect(result.error.contains("at most") && result.error.contains("split it"))
        #expect(try appendedRecords(root)["acme"] == 2)
    }

    // MARK: - Tenants

    @Test func tenantNamesAreCheckedAndNeverBecomePaths() throws {
        try walctl("append", root, "--format", "ndjson", "--tenant", "", input: "{}")
            .expectFailure(2, saying: "--tenant", "empty")
        let long = String(repeating: "t", count: 1 << 20)
        let result = try walctl("append", root, "--format", "ndjson", input: "{\"tenant.id\":\"\(long)\"}\n")
        result.expectFailure(1, saying: "1048576 bytes")
        #expect(result.error.utf8.count < 1000)
        let out = directory.appending("out")
        for name in ["../../etc", "🦖", "..", "a/b", "%2E%2E"] {
            #expect(try walctl("append", root, "--format", "ndjson", "--tenant", name, input: "{}").status == 0)
        }
        #expect(try walctl("replay", root, "--to", "file:" + out).status == 0)
        let files = Set(try FileManager.default.contentsOfDirectory(atPath: out))
        #expect(
            files == [
                "%252E%252E.ndjson", "%2E..ndjson", "%2E.%2F..%2Fetc.ndjson", "%F0%9F%A6%96.ndjson", "a%2Fb.ndjson",
            ])
        #expect(try walctl("cat", root, "--tenant", "../../etc").output == "{}\n")
    }

    @Test func recordWithoutATenantIsReported() throws {
        try walctl("append", root, "--format", "ndjson", input: "{\"n\":1}\n")
            .expectFailure(1, saying: "tenant.id", "--tenant")
    }

    @Test func unknownTenantOfCat() throws {
        try makeLog()
        try walctl("cat", root, "--tenant", "nobody").expectFailure(2, saying: "nobody", "unknown")
    }

    // MARK: - Roots

    @Test func rootThatIsNoLog() throws {
        for command in ["tenants", "verify", "inspect", "cat"] {
            try walctl(command, directory.appending("none")).expectFailure(2, saying: "none")
            try walctl(command, "/etc").expectFailure(2, saying: "/etc")
        }
        try "precious".write(toFile: directory.appending("file"), atomically: true, encoding: .utf8)
        try walctl("append", directory.path, sample).expectFailure(2, saying: "holds other things")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["file"])
    }

    @Test func secondWriterIsToldWhoHoldsTheLock() throws {
        let writer = Process()
        writer.executableURL = URL(fileURLWithPath: builtProduct("CrashWriter"))
        writer.arguments = ["write", root, "1"]
        let pipe = Pipe()
        writer.standardOutput = pipe
        try writer.run()
        // Something was acknowledged, so the writer holds the lock.
        #expect(!pipe.fileHandleForReading.availableData.isEmpty)
        // Its output must go on being read, or it would wait for us.
        pipe.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
        try walctl("append", root, sample).expectFailure(3, saying: "process \(writer.processIdentifier)")
        #expect(try walctl("inspect", root).output.contains("process \(writer.processIdentifier)"))
        #expect(try walctl("verify", root).status == 0, "a reader beside the writer sees no damage")
        kill(writer.processIdentifier, SIGKILL)
        writer.waitUntilExit()
        pipe.fileHandleForReading.readabilityHandler = nil
        #expect(try walctl("verify", root).status == 0)
    }

    @Test func directoryAndFilesWithoutRights() throws {
        let open = URL(fileURLWithPath: directory.path)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: open.path)
        // A directory in which the user may not create.
        try walctlWithoutRights("append", root, sample).expectFailure(3, saying: "Permission denied")
        try makeLog()
        // A root that the user may not even enter, then files that it may see and not read.
        try walctlWithoutRights("verify", root).expectFailure(3, saying: "Permission denied")
        for folder in ["", "/journal"] {
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: root + folder)
        }
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: root + "/FORMAT")
        try walctlWithoutRights("verify", root).expectFailure(3, saying: "Permission denied")
        // Files that it may read and not write: reading works, writing does not.
        for name in try FileManager.default.subpathsOfDirectory(atPath: root) where name != "journal" {
            try FileManager.default.setAttributes([.posixPermissions: 0o444], ofItemAtPath: root + "/" + name)
        }
        #expect(try walctlWithoutRights("verify", root).status == 0)
        try walctlWithoutRights("append", root, sample).expectFailure(3, saying: "Permission denied")
        try expectTenRecords()
    }

    // MARK: - Damaged journal files

    @Test(arguments: ["truncated", "bit-flipped", "zeroed", "foreign", "empty"])
    func damagedJournalFileIsAFinding(damage: String) throws {
        try makeLog()
        let file = root + "/journal/00000000.journal"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
        // Block 2 is the checkpoint, block 3 the commit of the first record; nine more vouch for it.
        switch damage {
        case "truncated": bytes = bytes.prefix(3 * 4096)
        case "bit-flipped": bytes[3 * 4096 + 180] ^= 1
        case "zeroed": bytes.replaceSubrange(3 * 4096..<4 * 4096, with: Data(count: 4096))
        case "foreign":
            let other = directory.appending("other")
            _ = try walctl("append", other, "--format", "ndjson", "--tenant", "b", input: "{}")
            bytes = try Data(contentsOf: URL(fileURLWithPath: other + "/journal/00000000.journal"))
        default: bytes = Data()
        }
        try bytes.write(to: URL(fileURLWithPath: file))
        let result = try walctl("verify", root)
        #expect(result.status == 1, "\(damage): \(result.output)")
        // What is not damaged is still there, and the log takes more.
        let kept = try walctl("cat", root, "--tenant", "acme")
        if damage == "bit-flipped" || damage == "zeroed" {
            #expect(kept.output.split(separator: "\n").count == 9)
            #expect(result.output.contains("tenant acme: records 1 to 1"), "\(result.output)")
        }
        let more = try walctl("append", root, "--format", "ndjson", "--tenant", "acme", input: "{\"n\":11}")
        #expect(more.status == 0, "\(damage): \(more.error)")
        #expect(try walctl("cat", root, "--tenant", "acme").output.contains("{\"n\":11}"))
    }

    // MARK: - Receivers

    @Test func deadReceiverLosesNothing() throws {
        try makeLog()
        // Port 9 on loopback: nobody listens.
        let result = try walctl("replay", root, "--to", "otlp-http://127.0.0.1:9", "--give-up-after", "0.5")
        result.expectFailure(3, saying: "127.0.0.1:9")
        try expectTenRecords()
        #expect(try walctl("replay", root, "--to", "-").output.split(separator: "\n").count == 10)
    }
}
