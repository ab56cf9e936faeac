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
    /// Whether somebody has tenants erased.
    var hasEraser: Bool
    /// Whether somebody moves tenants between journals.
    var hasMover = false
    /// Whether the log is repaired now and then before it is opened.
    var hasRepairer = false
    /// Tenants that are encrypted from their first record on.
    var encrypted: Set<TenantName> = []
    /// One call in so many of a producer is preceded by a tenant's getting another key, or its first; nil: none is.
    var rotatesOneIn: Int?
    /// One call in so many of a producer is preceded by a tenant's keys being away, or there again; nil: they always are.
    var losesKeysOneIn: Int?
    /// One call in so many of a producer is preceded by a key's being destroyed that is not in use any more; nil: none is.
    var forgetsOneIn: Int?
    var capacity: Int
    var alignment: Int
    var switchesOneIn: Int
    /// Sizes of journal files, one of which each opening asks for.
    var fileSizes: [UInt64] = [256 << 10]

    init(_ random: inout SimulationRandom, seed: UInt64, without: Set<FaultKind>) {
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
        hasEraser = false
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
        // From a source of its own, so that histories without it are what they were before there were policies.
        var other = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 1)
        if other.chance(oneIn: 3) { setRetention(&other) }
        var third = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 2)
        hasEraser = third.chance(oneIn: 5)
        // Readers that open their files anew for each batch.
        if third.chance(oneIn: 3) {
            logOptions.descriptorLimit = 60 + logOptions.spareFiles + 3 * third.below(3)
        }
        var fourth = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 3)
        hasRepairer = fourth.chance(oneIn: 4)
        var fifth = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 5)
        if fifth.chance(oneIn: 3) {
            encrypted = Set(tenants.filter { _ in fifth.chance(oneIn: 2) })
            rotatesOneIn = fifth.pick([nil, 5, 20])
        }
        var seventh = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 8)
        if !encrypted.isEmpty || rotatesOneIn != nil, seventh.chance(oneIn: 3) {
            losesKeysOneIn = seventh.pick([3, 10, 30])
        }
        if rotatesOneIn != nil, seventh.chance(oneIn: 2) { forgetsOneIn = seventh.pick([5, 20]) }
        var sixth = SimulationRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ 7)
        hasMover = sixth.chance(oneIn: 5)
        if hasMover {
            // Which journal a commit was in is nothing that the judge of spoiled disks knows.
            for kind in FaultKind.allCases where kind.isMediaFault || kind == .staleFile { plan.oneIn[kind] = nil }
        }
        for kind in without { plan.oneIn[kind] = nil }
        if without.contains(.noSpace) { capacity = .max }
    }

    /// Policies for some of the tenants, tight enough to take hold.
    private mutating func setRetention(_ random: inout SimulationRandom) {
        func policy() -> RetentionPolicy {
            RetentionPolicy(
                budget: random.pick([nil, 8 << 10, 40 << 10, 150 << 10]),
                age: random.pick([nil, nil, 20_000_000, 200_000_000, 2_000_000_000]),
                whenFull: random.pick([.backPressure, .dropOldest, .dropOldest, .dropNewest]))
        }
        for tenant in tenants where random.chance(oneIn: 2) { logOptions.tenantRetention[tenant] = policy() }
        if random.chance(oneIn: 3) { logOptions.retention = policy() }
        if capacity < .max, random.chance(oneIn: 2) { logOptions.freeSpaceFloor = 256 << 10 }
    }

    private static func name(_ text: String) -> TenantName {
        do throws(TenantNameError) { return try TenantName(text) } catch { preconditionFailure("\(text) is a name") }
    }

    private var policies: [String] {
        func text(_ policy: RetentionPolicy) -> String {
            "\(policy.budget.map { "\($0 >> 10) KiB" } ?? "-") \(policy.age.map { "\($0 / 1_000_000) ms" } ?? "-") "
                + policy.whenFull.rawValue
        }
        return logOptions.tenantRetention.sorted { $0.key < $1.key }.map { "\($0.key): \(text($0.value))" }
            + ["others: \(text(logOptions.retention))"]
    }

    var description: String {
        "rounds \(rounds), tenants \(tenants.count), producers \(producerCount), tasks \(taskCount), subscribers \(subscribers.count), "
            + "onlooker \(hasOnlooker), eraser \(hasEraser), mover \(hasMover), alignment \(alignment), limit \(logOptions.journalLimit >> 18) files, spares \(logOptions.spareFiles), "
            + "compaction from \(logOptions.compactionThreshold >> 10) to \(logOptions.segmentLimit >> 10) KiB, "
            + "path \(logOptions.writePath.rawValue), under way \(logOptions.commitsUnderWay), "
            + "compression \(logOptions.compression.rawValue), scope \(logOptions.recoveryScope), "
            + "durability \(logOptions.durability), idle \(logOptions.idleMilliseconds) ms, capacity \(capacity), "
            + "descriptors \(logOptions.descriptorLimit), retention \(policies), floor \(logOptions.freeSpaceFloor >> 10) KiB, "
            + "encrypted \(encrypted.map(\.description).sorted()), rotation \(rotatesOneIn.map { "1/\($0)" } ?? "-"), "
            + "forgotten \(forgetsOneIn.map { "1/\($0)" } ?? "-"), "
            + "keys away \(losesKeysOneIn.map { "1/\($0)" } ?? "-"), "
            + "file sizes \(fileSizes.map { $0 >> 10 }) KiB, "
            + "faults \(plan.oneIn.map { "\($0.key.rawValue) 1/\($0.value)" }.sorted())"
    }
}
