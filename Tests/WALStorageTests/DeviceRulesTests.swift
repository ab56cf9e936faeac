import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import WALStorage

/// The rules about devices, latencies and the machine, as `DeviceDiagnosisTests` has those about file systems.
@Suite struct DeviceRulesTests {
    private typealias Base = DeviceDiagnosisTests

    private func diagnosis(_ change: (inout DoctorMeasurements) -> Void) -> DeviceDiagnosis {
        DeviceDiagnosisTests().diagnosis(change)
    }

    private func conclusion(
        _ what: DoctorConclusion.Subject, _ change: (inout DoctorMeasurements) -> Void
    ) -> DoctorConclusion? {
        DeviceDiagnosisTests().conclusion(what, change)
    }

    // MARK: - Devices

    @Test func writeCacheDecidesAboutDurability() {
        #expect(conclusion(.writeCacheFlushed) { _ in }?.why.contains("by itself (FUA)") == true)
        let without = conclusion(.writeCacheFlushed) { $0.device?.hasForceUnitAccess = false }
        #expect(without?.severity == .info && without?.why.contains("no FUA") == true)
        let through = diagnosis { $0.device?.writeCache = .writeThrough }
        #expect(through.conclusions.first { $0.what == .noWriteCache }?.severity == .info)
        #expect(through.durability == .powerLoss)
        let unknown = diagnosis { $0.device?.writeCache = nil }
        #expect(unknown.conclusions.first { $0.what == .writeCacheUnknown }?.severity == .info)
        #expect(unknown.durability == nil)
        let noDevice = diagnosis { $0.device = nil }
        #expect(noDevice.conclusions.first { $0.what == .deviceUnknown }?.severity == .info)
        #expect(noDevice.durability == nil)
        #expect(!noDevice.hasFindings, "what is unknown is no error")
    }

    @Test func virtualDiskHidesItsHost() {
        let diagnosis = diagnosis {
            $0.device?.driver = "virtio_blk"
            // Hosts say so of anything.
            $0.device?.isRotational = true
        }
        #expect(diagnosis.conclusions.first { $0.what == .virtualDisk }?.severity == .info)
        #expect(!diagnosis.conclusions.contains { $0.what == .rotationalDisk || $0.what == .unbelievablyFast })
        #expect(diagnosis.durability == .powerLoss)
        for model in ["Amazon Elastic Block Store", "QEMU HARDDISK", "Msft Virtual Disk"] {
            #expect(conclusion(.virtualDisk) { $0.device?.model = model } != nil, "\(model)")
        }
    }

    @Test func loopDeviceIsJudgedByWhatIsBelowIt() {
        var loop = Base.disk("loop0")
        loop.kind = .loop(file: "/image", isDirect: false)
        let blind = diagnosis { $0.device = loop }
        #expect(blind.conclusions.first { $0.what == .loopThroughPageCache }?.severity == .warning)
        #expect(blind.durability == nil)
        loop.kind = .loop(file: "/image", isDirect: true)
        loop.underlying = [Base.disk()]
        let seen = diagnosis { $0.device = loop }
        #expect(seen.conclusions.first { $0.what == .loopDevice }?.why.contains("/image") == true)
        #expect(!seen.hasFindings)
        #expect(seen.durability == .powerLoss)
        loop.underlying = [BlockDeviceReport(name: "tmpfs", number: DeviceNumber(major: 0, minor: 0))]
        loop.underlying[0].kind = .memory
        let memory = diagnosis { $0.device = loop }
        #expect(memory.conclusions.first?.what == .memoryDevice)
        #expect(memory.conclusions.first?.severity == .refusal)
        #expect(memory.durability == .processCrash)
    }

