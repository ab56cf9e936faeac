/// A thing that was found, what it means, and what to do.
package struct DoctorConclusion: Hashable, Sendable {
    package enum Severity: String, Hashable, Sendable {
        /// Good to know; nothing needs to be done.
        case info
        /// Something should be changed: durability or speed suffers.
        case warning
        /// No place for a log.
        case refusal
    }

    /// What was found. The raw values are part of `walctl doctor`'s JSON.
    package enum Subject: String, CaseIterable, Hashable, Sendable {
        case memoryFileSystem = "memory file system"
        case networkFileSystem = "network file system"
        case userSpaceFileSystem = "user-space file system"
        case stackedFileSystem = "stacked file system"
        case copyOnWriteFileSystem = "copy-on-write file system"
        case unknownFileSystem = "unknown file system"
        case noDirectIO = "no direct I/O"
        case alignmentUnknown = "alignment unknown"
        case largeBlocks = "large blocks"
        case blockSizeOfLog = "block size of the log"
        case barriersOff = "barriers off"
        case dataJournal = "data journal"
        case littleSpace = "little space"
        case memoryDevice = "memory device"
        case deviceUnknown = "device unknown"
        case writeCacheUnknown = "write cache unknown"
        case noWriteCache = "no write cache"
        case writeCacheFlushed = "write cache flushed"
        case virtualDisk = "virtual disk"
        case networkDevice = "network device"
        case loopDevice = "loop device"
        case loopThroughPageCache = "loop through the page cache"
        case layeredDevice = "layered device"
        case parityRAID = "parity RAID"
        case misalignedPartition = "misaligned partition"
        case rotationalDisk = "rotational disk"
        case slowScheduler = "slow scheduler"
        case unbelievablyFast = "unbelievably fast"
        case slowFlush = "slow flush"
        case slowTail = "slow tail"
        case preallocation = "preallocation"
        case expectation = "expectation"
        case notMeasured = "not measured"
        case livingWriter = "living writer"
        case noRing = "no io_uring"
        case ringWithoutRegistration = "io_uring without registration"
        case slowClock = "slow clock"
        case fewOpenFiles = "few open files"
    }

    package var what: Subject
    package var severity: Severity
    package var why: String
    /// What to change; nil where nothing is to be done.
    package var advice: String?
}

/// What the measurements say about a log in this place. A pure function of them.
package struct DeviceDiagnosis: Sendable {
    /// The class of durability that a log has here; nil where that depends on what cannot be seen from here.
    package let durability: WriteDurability?
    /// What an append alone may expect, from recycled extents; nil where nothing was measured.
    package let expected: LatencySummary?
    /// Of the durable write's median, what waiting for the flush takes, nanoseconds.
    package let flushCost: UInt64?
    /// Refusals first, then warnings, then the rest.
    package let conclusions: [DoctorConclusion]

    package init(_ measurements: DoctorMeasurements) {
        var rules = DiagnosisRules(measurements)
        rules.judgeFileSystem()
        rules.judgeDevice()
        rules.judgeLatencies()
        rules.judgeMachine()
        durability = Self.durability(measurements)
        expected = measurements[.recycled]
        flushCost = measurements.flushCost
        let rank: [DoctorConclusion.Severity: Int] = [.refusal: 0, .warning: 1, .info: 2]
        // Within a severity the order of the rules stays.
        conclusions = rules.conclusions.enumerated().sorted {
            (rank[$0.element.severity] ?? 0, $0.offset) < (rank[$1.element.severity] ?? 0, $1.offset)
        }.map(\.element)
    }

    /// Whether something should be changed.
    package var hasFindings: Bool { conclusions.contains { $0.severity != .info } }

    private static func durability(_ measurements: DoctorMeasurements) -> WriteDurability? {
        let fileSystem = measurements.fileSystem.lowest
        let device = measurements.device
        if fileSystem.kind.nature == .memory || fileSystem.hasBarriersOff { return .processCrash }
        // One device in memory among several is enough to lose everything.
        if device?.all.contains(where: { $0.kind == .memory }) ?? false { return .processCrash }
        guard measurements.fileSystem.hasDirectIO == true else { return nil }
        switch fileSystem.kind.nature {
        case .local, .copyOnWrite: break
        case .memory, .network, .userSpace, .stacked, .unknown: return nil
        }
        guard let device, !device.lowest.contains(where: { $0.writeCache == nil || $0.kind.isOpaque }) else {
            return nil
        }
        return .powerLoss
    }
}

extension BlockDeviceReport.Kind {
    /// A device whose bytes go to where this machine cannot see.
    fileprivate var isOpaque: Bool {
        switch self {
        // Reached only where what is below could not be found.
        case .loop, .network: true
        case .disk, .mapped, .raid, .memory: false
        }
    }
}

extension FileSystemReport {
    /// Mounted so that no flush is sent to the device.
    var hasBarriersOff: Bool { options.contains("nobarrier") || options.contains("barrier=0") }
}

extension DoctorMeasurements {
    /// The durable write's median over that of the plain one, nanoseconds; zero where they do not differ.
    var flushCost: UInt64? {
        guard let durable = self[.recycled], let plain = self[.plain] else { return nil }
        return durable.p50 > plain.p50 ? durable.p50 - plain.p50 : 0
    }
}

/// The rules, one function for each field, in files of their own.
struct DiagnosisRules {
    let measurements: DoctorMeasurements
    private(set) var conclusions: [DoctorConclusion] = []

    init(_ measurements: DoctorMeasurements) { self.measurements = measurements }

    mutating func conclude(
        _ what: DoctorConclusion.Subject, _ severity: DoctorConclusion.Severity, _ why: String,
        advice: String? = nil
    ) {
        conclusions.append(DoctorConclusion(what: what, severity: severity, why: why, advice: advice))
    }
}

/// Nanoseconds for people: microseconds, or milliseconds from ten thousand microseconds on.
package func readableTime(nanoseconds: UInt64) -> String {
    let microseconds = (nanoseconds + 500) / 1000
    return microseconds < 10_000 ? "\(microseconds) µs" : "\((microseconds + 500) / 1000) ms"
}
