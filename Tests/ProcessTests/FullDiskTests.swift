import Foundation
import TestSupport
import Testing

/// A real file system with no byte free: a loop-mounted ext4 of 8 MiB. Needs root and loop devices.
@Suite struct FullDiskTests {
    /// Mounts, runs, unmounts. Returns false where the machine does not let us.
    private func withSmallDisk(_ body: (String) throws -> Void) throws -> Bool {
        let directory = TemporaryDirectory()
        let image = directory.appending("image")
        let mount = directory.appending("mount")
        #expect(FileManager.default.createFile(atPath: image, contents: nil))
        #expect(truncate(image, 8 << 20) == 0)
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: false)
        guard try run("/sbin/mkfs.ext4", ["-q", "-b", "4096", image]).status == 0,
            try run("/bin/mount", ["-o", "loop", image, mount]).status == 0
        else { return false }
        defer { _ = try? run("/bin/umount", [mount]) }
        try body(mount)
        return true
    }

    /// With segments and without.
    @Test(.enabled(if: getuid() == 0, "mounting a small file system needs root"), arguments: ["0", "1024"])
    func fullDiskRefusesAppendsAndLosesNothing(segmentLimit: String) throws {
        let mounted = try withSmallDisk { mount in
            let root = mount + "/wal"
            let files = [
                "--journal-file-mib", "1", "--journal-limit-mib", "64", "--compaction-threshold-mib", "1",
                "--segment-limit-mib", segmentLimit,
            ]
            let secrets = (1...200).map { "erased-\($0)-\(UInt64.random(in: 1 << 60 ... .max))" }
            let first = try run(
                builtProduct("walctl"), ["append", root, "--format", "ndjson", "--tenant", "gone"] + files,
                input: Data(secrets.map { "{\"mark\":\"\($0)\"}" }.joined(separator: "\n").utf8))
            #expect(first.status == 0, "\(first.error)")
            // Random digits: what compresses well would fit.
            let lines = (1...20_000).map { number in
                let pad = (0..<40).map { _ in String(UInt64.random(in: 1 << 60 ... .max), radix: 36) }.joined()
                return "{\"n\":\(number),\"pad\":\"\(pad)\"}"
            }
            let full = try run(
                builtProduct("walctl"), ["append", root, "--format", "ndjson", "--tenant", "acme"] + files,
                input: Data(lines.joined(separator: "\n").utf8))
            full.expectFailure(3, saying: "journal is full", "No space left")
            let appended = try #require(try appendedRecords(root)["acme"])
            #expect(appended > 100)

            // The last byte goes too.
            #expect(try run("/bin/dd", ["if=/dev/zero", "of=\(mount)/filler", "bs=4096"]).status == 1)

            // Opening, reading, verifying, acknowledging and reclaiming need no new space.
            #expect(try walctl("verify", root).status == 0)
            #expect(try walctl("cat", root, "--tenant", "acme").output.split(separator: "\n").count == appended)
            // Nor does erasing, whose records have their room.
            let scan = PayloadScan(secrets.map { Array($0.utf8) })
            #expect(try !scan.places(below: root).isEmpty)
            let erased = try run(builtProduct("walctl"), ["erase", root, "gone", "--yes"] + files)
            #expect(erased.status == 0, "\(erased.error)")
            #expect(try scan.places(below: root).isEmpty)
            let replay = try run(builtProduct("walctl"), ["replay", root, "--to", "-"] + files)
            #expect(replay.status == 0, "\(replay.error)")
            #expect(replay.output.split(separator: "\n").count == appended)

            // What was reclaimed takes appends again.
            let again = try run(
                builtProduct("walctl"), ["append", root, "--format", "ndjson", "--tenant", "acme"] + files,
                input: Data(lines.prefix(100).joined(separator: "\n").utf8))
            #expect(again.status == 0, "\(again.error)")
            #expect(try appendedRecords(root)["acme"] == appended + 100)
            #expect(try walctl("verify", root).status == 0)
        }
        if !mounted { print("skipped: this machine mounts no loop devices") }
    }
}
