import SystemPackage
import Testing

@testable import WALStorage

/// One test for each rule, on made-up measurements: a healthy machine, and one thing wrong with it.
@Suite struct DeviceDiagnosisTests {
    /// ext4 on an NVMe disk, everything as it should be.
    static func healthy() -> DoctorMeasurements {
        var fileSystem = FileSystemReport(
            kind: FileSystemKind(name: "ext4"), availableBytes: 100 << 30, totalBytes: 200 << 30)
        fileSystem.acceptsDirectIO = true
        fileSystem.memoryAlignment = 512
        fileSystem.offsetAlignment = 512
        fileSystem.options = ["rw", "relatime"]
        var machine = MachineReport()
        machine.clockSource = "tsc"
        machine.openFilesLimit = 1024
        var ring = RingReport()
        ring.supportsWrites = true
        return DoctorMeasurements(
            fileSystem: fileSystem, device: disk(), machine: machine, ring: ring,
            latencies: [
                summary(.unwritten, 185), summary(.written, 118), summary(.recycled, 100, p99: 200),
                summary(.plain, 50), summary(.flush, 55),
            ])
    }

    static func disk(_ name: String = "nvme0n1") -> BlockDeviceReport {
        var device = BlockDeviceReport(name: name, number: DeviceNumber(major: 259, minor: 0))
        device.writeCache = .writeBack
        device.hasForceUnitAccess = true
        device.isRotational = false
        device.driver = "nvme"
        device.scheduler = "none"
        device.alignmentOffset = 0
        return device
    }

    /// Times in microseconds.
    static func summary(_ operation: ProbedOperation, _ p50: UInt64, p99: UInt64? = nil) -> LatencySummary {
        LatencySummary(
            operation: operation, bytes: 4096, count: 1000, p50: p50 * 1000, p99: (p99 ?? p50 * 2) * 1000,
            p999: (p99 ?? p50 * 2) * 2000, total: p50 * 1_000_000)
    }

    /// The conclusion about a subject after a change to the healthy machine.
    func conclusion(
        _ what: DoctorConclusion.Subject, _ change: (inout DoctorMeasurements) -> Void
    ) -> DoctorConclusion? {
        diagnosis(change).conclusions.first { $0.what == what }
    }

    func diagnosis(_ change: (inout DoctorMeasurements) -> Void) -> DeviceDiagnosis {
        var measurements = Self.healthy()
        change(&measurements)
        return DeviceDiagnosis(measurements)
    }

    @Test func healthyMachineHasNoFindings() throws {
        let diagnosis = diagnosis { _ in }
        #expect(!diagnosis.hasFindings, "\(diagnosis.conclusions)")
        #expect(diagnosis.durability == .powerLoss)
        #expect(diagnosis.expected?.p50 == 100_000 && diagnosis.expected?.p99 == 200_000)
        #expect(diagnosis.flushCost == 50_000)
        let expectation = try #require(diagnosis.conclusions.first { $0.what == .expectation })
        #expect(expectation.why.contains("100 µs") && expectation.why.contains("200 µs"))
        #expect(expectation.why.contains("10000 commits"))
    }

    @Test func everyConclusionThatIsNoInfoSaysWhatToChange() {
        let changes: [(inout DoctorMeasurements) -> Void] = [
            { $0.fileSystem.kind = FileSystemKind(name: "tmpfs") },
            { $0.fileSystem.kind = FileSystemKind(name: "nfs") },
            { $0.fileSystem.kind = FileSystemKind(name: "btrfs") }, { $0.fileSystem.acceptsDirectIO = false },
            { $0.fileSystem.options.append("nobarrier") }, { $0.device?.kind = .loop(file: "/a", isDirect: false) },
            { $0.device?.alignmentOffset = 512 }, { $0.machine.openFilesLimit = 64 },
        ]
        for change in changes {
            let diagnosis = diagnosis(change)
            #expect(diagnosis.hasFindings)
            #expect(diagnosis.conclusions.first?.severity != .info, "the worst stands first")
            for conclusion in diagnosis.conclusions where conclusion.severity != .info {
                #expect(conclusion.advice != nil, "\(conclusion.what)")
            }
        }
    }

    // MARK: - File systems

    @Test(arguments: ["tmpfs", "ramfs"])
    func memoryIsRefused(name: String) {
        let diagnosis = diagnosis {
            $0.fileSystem.kind = FileSystemKind(name: name)
            $0.device = nil
            $0.latencies = []
        }
        #expect(diagnosis.conclusions.first?.what == .memoryFileSystem)
        #expect(diagnosis.conclusions.first?.severity == .refusal)
        #expect(diagnosis.conclusions.contains { $0.what == .notMeasured })
        #expect(diagnosis.durability == .processCrash)
        #expect(diagnosis.expected == nil)
    }

