import Logging
import TelemetryWAL
import WALFormat
import WALStorage

/// What a history begins with, drawn from its seed.
struct Setting: CustomStringConvertible {
    var plan = FaultPlan()
    var logOptions = WriteAheadLogOptions()
    var rounds: Int
    var tenants: [TenantName]
    var producerCount: Int
    var subscribers: [TenantName]
    /// Tasks that append, beside the threads that do.
    var taskCount: Int
    /// Whether somebody reads the log beside its writer.
    var hasOnlooker: Bool
    var capacity: Int
    var alignment: Int
    var switchesOneIn: Int
    /// Sizes of journal files, one of which each opening asks for.
    var fileSizes: [UInt64] = [256 << 10]

    init(_ random: inout SimulationRandom, without: Set<FaultKind>) {
        rounds = random.pick(1...4)
        tenants = (0..<random.pick([1, 2, 3, 6])).map { Self.name("tenant-\($0)") }
        producerCount = random.pick([1, 1, 2, 3, 5])
        subscribers = (0..<random.pick([0, 0, 1, 1, 2])).map { Self.name("subscriber-\($0)") }
        taskCount = random.pick([0, 0, 1, 2, 5])
        hasOnlooker = random.chance(oneIn: 3)
        switchesOneIn = random.pick([2, 5, 20])
        alignment = random.pick([512, 512, 4096, 4096, 8192])
        logOptions.journalFileSize = 256 << 10
        logOptions.journalLimit = UInt64(random.pick([4, 5, 8, 40])) << 18
        // From all that moves on at once to a log without segments.
        logOptions.compactionThreshold = random.pick([0, 256 << 10, 1 << 20])
        logOptions.segmentLimit = random.pick([0, 256 << 10, 64 << 30, 64 << 30, 64 << 30])
        logOptions.spareFiles = 2
        if logOptions.journalLimit >= 8 << 18, random.chance(oneIn: 4) { logOptions.spareFiles = 3 }
        logOptions.writePath = random.pick([.automatic, .automatic, .plain])
        logOptions.commitsUnderWay = random.pick(1...4)
        logOptions.compression = random.pick([.automatic, .always, .never])
        logOptions.recoveryScope = random.pick([.sinceCheckpoint, .wholeJournal])
        logOptions.stagingLimit = 1 << 20
        logOptions.idleMilliseconds = random.pick([1, 10, 1000])
        logOptions.durability = random.chance(oneIn: 8) ? .processCrash : .powerLoss
        logOptions.logger = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }
        capacity = random.chance(oneIn: 6) ? random.pick(3...6) << 18 : .max
        // Faults are rare enough that there is something to lose when they come; half of all histories have none but
        // crashes.
        let kinds: [FaultKind] = [
            .writeError, .flushError, .readError, .shortWrite, .noSpace, .slowWrite, .submitError,
        ]
        if random.chance(oneIn: 2) {
            for kind in kinds where random.chance(oneIn: 3) { plan.oneIn[kind] = random.pick([8, 30, 100]) }
        }
        if random.chance(oneIn: 3) { plan.oneIn[.ringRefused] = 2 }
        if logOptions.durability == .powerLoss, random.chance(oneIn: 4) {
            let media: [FaultKind] = [.bitRot, .zeroedSector, .lostWrite, .misdirectedWrite, .unreadableSector]
            for kind in media where random.chance(oneIn: 2) {
                plan.oneIn[kind] = kind == .lostWrite || kind == .misdirectedWrite ? 40 : 2
            }
        }
        if random.chance(oneIn: 8) { plan.oneIn[.staleFile] = 2 }
        if random.chance(oneIn: 4) { fileSizes = [256 << 10, 320 << 10, 512 << 10] }
        for kind in without { plan.oneIn[kind] = nil }
        if without.contains(.noSpace) { capacity = .max }
    }

    private static func name(_ text: String) -> TenantName {
        do throws(TenantNameError) { return try TenantName(text) } catch { preconditionFailure("\(text) is a name") }
    }

    var description: String {
        "rounds \(rounds), tenants \(tenants.count), producers \(producerCount), tasks \(taskCount), subscribers \(subscribers.count), "
            + "onlooker \(hasOnlooker), alignment \(alignment), limit \(logOptions.journalLimit >> 18) files, spares \(logOptions.spareFiles), "
            + "compaction from \(logOptions.compactionThreshold >> 10) to \(logOptions.segmentLimit >> 10) KiB, "
            + "path \(logOptions.writePath.rawValue), under way \(logOptions.commitsUnderWay), "
            + "compression \(logOptions.compression.rawValue), scope \(logOptions.recoveryScope), "
            + "durability \(logOptions.durability), idle \(logOptions.idleMilliseconds) ms, capacity \(capacity), "
            + "file sizes \(fileSizes.map { $0 >> 10 }) KiB, "
            + "faults \(plan.oneIn.map { "\($0.key.rawValue) 1/\($0.value)" }.sorted())"
    }
}
