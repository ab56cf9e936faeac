import WALStorage

/// What `doctor` prints as JSON. The schema is described in docs/doctor.md; names are added to it and never change
/// their meaning. What is unknown is left out.
struct DoctorView: Encodable {
    struct Expected: Encodable {
        var p50Microseconds: Double
        var p99Microseconds: Double
        var p999Microseconds: Double
        var commitsPerSecond: Double
    }

    struct Conclusion: Encodable {
        var what: String
        var severity: String
        var why: String
        var advice: String?
    }

    /// Raised when a name changes its meaning.
    var schema = 1
    var root: String
    var probedDirectory: String
    var isLog: Bool
    var hasWriter: Bool
    /// `powerLoss`, `processCrash` or `unknown`.
    var durability: String
    var expected: Expected?
    var flushCostMicroseconds: Double?
    var fileSystem: FileSystemView
    var device: BlockDeviceView?
    var machine: MachineView
    var latencies: [LatencyView]
    var conclusions: [Conclusion]

    init(
        root: String, directory: String, _ measurements: DoctorMeasurements, _ diagnosis: DeviceDiagnosis
    ) {
        self.root = root
        probedDirectory = directory
        isLog = measurements.log != nil
        hasWriter = measurements.log?.hasWriter ?? false
        durability =
            switch diagnosis.durability {
            case .powerLoss?: "powerLoss"
            case .processCrash?: "processCrash"
            case nil: "unknown"
            }
        expected = diagnosis.expected.map {
            Expected(
                p50Microseconds: Double($0.p50) / 1000, p99Microseconds: Double($0.p99) / 1000,
                p999Microseconds: Double($0.p999) / 1000, commitsPerSecond: $0.rate.rounded())
        }
        flushCostMicroseconds = diagnosis.flushCost.map { Double($0) / 1000 }
        fileSystem = FileSystemView(measurements.fileSystem)
        device = measurements.device.map(BlockDeviceView.init)
        machine = MachineView(measurements.machine, measurements.ring)
        latencies = measurements.latencies.map(LatencyView.init)
        conclusions = diagnosis.conclusions.map {
            Conclusion(what: $0.what.rawValue, severity: $0.severity.rawValue, why: $0.why, advice: $0.advice)
        }
    }
}

/// A file system, as `doctor` prints it.
struct FileSystemView: Encodable {
    var type: String
    /// `local`, `memory`, `network`, `userSpace`, `copyOnWrite`, `stacked` or `unknown`.
    var nature: String
    var mountPoint: String?
    var source: String?
    var options: [String]
    var availableBytes: UInt64
    var totalBytes: UInt64
    var hasDirectIO: Bool?
    var memoryAlignment: Int?
    var offsetAlignment: Int?
    /// Below an overlay, where it can be seen: one.
    var upper: [FileSystemView]?

    init(_ report: FileSystemReport) {
        type = report.kind.name
        nature = report.kind.nature.rawValue
        mountPoint = report.mountPoint
        source = report.source
        options = report.options
        availableBytes = report.availableBytes
        totalBytes = report.totalBytes
        hasDirectIO = report.hasDirectIO
        memoryAlignment = report.memoryAlignment
        offsetAlignment = report.offsetAlignment
        upper = report.upper.isEmpty ? nil : report.upper.map(FileSystemView.init)
    }
}

/// A block device, as `doctor` prints it.
struct BlockDeviceView: Encodable {
    var name: String
    var number: String
    /// `disk`, `loop`, `mapped`, `raid`, `memory` or `network`.
    var kind: String
    /// What the kind adds: a loop device's file, a mapping's name, a RAID's level.
    var detail: String?
    /// Of a loop device: whether it passes the page cache by.
    var isDirect: Bool?
    var partitionOf: String?
    var model: String?
    var driver: String?
    var isRotational: Bool?
    var isVirtual: Bool
    var logicalBlockSize: Int?
    var physicalBlockSize: Int?
    var alignmentOffset: Int?
    /// `write back` or `write through`, as the kernel has it.
    var writeCache: String?
    var hasForceUnitAccess: Bool?
    var scheduler: String?
    var underlying: [BlockDeviceView]

    init(_ report: BlockDeviceReport) {
        name = report.name
        number = report.number.description
        switch report.kind {
        case .disk: kind = "disk"
        case .loop(let file, let direct): (kind, detail, isDirect) = ("loop", file, direct)
        case .mapped(let name, let target):
            (kind, detail) = ("mapped", [target, name].compactMap { $0 }.joined(separator: " "))
        case .raid(let level, _): (kind, detail) = ("raid", level)
        case .memory: kind = "memory"
        case .network: kind = "network"
        }
        partitionOf = report.partitionOf
        model = report.model
        driver = report.driver
        isRotational = report.isRotational
        isVirtual = report.isVirtual
        logicalBlockSize = report.logicalBlockSize
        physicalBlockSize = report.physicalBlockSize
        alignmentOffset = report.alignmentOffset
        writeCache = report.writeCache?.rawValue
        hasForceUnitAccess = report.hasForceUnitAccess
        scheduler = report.scheduler
        underlying = report.underlying.map(BlockDeviceView.init)
    }
}

/// The machine and io_uring, as `doctor` prints them.
struct MachineView: Encodable {
    struct Ring: Encodable {
        var isAvailable: Bool
        /// Why not, if not.
        var reason: String?
        var registersBuffers: Bool
        var registersFiles: Bool
        var hasDeferredTaskRunning: Bool
    }

    var kernel: String?
    var cores: Int?
    var clockSource: String?
    /// Left out where unlimited, as the next.
    var openFilesLimit: UInt64?
    var lockedMemoryLimitBytes: UInt64?
    var ioUring: Ring

    init(_ report: MachineReport, _ ring: RingReport) {
        kernel = report.kernel
        cores = report.cores
        clockSource = report.clockSource
        openFilesLimit = report.openFilesLimit == .max ? nil : report.openFilesLimit
        lockedMemoryLimitBytes = report.lockedMemoryLimit == .max ? nil : report.lockedMemoryLimit
        ioUring = Ring(
            isAvailable: ring.isAvailable, reason: ring.reason,
            registersBuffers: ring.isAvailable && ring.buffersError == nil,
            registersFiles: ring.isAvailable && ring.filesError == nil,
            hasDeferredTaskRunning: ring.hasDeferredTaskRunning)
    }
}

/// One kind of operation and how long it took, as `doctor` prints it.
struct LatencyView: Encodable {
    /// As `ProbedOperation` names it.
    var operation: String
    var bytes: Int
    var count: Int
    var p50Microseconds: Double
    var p99Microseconds: Double
    var p999Microseconds: Double
    var operationsPerSecond: Double
    var bytesPerSecond: Double?

    init(_ summary: LatencySummary) {
        operation = summary.operation.rawValue
        bytes = summary.bytes
        count = summary.count
        p50Microseconds = Double(summary.p50) / 1000
        p99Microseconds = Double(summary.p99) / 1000
        p999Microseconds = Double(summary.p999) / 1000
        operationsPerSecond = summary.rate.rounded()
        bytesPerSecond = summary.bytes == 0 ? nil : summary.throughput.rounded()
    }
}