    @Test(arguments: ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "gfs2", "lustre"])
    func networkIsWarnedAbout(name: String) {
        let diagnosis = diagnosis {
            $0.fileSystem.kind = FileSystemKind(name: name)
            $0.device = nil
        }
        let conclusion = diagnosis.conclusions.first { $0.what == .networkFileSystem }
        #expect(conclusion?.severity == .warning && conclusion?.why.contains(name) == true)
        #expect(diagnosis.durability == nil)
        #expect(!diagnosis.conclusions.contains { $0.what == .deviceUnknown }, "there is none, and that is no news")
    }

    @Test(arguments: ["fuse", "fuseblk", "fuse.sshfs"])
    func userSpaceIsWarnedAbout(name: String) {
        let diagnosis = diagnosis { $0.fileSystem.kind = FileSystemKind(name: name) }
        #expect(diagnosis.conclusions.first { $0.what == .userSpaceFileSystem }?.severity == .warning)
        #expect(diagnosis.durability == nil)
    }

    @Test(arguments: ["btrfs", "zfs", "bcachefs", "f2fs"])
    func copyOnWriteIsWarnedAboutUnlessTurnedOff(name: String) {
        let conclusion = conclusion(.copyOnWriteFileSystem) { $0.fileSystem.kind = FileSystemKind(name: name) }
        #expect(conclusion?.severity == .warning)
        #expect(conclusion?.advice?.contains("chattr +C") == (name == "btrfs"))
        let diagnosis = diagnosis {
            $0.fileSystem.kind = FileSystemKind(name: name)
            $0.fileSystem.overwritesInPlace = true
        }
        #expect(!diagnosis.hasFindings)
        #expect(diagnosis.durability == .powerLoss)
    }

    @Test func overlayIsLookedThrough() {
        var overlay = FileSystemReport(
            kind: FileSystemKind(name: "overlay"), availableBytes: 100 << 30, totalBytes: 200 << 30)
        overlay.acceptsDirectIO = true
        let blind = diagnosis { $0.fileSystem = overlay }
        #expect(blind.conclusions.first { $0.what == .stackedFileSystem }?.why.contains("cannot be seen") == true)
        #expect(blind.durability == nil)
        let seen = diagnosis {
            let upper = $0.fileSystem
            $0.fileSystem = overlay
            $0.fileSystem.upper = [upper]
        }
        #expect(seen.conclusions.first { $0.what == .stackedFileSystem }?.why.contains("ext4") == true)
        #expect(seen.conclusions.first { $0.what == .stackedFileSystem }?.severity == .warning)
        #expect(seen.durability == .powerLoss)
        let memory = diagnosis {
            $0.fileSystem = overlay
            $0.fileSystem.upper = [FileSystemReport(kind: FileSystemKind(name: "tmpfs"))]
        }
        #expect(memory.conclusions.first?.what == .memoryFileSystem)
        #expect(memory.durability == .processCrash)
    }

    @Test func unknownFileSystemIsSaidToBeUnknown() {
        let diagnosis = diagnosis { $0.fileSystem.kind = FileSystemKind(name: "wonderfs") }
        #expect(diagnosis.conclusions.first { $0.what == .unknownFileSystem }?.severity == .info)
        #expect(diagnosis.durability == nil)
    }

    @Test func noDirectIOIsARefusal() {
        #expect(conclusion(.noDirectIO) { $0.fileSystem.acceptsDirectIO = false }?.severity == .refusal)
        // Accepted by open, taken back by statx: ext4 with data=journal.
        let diagnosis = diagnosis {
            $0.fileSystem.memoryAlignment = 0
            $0.fileSystem.offsetAlignment = 0
            $0.fileSystem.options.append("data=journal")
        }
        #expect(diagnosis.conclusions.first?.what == .noDirectIO)
        #expect(diagnosis.conclusions.first?.advice?.contains("data=ordered") == true)
        #expect(diagnosis.conclusions.first { $0.what == .dataJournal }?.severity == .warning)
        #expect(diagnosis.durability == nil)
    }

    @Test func alignmentIsJudged() {
        #expect(conclusion(.alignmentUnknown) { $0.fileSystem.memoryAlignment = nil }?.severity == .info)
        #expect(conclusion(.largeBlocks) { $0.fileSystem.offsetAlignment = 16384 }?.severity == .info)
        #expect(conclusion(.largeBlocks) { $0.fileSystem.offsetAlignment = 128 << 10 }?.severity == .refusal)
        #expect(conclusion(.largeBlocks) { _ in } == nil)
        let log = DoctorMeasurements.Log(hasWriter: false, blockSize: 4096)
        #expect(conclusion(.blockSizeOfLog) { $0.log = log } == nil)
        let foreign = conclusion(.blockSizeOfLog) {
            $0.log = log
            $0.fileSystem.offsetAlignment = 16384
        }
        #expect(foreign?.severity == .refusal)
    }

    @Test(arguments: ["nobarrier", "barrier=0"])
    func mountWithoutBarriersDoesNotSurviveAPowerLoss(option: String) {
        let diagnosis = diagnosis { $0.fileSystem.options.append(option) }
        #expect(diagnosis.conclusions.first { $0.what == .barriersOff }?.severity == .warning)
        #expect(diagnosis.durability == .processCrash)
        #expect(conclusion(.barriersOff) { $0.fileSystem.options.append("barrier=1") } == nil)
    }

    @Test func littleSpaceIsAWarningOnlyWhereALogHasNoRoomToBegin() {
        #expect(conclusion(.littleSpace) { _ in } == nil)
        #expect(conclusion(.littleSpace) { $0.fileSystem.availableBytes = 4 << 30 }?.severity == .info)
        #expect(conclusion(.littleSpace) { $0.fileSystem.availableBytes = 200 << 20 }?.severity == .warning)
        let begun = conclusion(.littleSpace) {
            $0.fileSystem.availableBytes = 200 << 20
            $0.log = DoctorMeasurements.Log(hasWriter: false, blockSize: 4096)
        }
        #expect(begun?.severity == .info)
    }
}
