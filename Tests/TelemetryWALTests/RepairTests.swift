import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// A repair leaves nothing amiss, gives up nothing that can be read, says what it gives up, and deletes no byte.
@Suite struct RepairTests: RepairSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    // MARK: - Nothing to do

    @Test func aSoundLogIsNotTouched() throws {
        var ledger = Ledger()
        let log = try open()
        while log.segmentCount == 0 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let files = try files()
        let report = try repair.run()
        #expect(report == RepairReport(plan: RepairPlan()))
        #expect(try self.files() == files)
    }

    @Test func aLogWithAWriterIsNotTouched() throws {
        let (ledger, _, _) = try damagedJournal()
        let log = try open()
        #expect(try !repair.plan().isEmpty, "looking is allowed")
        #expect {
            try repair.run()
        } throws: { error in
            guard case .storage(let cause)? = error as? WALError, case .locked = cause.code else { return false }
            return true
        }
        try log.closeBlocking()
        try repairAndCheck(ledger)
    }

    // MARK: - The journal

    /// What a plan says is what is done; the damaged file is kept byte by byte; the loss is told to who reads, once.
    @Test(arguments: [false, true]) func damageInTheJournal(hasSubscriber: Bool) throws {
        var (ledger, file, hit) = try damagedJournal()
        if hasSubscriber {
            // Without the bit that is damaged, a subscriber cannot be had in the same log: it came before.
            let log = try open()
            try log.register(subscriber: "collector")
            try log.closeBlocking()
        }
        let bytes = try Data(contentsOf: URL(fileURLWithPath: file.path))
        let files = try files()
        let plan = try repair.plan()
        #expect(try self.files() == files, "a plan changes nothing")
        let step = try #require(plan.steps.first)
        #expect(plan.steps.count == 1 && step.action == .moveToSegments && step.path == "journal/" + file.name)
        #expect(step.recordsLost == UInt64(hit.records.count))
        #expect(
            Set(step.losses.flatMap { loss in loss.sequences.map { RecordName(loss.tenant, $0) } }) == Set(hit.records))
        let report = try repairAndCheck(ledger)
        #expect(report.plan == plan && report.recordsGivenUp == UInt64(hit.records.count))
        #expect(report.setAside.count == 1)
        let kept = try Data(contentsOf: URL(fileURLWithPath: directory.path + "/" + (report.setAside.first ?? "")))
        #expect(kept == bytes)
        let log = try open()
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.count == 1, "\(damages)")
        #expect(Set(ledger.names.filter { records[$0] == nil }) == Set(hit.records))
        try log.closeBlocking()
        try checkThatItGoesOn(&ledger)
    }

    /// Damage behind the last checkpoint, which may have swallowed a subscriber's name: nothing leaves the journal before
    /// it was opened again.
    @Test func damageInTheNewestFile() throws {
        var ledger = Ledger()
        let log = try open()
        try fill(log, &ledger, batches: 4)
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).last)
        file.zero(try #require(file.commits.dropFirst(2).first { !$0.records.isEmpty }).range)
        try file.save()
        let first = try repair.run()
        #expect(first.mayLackSubscribers && !first.remaining.isEmpty && first.setAside.isEmpty)
        #expect(first.recordsGivenUp == 0 && segmentPaths.isEmpty)
        // Somebody has opened the log since the damage was told: who subscribes is known.
        let second = try repair.run()
        #expect(!second.mayLackSubscribers && second.remaining.isEmpty && second.recordsGivenUp > 0)
        try checkThatItGoesOn(&ledger)
        #expect(try repairAndCheck(ledger).plan.isEmpty)
    }

    /// Everybody has what can be read of the damaged file: that it leaves must not mean that its loss is never told.
    @Test func lossesAmongWhatIsDelivered() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        try log.register(subscriber: "collector")
        while log.liveFileCount < 4 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let files = try JournalImage.live(in: directory.path)
        var file = files[1]
        // The last one of a tenant in the file.
        let hit = try #require(file.commits.last { $0.records.contains { $0.tenant == "alpha" } })
        let lost = hit.records.filter { $0.tenant == "alpha" }
        let below = try #require(lost.map(\.sequence).min()) - 1
        log = try open(options)
        log.acknowledge(through: below, of: "alpha", subscriber: "collector")
        for tenant in Self.tenants.dropFirst() {
            let next = try #require(
                files[2].commits.flatMap(\.records).filter { $0.tenant == tenant }.map(\.sequence).min())
            log.acknowledge(through: next - 1, of: tenant, subscriber: "collector")
        }
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        guard let again = JournalImage(name: file.name, in: directory.path), again.sequence == file.sequence else {
            Issue.record("the file has left")
            return
        }
        file.zero(hit.range)
        try file.save()
        let report = try repair.run()
        #expect(report.remaining.isEmpty, "\(report.remaining.steps)")
        let (givenUp, others) = try losses(try view())
        #expect(givenUp.isSuperset(of: lost) && others.isEmpty, "\(givenUp)")
        log = try open()
        let (records, damages) = try deliver(log, to: "collector")
        #expect(!damages.isEmpty && lost.allSatisfy { records[$0] == nil })
        try log.closeBlocking()
    }

    /// Two files in which the device fails to read some of a frame's body.
    @Test func twoFilesThatCannotBeReadInPlaces() throws {
        let (ledger, file, _) = try damagedJournal()
        let files = try JournalImage.live(in: directory.path)
        var ranges: [String: Range<UInt64>] = [:]
        for other in files.prefix(3) where other.name != file.name {
            let commit = try #require(other.commits.dropFirst(4).first { $0.header.commitLength > 8192 })
            ranges[other.name] = UInt64(commit.range.upperBound - 4096)..<UInt64(commit.range.upperBound)
        }
        #expect(ranges.count == 2)
        let failing = ranges
        plan.setRead { path, bytes in
            failing.contains { path.hasSuffix($0.key) && bytes.overlaps($0.value) && !path.contains("quarantine") }
        }
        let report = try repair.run(forgetsSubscribers: true)
        #expect(report.remaining.isEmpty, "\(report.remaining.steps)")
        let read = ReadBack(try view())
        let (givenUp, _) = try losses(try view())
        #expect(ledger.names.subtracting(read.records.keys).isSubset(of: givenUp))
        plan.setRead(nil)
    }

    /// A file that the device fails to read for a moment while the plan is made is no stray.
    @Test func whatCanBeReadAgainStays() throws {
        let (ledger, _, _) = try damagedJournal()
        let files = try JournalImage.live(in: directory.path)
        let name = files[1].name
        let isOpening = Counter(1)
        // While nobody has the lock.
        plan.setRead { [directory] path, _ in
            guard path.hasSuffix(name) else { return false }
            return (try? FaultyStorage(at: directory.path).writer()) == WriterPresence.none && isOpening.next() > -200
        }
        #expect(try repair.plan().steps.contains { $0.action == .setAside && $0.path.hasSuffix(name) })
        let report = try repair.run()
        #expect(!report.setAside.contains { $0.contains(name + ".1") && !$0.contains(".1-") }, "\(report.setAside)")
        plan.setRead(nil)
        try repairAndCheck(ledger)
    }

    /// A bad copy of the header of a file that has left the log, and waits to be used again.
    @Test func aFileThatHasLeft() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        try log.register(subscriber: "collector")
        while log.liveFileCount < 4 { try fill(log, &ledger, batches: 1) }
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        // Until a header no longer counts them.
        let sequence = try #require(log.core.lock.withLock { log.core.files.last?.sequence })
        while log.core.lock.withLock({ log.core.files.last?.sequence }) == sequence {
            try fill(log, &ledger, batches: 1)
        }
        try log.closeBlocking()
        let all = try JournalImage.live(in: directory.path)
        let oldest = try #require(all.last?.header.oldestLiveFileSequence)
        var file = try #require(all.first { $0.sequence < oldest })
        file.zero(0..<4096)
        try file.save()
        let report = try repair.run()
        #expect(report.plan.steps.map(\.action) == [.setAside])
        #expect(report.remaining.isEmpty, "\(report.remaining.steps)")
        #expect(report.setAside == ["quarantine/" + file.name + ".1"])
        log = try open(options)
        try fill(log, &ledger, batches: 2)
        try log.closeBlocking()
    }

    /// A device that fails to read is asked several times before anything is given up.
    @Test func whatCannotBeReadIsGivenUp() throws {
        var (ledger, file, hit) = try damagedJournal()
        // Whole again: the device fails to read it.
        file.put(try #require(JournalImage(name: file.name, in: directory.path)).bytes, at: 0)
        let range = UInt64(hit.start)..<UInt64(hit.range.upperBound)
        let name = file.name
        plan.setRead { path, bytes in path.hasSuffix(name) && bytes.overlaps(range) }
        let report = try repairAndCheck(ledger)
        #expect(report.recordsGivenUp == UInt64(hit.records.count))
        plan.setRead(nil)
        try checkThatItGoesOn(&ledger)
    }

    /// Files that are no part of the log, and FORMAT.
    @Test func strangersAreSetAside() throws {
        var ledger = Ledger()
        let log = try open()
        while log.liveFileCount < 3 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let elsewhere = TemporaryDirectory()
        let other = try FaultyLog.open(storage: FaultyStorage(at: elsewhere.path), options: quietOptions())
        try other.appendBlocking(numberedRecord(1), tenant: "stranger")
        try other.closeBlocking()
        let foreign = try #require(try JournalImage.live(in: elsewhere.path).first)
        let own = try JournalImage.live(in: directory.path)
        let journal = directory.path + "/journal/"
        try Data(foreign.bytes).write(to: URL(fileURLWithPath: journal + "000000f0.journal"))
        try Data(own[1].bytes).write(to: URL(fileURLWithPath: journal + "000000f1.journal"))
        try Data(repeating: 0x5A, count: 256 << 10).write(to: URL(fileURLWithPath: journal + "000000f2.journal"))
        let format = URL(fileURLWithPath: directory.path + "/FORMAT")
        var bytes = try Data(contentsOf: format)
        let whole = bytes
        bytes[5000] ^= 1
        try bytes.write(to: format)
        let report = try repairAndCheck(ledger)
        #expect(
            report.plan.steps.map(\.action).sorted { $0.rawValue < $1.rawValue } == [
                .rewriteFormat, .setAside, .setAside, .setAside,
            ])
        #expect(
            report.setAside.sorted() == [
                "quarantine/000000f0.journal.1", "quarantine/000000f1.journal.1", "quarantine/000000f2.journal.1",
            ])
        #expect(try Data(contentsOf: format) == whole)
        #expect(report.recordsMoved == 0 && report.recordsGivenUp == 0)
        try checkThatItGoesOn(&ledger)
        // A second one of that name takes no place of the first.
        try Data(repeating: 0xA5, count: 256 << 10).write(to: URL(fileURLWithPath: journal + "000000f2.journal"))
        #expect(try repair.run().setAside == ["quarantine/000000f2.journal.2"])
    }

    /// A file that is gone: what it held is given up, what stands around it is not.
    @Test func aMissingFile() throws {
        var (ledger, _, _) = try damagedJournal()
        let files = try JournalImage.live(in: directory.path)
        try FileManager.default.removeItem(atPath: files[2].path)
        let report = try repairAndCheck(ledger)
        #expect(report.plan.steps.contains { $0.action == .giveUp && $0.path.contains("\(files[2].sequence)") })
        try checkThatItGoesOn(&ledger)
    }

    @Test func withoutRoomForSegmentsItSaysSo() throws {
        let (ledger, _, _) = try damagedJournal()
        let files = try files()
        var options = options()
        options.segmentLimit = 0
        #expect(throws: WALError.self) {
            try LogRepair(storage: FaultyStorage(at: directory.path), options: options).run()
        }
        #expect(try self.files() == files)
        try repairAndCheck(ledger)
    }

    /// The damaged file may leave while the header that still counts it is being written; then another one follows. Where
    /// a loss has no name, nothing else would say that the file is not missed.
    @Test(arguments: 1...12) func aHeaderFollowsTheLastThatLeaves(_ round: Int) throws {
        var ledger = Ledger()
        var log = try open()
        while log.liveFileCount < 4 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        var file = try JournalImage.live(in: directory.path)[2]
        let count = file.commits.count
        for commit in [count / 2, count - 4, count - 2] { file.flip(at: file.commits[commit].range.lowerBound + 100) }
        try file.save()
        #expect(try view().report.findings.contains { $0.losses.isEmpty && ($0.recordsLost ?? 0) > 0 })
        try repairAndCheck(ledger, "round \(round)")
        log = try open()
        try log.closeBlocking()
    }

    // MARK: - Anything

    /// Wounds of all kinds at random places of journal and segments, by seeds that a failure names.
    @Test(arguments: 1...12 as ClosedRange<UInt64>) func manyWounds(_ seed: UInt64) throws {
        var generator = SplitMix(seed: seed)
        var ledger = Ledger()
        var log = try open()
        if seed % 3 == 0 { try log.register(subscriber: "collector") }
        try fill(log, &ledger, batches: 20)
        if seed % 2 == 0 { try log.compactBlocking() }
        while log.liveFileCount < 4 { try fill(log, &ledger, batches: 3) }
        try log.closeBlocking()
        var files = try JournalImage.live(in: directory.path)
        // The newest one's last commits nothing vouches for: damage there is a torn tail.
        files.removeLast()
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            var file = files.randomElement(using: &generator)!
            guard FileManager.default.fileExists(atPath: file.path) else { continue }
            file.bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file.path)))
            let commit = file.commits.randomElement(using: &generator)!
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: file.zero(0..<4096)
            case 1: file.zero(0..<8192)
            case 2: file.zero(commit.range)
            case 3, 4:
                file.flip(
                    at: Int.random(in: commit.range.lowerBound..<commit.range.lowerBound + 200, using: &generator))
            case 5: file.zero(commit.start..<file.end)
            case 6: file.zero(0..<file.end)
            default:
                try FileManager.default.removeItem(atPath: file.path)
                continue
            }
            try file.save()
        }
        if let path = segmentPaths.randomElement(using: &generator) {
            try wound(path, Wound.allCases.randomElement(using: &generator)!)
        }
        try repairAndCheck(ledger, "seed \(seed)")
        try checkThatItGoesOn(&ledger)
        log = try open()
        try log.closeBlocking()
    }
}
