import Foundation
import TestSupport
import Testing

/// `walctl doctor`, as a user runs it.
@Suite struct DoctorTests {
    /// The part of the JSON that tests look at.
    struct Report: Decodable {
        struct Expected: Decodable {
            var p50Microseconds: Double
            var p99Microseconds: Double
            var commitsPerSecond: Double
        }

        struct FileSystem: Decodable {
            var type: String
            var hasDirectIO: Bool?
        }

        struct Device: Decodable {
            var kind: String
        }

        struct Latency: Decodable {
            var operation: String
            var count: Int
            var p50Microseconds: Double
            var p99Microseconds: Double
            var p999Microseconds: Double
        }

        struct Conclusion: Decodable {
            var what: String
            var severity: String
            var why: String
            var advice: String?
        }

        var schema: Int
        var isLog: Bool
        var hasWriter: Bool
        var probedDirectory: String
        var durability: String
        var expected: Expected?
        var fileSystem: FileSystem
        var device: Device?
        var latencies: [Latency]
        var conclusions: [Conclusion]
    }

    let directory = TemporaryDirectory()
    var root: String { directory.appending("wal") }
    private static let brief = ["--seconds", "0.3", "--size", "8", "--format", "json"]

    private func doctor(_ root: String) throws -> (status: Int32, report: Report) {
        let result = try run(builtProduct("walctl"), ["doctor", root] + Self.brief)
        return (result.status, try JSONDecoder().decode(Report.self, from: Data(result.output.utf8)))
    }

