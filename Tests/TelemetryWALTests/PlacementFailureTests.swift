import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Journals of tenants' own that have been left, or are away, while something fails: nothing is given up that somebody
/// lacks, and nothing that is to go stays for good.
@Suite struct PlacementFailureTests: PlacementSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    private func append(_ count: Int, to log: FaultyLog, _ ledger: inout Ledger) throws {
        for _ in 0..<count { try ledger.append(to: log, moved, count: 1, length: 3000) }
    }

    /// Appends that failed in the shared journal left their bytes there, of a tenant that it does not know: they go with the
    /// tenant's erasure in its own.
    @Test func journalsThatDoNotKnowTheTenantAreSwept() throws {
        var (ledger, secrets) = (Ledger(), [[UInt8]]())
        var log = try open()
        try ledger.append(to: log, "alpha", count: 2, length: 1500)
        plan.setWrite { _, range in
            if range.lowerBound > 0, range.count < 8192 { return nil }
            return .failsHolding([(range.lowerBound == 0 ? 20480 : 4096)..<1 << 20])
        }
        let payload = (0..<3000).map { _ in UInt8.random(in: 0...255) }
        let records = (0..<4).map { _ in TelemetryRecord(kind: .opaque, payload: payload) }
        #expect(throws: WALError.self) { try log.appendBlocking(contentsOf: records, tenant: moved) }
        plan.setWrite(nil)
        try? log.closeBlocking()
        log = try open()
        #expect(!log.tenants.contains { $0.name == moved })
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets)
        #expect(try !PayloadScan([payload]).places(below: directory.path + "/journal").isEmpty, "there is something")
        #expect(try log.eraseBlocking(moved).through == 6)
        let places = try PayloadScan(secrets + [payload]).places(below: directory.path)
        #expect(places.isEmpty, "\(places)")
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
    }

    /// A journal that cannot be read, so that it knows of no tenant, is none that nobody needs.
    @Test(arguments: [false, true]) func unreadableJournalsAreKept(isOwn: Bool) throws {
        var ledger = Ledger()
        var log = try open()
        try log.register(subscriber: "reader")
        if isOwn { try log.placeBlocking(moved, .dedicated()) }
        try append(5, to: log, &ledger)
        try log.placeBlocking(moved, isOwn ? .shared : .dedicated())
        try append(5, to: log, &ledger)
        try log.closeBlocking()
        let root = (isOwn ? ownRoot : directory.path) + "/journal/"
        plan.setRead { path, _ in path.hasPrefix(root) }
        if isOwn {
            log = try open()
            // No journal is begun anew beside what may be read another time.
            #expect(log.residences(of: moved).map { $0.fault != nil } == [true, false])
            try log.closeBlocking()
        } else {
            #expect(throws: WALError.self) { try open() }
        }
        plan.setRead(nil)
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        #expect(log.residences(of: moved).count == 2)
        let found = try read(log)
        check(found.records, ledger.records)
        try log.closeBlocking()
    }

    /// Who came while a journal was away is promised what it has, also by a repair that comes first.
    @Test func repairsKeepWhatLateSubscribersLack() throws {
        var ledger = Ledger()
        var log = try open()
        try log.placeBlocking(moved, .dedicated())
        let core = try #require(log.journals.openCores(with: moved).last)
        while core.lock.withLock({ core.files.count }) < 3 { try append(8, to: log, &ledger) }
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
        let away = ownRoot + "-away"
        try FileManager.default.moveItem(atPath: ownRoot, toPath: away)
        log = try open()
        try log.register(subscriber: "late")
        try log.closeBlocking()
        try FileManager.default.moveItem(atPath: away, toPath: ownRoot)
        // What has not left the journal by then.
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        let kept = Set(ReadBack(view).records.keys.map(\.sequence))
        try #require(!kept.isEmpty)
        let name = try #require(try view.journals.last?.view.get().journalFiles.first?.name)
        // A commit that collector has, and one copy of two: the repair has something to do that begins files anew.
        var oldest = try #require(try JournalImage.live(in: ownRoot).first { $0.path.hasSuffix(name) })
        let hit = try #require(oldest.commits.dropFirst(2).first { !$0.records.isEmpty })
        oldest.zero(hit.range)
        try oldest.save()
        let lost = Set(hit.records.map(\.sequence))
        var format = try Data(contentsOf: URL(fileURLWithPath: ownRoot + "/FORMAT"))
        format[20] ^= 1
        try format.write(to: URL(fileURLWithPath: ownRoot + "/FORMAT"))
        let repair = LogRepair(storage: FaultyStorage(at: directory.path, plan: plan), options: options())
        let own = try #require(try repair.ownJournals().first)
        _ = try own.repair.get().run(forgetsSubscribers: true)
        log = try open()
        check(
            try deliver(log, to: "late").records,
            ledger.records.filter {
                kept.contains($0.key.sequence) && !lost.contains($0.key.sequence)
            })
        try log.closeBlocking()
    }

    /// Numbers that are lost on both sides of a stay elsewhere are told, and none of those elsewhere.
    @Test func lossesAroundAStayElsewhereAreTold() throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "reader")
        try log.placeBlocking(moved, .dedicated())
        try append(5, to: log, &ledger)
        try log.placeBlocking(moved, .shared)
        try append(5, to: log, &ledger)
        try log.placeBlocking(moved, .dedicated())
        try append(4, to: log, &ledger)
        // While the log is open: it knows of no damage yet.
        for file in try JournalImage.live(in: ownRoot) {
            var file = file
            for commit in file.commits where commit.records.contains(where: { [5, 11, 12].contains($0.sequence) }) {
                file.zero(commit.range)
            }
            try file.save()
        }
        try log.compactBlocking()
        let found = try read(log)
        check(found.records, ledger.records.filter { ![5, 11, 12].contains($0.key.sequence) })
        let told = found.errors.map { "\($0)" }
        for range in ["5 to 5", "11 to 12"] {
            #expect(told.contains { $0.contains("records \(range) of tenant") }, "\(told)")
        }
        #expect(told.count == 2)
        try log.closeBlocking()
    }

    /// A removal waits for a volume that is away.
    @Test func removalsWaitForTheirVolume() throws {
        let volume = TemporaryDirectory()
        let (root, away) = (volume.path + "/own", volume.path + "/away")
        var log = try open()
        try log.placeBlocking(moved, .dedicated(directory: root))
        var ledger = Ledger()
        try append(3, to: log, &ledger)
        try log.closeBlocking()
        try changeTable {
            $0.residences = [.init(tenant: moved, home: .shared, firstSequence: 4)]
            $0.removals = [.init(tenant: moved, directory: root)]
        }
        try FileManager.default.moveItem(atPath: root, toPath: away)
        log = try open()
        #expect(log.journals.table.removals.count == 1)
        // Its bytes are there.
        #expect(throws: WALError.self) { try log.eraseBlocking(moved) }
        try log.closeBlocking()
        try FileManager.default.moveItem(atPath: away, toPath: root)
        log = try open()
        #expect(log.journals.table.removals.isEmpty)
        #expect(try files(below: root).isEmpty)
        try log.closeBlocking()
    }

    /// What an erasure overwrites includes what a removal has yet to remove.
    @Test func erasureOverwritesWhatIsToBeRemoved() throws {
        var log = try open()
        var secrets: [[UInt8]] = []
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets)
        try log.closeBlocking()
        try changeTable {
            $0.residences = [.init(tenant: moved, home: .shared, firstSequence: 7)]
            $0.removals = [.init(tenant: moved, directory: "")]
        }
        // The same bytes under other names, which stay.
        let links = directory.path + "-links"
        try FileManager.default.createDirectory(atPath: links, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: links) }
        for file in try files(below: ownRoot) where file.hasSuffix(".journal") {
            try FileManager.default.linkItem(
                atPath: ownRoot + "/" + file, toPath: links + "/" + file.replacingOccurrences(of: "/", with: "-"))
        }
        #expect(try !PayloadScan(secrets).places(below: links).isEmpty)
        // It cannot be removed when the log is opened, as it says that it is another's.
        let format = try Data(contentsOf: URL(fileURLWithPath: ownRoot + "/FORMAT"))
        try Data(contentsOf: URL(fileURLWithPath: directory.path + "/FORMAT"))
            .write(to: URL(fileURLWithPath: ownRoot + "/FORMAT"))
        log = try open()
        #expect(log.journals.table.removals.count == 1)
        try format.write(to: URL(fileURLWithPath: ownRoot + "/FORMAT"))
        try log.appendBlocking(numberedRecord(1), tenant: moved)
        try log.eraseBlocking(moved)
        #expect(log.journals.table.removals.isEmpty)
        #expect(try PayloadScan(secrets).places(below: links).isEmpty)
        try log.closeBlocking()
    }

    /// An erasure that was durable in one journal only is carried out in the others by whoever opens the log next.
    @Test func erasuresAreGoneOnWithInOtherJournals() throws {
        var log = try open()
        var secrets: [[UInt8]] = []
        try fillWithSecrets(log, &secrets)
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets)
        // The shared journal cannot say so.
        let root = directory.path + "/journal/"
        plan.setWrite { path, _ in path.hasPrefix(root) ? .fails(.ioFailure) : nil }
        #expect(throws: WALError.self) { try log.eraseBlocking(moved) }
        try? log.closeBlocking()
        plan.setWrite(nil)
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        #expect(try read(log).records.keys.filter { $0.tenant == moved }.isEmpty)
        try wait("the erasure is complete") {
            let isComplete = log.tenants.first { $0.name == moved }?.erasure?.isComplete == true
            return try isComplete && PayloadScan(secrets).places(below: directory.path).isEmpty
        }
        #expect(try log.appendBlocking(numberedRecord(1), tenant: moved).sequence > 12)
        try log.closeBlocking()
    }

    /// A view is of one moment: it has no hole where a tenant went elsewhere and came back while it was being opened.
    @Test func viewsEndWhereATenantLeftMeanwhile() throws {
        var ledger = Ledger()
        let log = try open()
        try append(5, to: log, &ledger)
        try log.placeBlocking("gamma", .dedicated())
        try log.waitForWatermark()
        let before = ledger.records
        let looking = FaultPlan()
        let (root, isFirst) = (directory.path + "/journal/", Shared(true))
        let failures = Shared<[String]>([])
        let (moved, later) = (moved, Shared(Ledger()))
        // The table has been read by then.
        looking.setRead { path, _ in
            guard path.hasPrefix(root), isFirst.value else { return false }
            isFirst.change { $0 = false }
            do {
                var ledger = Ledger()
                try log.placeBlocking(moved, .dedicated())
                try ledger.append(to: log, moved, count: 3)
                try log.placeBlocking(moved, .shared)
                try ledger.append(to: log, moved, count: 3)
                try log.waitForWatermark()
                later.change { $0 = ledger }
            } catch { failures.change { $0.append("\(error)") } }
            return false
        }
        let view = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: looking), scope: .wholeJournal)
        #expect(!isFirst.value && failures.value.isEmpty, "\(failures.value)")
        check(ReadBack(view).records, before)
        let whole = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)).records
        check(whole, before.merging(later.value.records) { $1 })
        try log.closeBlocking()
    }

    /// Another journal in the place of one that was removed is no damage to who looks at the former.
    @Test func viewsOfRemovedJournalsTellNoDamage() throws {
        var ledger = Ledger()
        let log = try open()
        try log.placeBlocking(moved, .dedicated())
        try append(5, to: log, &ledger)
        let looking = FaultPlan()
        let view = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: looking), scope: .wholeJournal)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        try log.placeBlocking(moved, .shared)
        #expect(!FileManager.default.fileExists(atPath: ownRoot + "/FORMAT"))
        try log.placeBlocking(moved, .dedicated())
        try append(5, to: log, &ledger)
        let found = ReadBack(view)
        #expect(found.damaged.isEmpty && found.failures.isEmpty, "\(found.damaged) \(found.failures)")
        try log.closeBlocking()
    }

    /// A journal that has lost a tenant's last records does not know that it had them: it is kept, whatever subscribers have
    /// of what is left.
    @Test func journalsThatLostTheirEndAreKept() throws {
        var ledger = Ledger()
        var log = try open()
        try log.register(subscriber: "reader")
        try log.placeBlocking(moved, .dedicated())
        try append(5, to: log, &ledger)
        try log.placeBlocking(moved, .shared)
        try append(2, to: log, &ledger)
        log.acknowledge(through: 3, of: moved, subscriber: "reader")
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: ownRoot).last)
        let first = try #require(file.commits.first { $0.records.contains { $0.sequence == 4 } })
        let last = try #require(file.commits.last)
        file.zero(first.range.lowerBound..<last.range.upperBound)
        try file.save()
        log = try open()
        #expect(log.residences(of: moved).map(\.firstSequence) == [1, 6])
        #expect(FileManager.default.fileExists(atPath: ownRoot + "/FORMAT"))
        try log.closeBlocking()
    }

    /// A journal with damage is kept, also where that has yet to be set aside.
    @Test func damagedJournalsAreKept() throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "reader")
        try log.placeBlocking(moved, .dedicated())
        try append(5, to: log, &ledger)
        check(try read(log, acknowledging: true).records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        let core = try #require(log.journals.openCores(with: moved).last)
        #expect(core.hasReleased(moved, before: 6))
        core.lock.withLock { core.files[0].holdsLoss = true }
        #expect(!core.hasReleased(moved, before: 6))
        core.lock.withLock { core.files[0].holdsLoss = false }
        // Nor does it know of more than it has.
        #expect(!core.hasReleased(moved, before: 7))
        #expect(!core.hasReleased("gamma", before: 2))
        try log.closeBlocking()
    }

    /// After damage a journal leaves numbers out, those of tenants included that are elsewhere: it does not say of these that
    /// they are erased.
    @Test func erasuresAreOfNumbersThatWereThere() throws {
        var ledger = Ledger()
        var log = try open()
        try fill(log, &ledger, batches: 3)
        try log.placeBlocking(moved, .dedicated())
        try append(3, to: log, &ledger)
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).last)
        let hits = file.commits.filter { $0.records.contains { $0.tenant != moved } }
        for hit in hits.dropFirst() { file.zero(hit.range) }
        try file.save()
        log = try open()
        let shared = log.journals.shared
        let next = shared.lock.withLock { shared.state.index(of: moved).map { shared.state.tenants[$0].nextSequence } }
        try #require(next ?? 0 > 20)
        try log.eraseBlocking(moved)
        ledger = Ledger()
        var later: [RecordName: [UInt8]] = [:]
        for number in 0..<4 {
            let record = numberedRecord(number)
            let sequence = try log.appendBlocking(record, tenant: moved).sequence
            later[RecordName(moved, sequence)] = record.payload
        }
        try log.closeBlocking()
        for _ in 0..<2 {
            log = try open()
            check(try read(log).records.filter { $0.key.tenant == moved }, later)
            try log.closeBlocking()
        }
    }
}
