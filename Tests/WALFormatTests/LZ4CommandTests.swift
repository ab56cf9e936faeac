import Foundation
import Testing
import WALFormat

/// The promise to whoever holds a damaged log and none of our code: bodies are standard LZ4 frames.
@Suite struct LZ4CommandTests {
    @Test func toolDecompressesAStoredBody() throws {
        let sample = SampleFrame("acme", payloads: [compressibleBytes(150_000), Array("the end".utf8)])
        let commit = try SampleCommit([sample])
        let frame = try #require(try frames(of: commit.header, in: commit.bytes).first)
        #expect(frame.header.codec == .lz4)
        #expect(try output(of: "-d", given: Array(commit.bytes[frame.body])) == sample.body)
    }

    @Test func bodyThatTheToolCompressedIsRead() throws {
        let raw = compressibleBytes(150_000)
        #expect(try decompressed(try output(of: "-9", given: raw), rawLength: raw.count) == raw)
    }

    /// What the `lz4` tool writes for an input. Fails where the tool (apt package lz4) is missing: a promise that is
    /// tested only here and there is not tested.
    private func output(of option: String, given input: [UInt8]) throws -> [UInt8] {
        let directory = FileManager.default.temporaryDirectory.appending(path: "lz4-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let (source, target) = (directory.appending(path: "in"), directory.appending(path: "out"))
        try Data(input).write(to: source)
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["lz4", option, "-q", "-f", source.path(), target.path()]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "lz4 failed; is the apt package lz4 installed?")
        return Array(try Data(contentsOf: target))
    }
}