    /// Name and bytes of everything below a directory.
    private func fingerprint(_ root: String) throws -> [String: Data] {
        var contents: [String: Data] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: root) {
            contents[name] = FileManager.default.contents(atPath: root + "/" + name) ?? Data()
        }
        return contents
    }

    @Test func freshDirectoryIsMeasuredAndLeftEmpty() throws {
        let (status, report) = try doctor(directory.path)
        #expect([0, 1].contains(status))
        #expect(status == (report.conclusions.contains { $0.severity != "info" } ? 1 : 0))
        #expect(report.schema == 1 && !report.isLog && !report.hasWriter)
        #expect(["powerLoss", "processCrash", "unknown"].contains(report.durability))
        let names = Set(report.latencies.map(\.operation))
        #expect(
            names.isSuperset(of: [
                "unwritten", "written", "recycled", "recycledLarge", "plain", "idleFlush", "flush", "sequentialWrite",
            ]))
        #expect(names.contains("sequentialRead") == (report.fileSystem.hasDirectIO == true))
        for latency in report.latencies {
            #expect(latency.count > 0 && latency.p50Microseconds > 0, "\(latency)")
            #expect(latency.p50Microseconds <= latency.p99Microseconds, "\(latency)")
            #expect(latency.p99Microseconds <= latency.p999Microseconds, "\(latency)")
        }
        let expected = try #require(report.expected)
        #expect(expected.p99Microseconds >= expected.p50Microseconds && expected.commitsPerSecond > 0)
        #expect(report.conclusions.contains { $0.what == "expectation" })
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }

    @Test func missingDirectoryIsNotMade() throws {
        let (_, report) = try doctor(directory.appending("a/b/c"))
        #expect(report.probedDirectory == directory.path)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }

    @Test func tableNamesWhatTheJSONNames() throws {
        let result = try walctl("doctor", directory.path, "--seconds", "0.3", "--size", "8")
        #expect([0, 1].contains(result.status))
        for word in ["file system", "direct I/O", "io_uring", "recycled", "p99.9 µs", "expectation:"] {
            #expect(result.output.contains(word), "\(word)")
        }
        #expect(!result.output.contains("\u{1B}"), "no colours where there is no terminal")
        #expect(result.error.isEmpty)
    }

    @Test func logIsNotChanged() throws {
        let lines = (1...10).map { "{\"n\":\($0)}" }.joined(separator: "\n")
        #expect(try walctl("append", root, "--format", "ndjson", "--tenant", "acme", input: lines).status == 0)
        let before = try fingerprint(root)
        let (_, report) = try doctor(root)
        #expect(report.isLog && !report.hasWriter)
        #expect(report.probedDirectory == root + "/journal")
        #expect(try fingerprint(root) == before)
    }

    @Test func logBesideALivingWriterIsNotChanged() throws {
        let writer = Process()
        writer.executableURL = URL(fileURLWithPath: builtProduct("walctl"))
        writer.arguments = ["append", root, "--format", "ndjson", "--tenant", "acme", "--receipts"]
        let (input, output) = (Pipe(), Pipe())
        writer.standardInput = input
        writer.standardOutput = output
        try writer.run()
        defer {
            kill(writer.processIdentifier, SIGKILL)
            writer.waitUntilExit()
        }
        // The writer has the lock from now on, and waits for input; what it does when it has begun is soon done.
        input.fileHandleForWriting.write(Data("{\"n\":1}\n".utf8))
        let first = ["journal/00000000.journal", "journal/00000001.journal"]
        let deadline = endOfPatience()
        var before: [String: Data] = [:]
        while Date() < deadline {
            guard FileManager.default.fileExists(atPath: root + "/FORMAT") else {
                Thread.sleep(forTimeInterval: 0.02)
                continue
            }
            let now = try fingerprint(root)
            if now == before, first.allSatisfy(now.keys.contains),
                !now.keys.contains(where: { $0.hasSuffix(".tmp") })
            {
                break
            }
            before = now
            Thread.sleep(forTimeInterval: 2)
        }
        let (status, report) = try doctor(root)
        #expect([0, 1].contains(status))
        #expect(report.hasWriter && report.conclusions.contains { $0.what == "living writer" })
        #expect(writer.isRunning)
        #expect(try fingerprint(root) == before)
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func interruptedProbeLeavesNothingBehind(signal: Int32) throws {
        let process = Process()
        // A test's thread may have signals blocked, and children inherit that.
        let unblocking = """
            import os, signal, sys
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execv(sys.argv[1], sys.argv[1:])
            """
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            ["python3", "-c", unblocking, builtProduct("walctl"), "doctor", directory.path]
            + ["--seconds", "3600", "--size", "8"]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        let deadline = endOfPatience()
        while try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty, Date() < deadline {
            Thread.sleep(forTimeInterval: 0.01)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).count == 1)
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == signal)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }

    @Test(.enabled(if: FileManager.default.isWritableFile(atPath: "/dev/shm"), "no tmpfs here"))
    func memoryFileSystemIsRefused() throws {
        let (status, report) = try doctor("/dev/shm/telemetry-wal-test-none")
        #expect(status == 1)
        #expect(report.conclusions.first?.what == "memory file system")
        #expect(report.conclusions.first?.severity == "refusal")
        #expect(report.durability == "processCrash" && report.latencies.isEmpty)
    }

    @Test func fileInsteadOfADirectoryIsUsage() throws {
        let file = directory.appending("file")
        try "precious".write(toFile: file, atomically: true, encoding: .utf8)
        try walctl("doctor", file).expectFailure(2, saying: file, "not a directory")
        try walctl("doctor", file + "/below").expectFailure(2, saying: file, "not a directory")
        #expect(try walctl("doctor", directory.path, "--size", "0").status == 2)
        #expect(try walctl("doctor", directory.path, "--seconds", "0").status == 2)
        #expect(try walctl("doctor", directory.path, "--seconds", "nan").status == 2)
        #expect(try walctl("doctor", "").status == 2)
    }

    @Test func directoryWithoutRights() throws {
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.path)
        try walctlWithoutRights("doctor", directory.path).expectFailure(3, saying: "Permission denied")
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: directory.path)
        try walctlWithoutRights("doctor", directory.path + "/wal").expectFailure(3, saying: "Permission denied")
    }
}