    @Test func layersArePassedThrough() {
        var mapped = Base.disk("dm-0")
        mapped.kind = .mapped(name: "vg-log", target: "LVM")
        mapped.underlying = [Base.disk("sda"), Base.disk("sdb")]
        let fine = diagnosis { $0.device = mapped }
        #expect(fine.conclusions.first { $0.what == .layeredDevice }?.why.contains("sda, sdb") == true)
        #expect(fine.durability == .powerLoss)
        // A chain is as good as its worst member.
        mapped.underlying[1].writeCache = nil
        #expect(diagnosis { $0.device = mapped }.durability == nil)
        mapped.underlying[1].kind = .memory
        #expect(diagnosis { $0.device = mapped }.durability == .processCrash)
    }

    @Test func parityRAIDWithoutAJournalHasAHole() {
        func raid(_ level: String, _ policy: String?) -> DoctorConclusion? {
            conclusion(.parityRAID) {
                $0.device = Base.disk("md0")
                $0.device?.kind = .raid(level: level, policy: policy)
                $0.device?.underlying = [Base.disk("sda")]
            }
        }
        #expect(raid("raid5", "resync")?.severity == .warning)
        #expect(raid("raid6", "bitmap")?.severity == .warning)
        #expect(raid("raid5", "ppl") == nil && raid("raid5", "journal") == nil)
        #expect(raid("raid1", "resync") == nil && raid("raid10", "bitmap") == nil)
    }

    @Test func networkDeviceCannotBeSeenThrough() {
        let diagnosis = diagnosis { $0.device?.kind = .network }
        #expect(diagnosis.conclusions.first { $0.what == .networkDevice }?.severity == .info)
        #expect(diagnosis.durability == nil)
    }

    @Test func misalignedPartitionAndSlowScheduler() {
        #expect(conclusion(.misalignedPartition) { $0.device?.alignmentOffset = 3584 }?.severity == .warning)
        #expect(conclusion(.slowScheduler) { $0.device?.scheduler = "bfq" }?.severity == .warning)
        #expect(conclusion(.slowScheduler) { $0.device?.scheduler = "mq-deadline" } == nil)
    }

    @Test func rotatingDiskThatIsTooFastIsNotBelieved() {
        let slow = diagnosis {
            $0.device?.isRotational = true
            $0.device?.driver = "sd"
            $0.latencies = [Base.summary(.recycled, 8000)]
        }
        #expect(slow.conclusions.first { $0.what == .rotationalDisk }?.severity == .info)
        #expect(!slow.conclusions.contains { $0.what == .unbelievablyFast })
        let fast = diagnosis {
            $0.device?.isRotational = true
            $0.device?.driver = "sd"
        }
        #expect(fast.conclusions.first { $0.what == .unbelievablyFast }?.severity == .warning)
    }

    // MARK: - Latencies

    @Test func slowFlushIsAWarning() {
        #expect(conclusion(.slowFlush) { _ in } == nil)
        let byWrite = conclusion(.slowFlush) {
            $0.latencies = [Base.summary(.recycled, 2200), Base.summary(.plain, 100)]
        }
        #expect(byWrite?.severity == .warning && byWrite?.why.contains("2100 µs") == true)
        let byFlush = conclusion(.slowFlush) {
            $0.latencies = [Base.summary(.recycled, 100), Base.summary(.plain, 90), Base.summary(.flush, 2001)]
        }
        #expect(byFlush?.severity == .warning)
    }

    @Test func slowTailIsAWarning() {
        let wide = conclusion(.slowTail) { $0.latencies = [Base.summary(.recycled, 100, p99: 25_000)] }
        #expect(wide?.severity == .warning && wide?.why.contains("25 ms") == true)
        // A disk that is slow throughout has no tail.
        #expect(conclusion(.slowTail) { $0.latencies = [Base.summary(.recycled, 8000, p99: 25_000)] } == nil)
    }

    @Test func preallocationIsWeighed() {
        #expect(conclusion(.preallocation) { _ in }?.why.contains("1.85 times") == true)
        let none = conclusion(.preallocation) {
            $0.latencies = [Base.summary(.unwritten, 101), Base.summary(.recycled, 100)]
        }
        #expect(none?.why.contains("no difference") == true)
    }

