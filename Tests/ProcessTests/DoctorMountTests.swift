import Foundation
import TestSupport
import Testing

/// `walctl doctor` on file systems of the test's own. Needs root and loop devices.
@Suite(.enabled(if: getuid() == 0, "mounting a small file system needs root"))
struct DoctorMountTests {
    private let directory = TemporaryDirectory()

    /// Mounts an ext4 of so many MiB, runs, unmounts. Says so where the machine does not let us.
    private func withDisk(mebibytes: Int, options: String = "loop", _ body: (String) throws -> Void) throws {
        let image = directory.appending("image")
        let mount = directory.appending("mount")
        #expect(FileManager.default.createFile(atPath: image, contents: nil))
        #expect(truncate(image, mebibytes << 20) == 0)
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: false)
        guard try run("/sbin/mkfs.ext4", ["-q", "-b", "4096", image]).status == 0,
            try run("/bin/mount", ["-o", options, image, mount]).status == 0
        else {
            print("skipped: this machine mounts no loop devices")
            return
        }
        defer { _ = try? run("/bin/umount", [mount]) }
        try body(mount)
    }

    private func report(_ root: String) throws -> (status: Int32, report: DoctorTests.Report) {
        let result = try walctl("doctor", root, "--seconds", "0.3", "--size", "8", "--format", "json")
        return (result.status, try JSONDecoder().decode(DoctorTests.Report.self, from: Data(result.output.utf8)))
    }

    @Test func tooLittleSpaceIsSaidBeforeAnyIsTaken() throws {
        try withDisk(mebibytes: 16) { mount in
            try walctl("doctor", mount).expectFailure(3, saying: "too little free space", "64 MiB", "--size")
            #expect(try FileManager.default.contentsOfDirectory(atPath: mount) == ["lost+found"])
            let small = try walctl("doctor", mount, "--size", "1", "--seconds", "0.2")
            #expect(small.status == 1, "\(small.error)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: mount) == ["lost+found"])
        }
    }

    @Test func loopDeviceIsNamed() throws {
        try withDisk(mebibytes: 64) { mount in
            let (status, report) = try report(mount)
            #expect(status == 1)
            #expect(report.device?.kind == "loop" && report.fileSystem.type == "ext4")
            let loop = report.conclusions.first { $0.what.hasPrefix("loop") }
            #expect(loop?.why.contains(directory.appending("image")) == true)
        }
    }

    @Test func mountWithoutBarriersIsWarnedAbout() throws {
        try withDisk(mebibytes: 64, options: "loop,barrier=0") { mount in
            let (status, report) = try report(mount)
            #expect(status == 1 && report.durability == "processCrash")
            #expect(report.conclusions.contains { $0.what == "barriers off" && $0.severity == "warning" })
        }
    }

    @Test func dataJournalTakesDirectIOAway() throws {
        try withDisk(mebibytes: 64, options: "loop,data=journal") { mount in
            let (status, report) = try report(mount)
            #expect(status == 1 && report.durability == "unknown")
            #expect(report.conclusions.contains { $0.what == "data journal" })
        }
    }

    @Test func readOnlyMountIsAnIOError() throws {
        try withDisk(mebibytes: 64, options: "loop,ro") { mount in
            try walctl("doctor", mount).expectFailure(3, saying: "Read-only file system")
            try walctl("doctor", mount + "/wal").expectFailure(3, saying: "Read-only file system")
        }
    }
}