    @Test func livingWriterIsMentioned() {
        let conclusion = conclusion(.livingWriter) { $0.log = DoctorMeasurements.Log(hasWriter: true, blockSize: 4096) }
        #expect(conclusion?.severity == .info)
    }

    @Test func summaryTakesNearestRanks() {
        let summary = LatencySummary(.plain, bytes: 4096, times: (1...1000).reversed().map { $0 * 1000 })
        #expect(summary.p50 == 500_000 && summary.p99 == 990_000 && summary.p999 == 999_000)
        let one = LatencySummary(.plain, bytes: 4096, times: [7])
        #expect(one.p50 == 7 && one.p999 == 7 && one.count == 1)
    }

    // MARK: - Machine

    @Test func missingRingIsExplained() {
        func ring(_ error: Errno, setting: Int? = nil, filtered: Bool = false) -> DoctorConclusion? {
            conclusion(.noRing) {
                $0.ring.setupError = error
                $0.ring.disabledSetting = setting
                $0.ring.isFiltered = filtered
            }
        }
        #expect(ring(.noFunction)?.why.contains("older than 5.1") == true)
        #expect(ring(.notPermitted, setting: 2)?.why.contains("io_uring_disabled is 2") == true)
        #expect(ring(.notPermitted, setting: 1)?.why.contains("io_uring_group") == true)
        #expect(ring(.notPermitted, setting: 0, filtered: true)?.advice?.contains("seccomp") == true)
        #expect(ring(.noFunction, filtered: true)?.advice?.contains("seccomp") == true)
        #expect(ring(.noMemory)?.advice?.contains("ulimit -l") == true)
        #expect(ring(.noFunction)?.severity == .info, "the log goes on without")
        let old = conclusion(.noRing) { $0.ring.supportsWrites = false }
        #expect(old?.why.contains("operations") == true)
        let unregistered = conclusion(.ringWithoutRegistration) { $0.ring.buffersError = .noMemory }
        #expect(unregistered?.advice?.contains("ulimit -l") == true)
    }

    @Test func slowClockAndFewOpenFiles() {
        #expect(conclusion(.slowClock) { $0.machine.clockSource = "hpet" }?.severity == .warning)
        #expect(conclusion(.slowClock) { $0.machine.clockSource = "kvm-clock" } == nil)
        #expect(conclusion(.fewOpenFiles) { $0.machine.openFilesLimit = 256 }?.severity == .warning)
        #expect(conclusion(.fewOpenFiles) { $0.machine.openFilesLimit = .max } == nil)
    }

    @Test func textsOfProcAreRead() {
        #expect(MachineReport.count(ofList: "0-3,8") == 5)
        #expect(MachineReport.count(ofList: "1") == 1)
        #expect(MachineReport.count(ofList: "") == nil)
        let limits = """
            Limit                     Soft Limit           Hard Limit           Units
            Max locked memory         8388608              unlimited            bytes
            Max open files            1024                 1048576              files
            Max file locks            unlimited            unlimited            locks
            """
        #expect(MachineReport.limit("Max open files", of: limits) == 1024)
        #expect(MachineReport.limit("Max file locks", of: limits) == .max)
        #expect(MachineReport.limit("Max nothing", of: limits) == nil)
        #expect(MachineReport.field("Seccomp", of: "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n") == "2")
    }

    @Test func everyConclusionAndOperationIsDocumented() throws {
        let page = try String(contentsOfFile: projectFolder + "/docs/doctor.md", encoding: .utf8)
        for subject in DoctorConclusion.Subject.allCases {
            // The page shortens `network file system` and its like where several stand in one row.
            let word = subject.rawValue.replacing(" file system", with: "")
            #expect(page.contains(word), "\(subject.rawValue)")
        }
        for operation in ProbedOperation.allCases { #expect(page.contains("`\(operation.rawValue)`"), "\(operation)") }
    }
}
