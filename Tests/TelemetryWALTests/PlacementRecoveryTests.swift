import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Tenants with journals of their own, where something went wrong on the way, or somebody reads all the while.
@Suite struct PlacementRecoveryTests: PlacementSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    /// A reader that goes on behind the end is given what its first pass had to leave out, since the tenant came there
    /// meanwhile, and before what came later.
    @Test func followersMissNothingOfATenantThatComesBack() throws {
        var ledger = Ledger()
        let log = try open()
        try log.placeBlocking(moved, .dedicated())
        try ledger.append(to: log, moved, count: 5)
        for _ in 0..<4 { try ledger.append(to: log, "alpha", count: 1) }
        var walk = log.records(subscriber: "follower").makeBlockingIterator()
        var given: [TenantName: [UInt64]] = [:]
        func take() throws -> Bool {
            guard let batch = try walk.next() else { return false }
            given[batch.tenant, default: []] += Array(batch.sequences)
            log.acknowledge(batch, subscriber: "follower")
            return true
        }
        #expect(try take())
        try log.placeBlocking(moved, .shared)
        try ledger.append(to: log, moved, count: 1)
        while try take() {}
        #expect(given[moved] == Array(1...5) && given["alpha"] == Array(1...4))
        try log.flushAcknowledgementsBlocking()
        // Takes what nobody lacks out of the table.
        try log.placeBlocking("gamma", .dedicated())
        #expect(log.residences(of: moved).map(\.firstSequence) == [6])
        try ledger.append(to: log, moved, count: 1)
        while try take() {}
        #expect(given[moved] == Array(1...7))
        try log.closeBlocking()
    }

    /// What a writer that ended half way has left is removed by the next one.
    @Test func removalsAreGoneOnWith() throws {
        var log = try open()
        try log.placeBlocking(moved, .dedicated())
        try log.placeBlocking("gamma", .dedicated())
        var ledger = Ledger()
        try fill(log, &ledger, batches: 2)
        try log.closeBlocking()
        let copy = directory.path + "/../" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: copy) }
        try FileManager.default.copyItem(atPath: ownRoot, toPath: copy)
        log = try open()
        try log.register(subscriber: "collector")
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        try log.placeBlocking(moved, .shared)
        #expect(try files(below: ownRoot).isEmpty)
        try log.closeBlocking()
        // As if it had ended before that.
        try FileManager.default.removeItem(atPath: ownRoot)
        try FileManager.default.copyItem(atPath: copy, toPath: ownRoot)
        try changeTable {
            #expect($0.removals.isEmpty)
            $0.removals = [.init(tenant: moved, directory: "")]
        }
        log = try open()
        #expect(try files(below: ownRoot).isEmpty)
        #expect(log.journals.table.removals.isEmpty)
        // Another tenant's journal is not removed on its word.
        try log.closeBlocking()
        try changeTable { $0.removals = [.init(tenant: moved, directory: directory.path + "/dedicated/gamma")] }
        log = try open()
        #expect(try !files(below: directory.path + "/dedicated/gamma").isEmpty)
        #expect(log.journals.table.removals.count == 1)
        try ledger.append(to: log, "gamma")
        try log.closeBlocking()
    }

    /// Damage that takes what says where a tenant's numbers go on, with all that followed, has none of them given again.
    @Test(arguments: [false, true]) func numbersAreNotGivenAgainAfterDamage(inShared: Bool) throws {
        var ledger = Ledger()
        var log = try open()
        try fill(log, &ledger, batches: 2)
        try log.placeBlocking(moved, .dedicated())
        if inShared {
            try ledger.append(to: log, moved)
            try log.placeBlocking(moved, .shared)
        }
        for _ in 0..<3 { try ledger.append(to: log, moved) }
        let last = try #require(ledger.highest[moved])
        try log.closeBlocking()
        for var file in try JournalImage.live(in: inShared ? directory.path : ownRoot) {
            // The closing mark vouches for what is gone.
            for commit in file.commits.dropFirst().dropLast() { file.zero(commit.range) }
            try file.save()
        }
        log = try open()
        let next = try log.appendBlocking(numberedRecord(1), tenant: moved).sequence
        #expect(next > last, "\(next) behind \(last): \(log.dedicatedReports)")
        #expect(try log.appendBlocking(numberedRecord(1), tenant: moved).sequence > last)
        try log.closeBlocking()
    }

    /// An erasure that one journal cannot carry out is gone on with in all of them.
    @Test func erasureIsDurableInEveryJournalFirst() throws {
        var log = try open()
        var secrets: [[UInt8]] = []
        func fill() throws { try fillWithSecrets(log, &secrets) }
        try fill()
        try log.placeBlocking(moved, .dedicated())
        try fill()
        // The shared journal's files cannot be read, as an erasure has to.
        let root = directory.path + "/journal/"
        plan.setRead { path, _ in path.hasPrefix(root) }
        #expect(throws: WALError.self) { try log.eraseBlocking(moved) }
        #expect(try read(log).records.keys.filter { $0.tenant == moved }.isEmpty)
        try? log.closeBlocking()
        plan.setRead(nil)
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        #expect(try read(log).records.keys.filter { $0.tenant == moved }.isEmpty)
        try wait("the erasure is complete") {
            let isComplete = log.tenants.first { $0.name == moved }?.erasure?.isComplete == true
            return try isComplete && PayloadScan(secrets).places(below: directory.path).isEmpty
        }
        try log.closeBlocking()
    }

    /// An erasure that one journal says, and another does not know of, is not complete.
    @Test(arguments: [false, true]) func erasureInOneJournalOnlyIsNotComplete(isOwnAway: Bool) throws {
        var log = try open()
        var secrets: [[UInt8]] = []
        try fillWithSecrets(log, &secrets)
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets)
        if isOwnAway { try log.placeBlocking(moved, .shared) }
        // The other journal refuses all that is to be written.
        let others = (isOwnAway ? ownRoot : directory.path) + "/journal/"
        plan.setWrite { path, _ in path.hasPrefix(others) ? .fails(.ioFailure) : nil }
        #expect(throws: WALError.self) { try log.eraseBlocking(moved) }
        func isComplete(_ tenants: [TenantStatus]) -> Bool? { tenants.first { $0.name == moved }?.erasure?.isComplete }
        let core = try #require(isOwnAway ? log.core : log.journals.openCores(with: moved).last)
        try wait("it is complete in the one that could") {
            core.lock.withLock { core.state.index(of: moved).flatMap { core.state.tenants[$0].erasure?.isComplete } }
                ?? false
        }
        #expect(isComplete(log.tenants) == false)
        try? log.closeBlocking()
        plan.setWrite(nil)
        #expect(isComplete(try WriteAheadLogReader(at: directory.path).tenants) == false)
        if isOwnAway {
            // Nor where nobody can look.
            try FileManager.default.moveItem(atPath: ownRoot, toPath: ownRoot + "-away")
            #expect(isComplete(try WriteAheadLogReader(at: directory.path).tenants) == false)
            try FileManager.default.moveItem(atPath: ownRoot + "-away", toPath: ownRoot)
        }
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        try wait("the erasure is complete") {
            try isComplete(log.tenants) == true && PayloadScan(secrets).places(below: directory.path).isEmpty
        }
        try log.closeBlocking()
        #expect(isComplete(try WriteAheadLogReader(at: directory.path).tenants) == true)
    }

    /// An erasure that is gone on with takes no number above its own, although a move that failed has left numbers behind in
    /// the other journal that were given elsewhere since.
    @Test func erasureGoneOnWithTakesNothingLater() throws {
        var log = try open()
        let other = TemporaryDirectory()
        var secrets: [[UInt8]] = []
        try log.register(subscriber: "collector")
        // From the shared journal to a second and a third: of what the second one had, nobody lacks anything.
        try fillWithSecrets(log, &secrets, count: 2)
        try log.placeBlocking(moved, .dedicated(directory: other.path + "/own"))
        try fillWithSecrets(log, &secrets, count: 2)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets, count: 2)
        try log.eraseBlocking(moved)
        var ledger = Ledger()
        try ledger.append(to: log, moved)
        // It arrives in the shared journal and stays where it was.
        plan.setReplace { $0.hasSuffix("PLACEMENTS") ? .noSpace : nil }
        #expect(throws: WALError.self) { try log.placeBlocking(moved, .shared) }
        plan.setReplace(nil)
        try? log.closeBlocking()
        for _ in 0..<2 {
            log = try openPatiently(at: directory.path, options: options(), plan: plan)
            #expect(log.tenants.first { $0.name == moved }?.erasure?.through == 6)
            check(try read(log).records, ledger.records)
            try ledger.append(to: log, moved)
            try log.closeBlocking()
        }
        try checkView(ledger)
    }

    /// What was erased in a journal that was removed since is erased in the others, too, whatever numbers a failed move has
    /// left there.
    @Test func erasureInARemovedJournalIsComplete() throws {
        var log = try open()
        let other = TemporaryDirectory()
        var secrets: [[UInt8]] = []
        try log.register(subscriber: "collector")
        try fillWithSecrets(log, &secrets, count: 2)
        try log.placeBlocking(moved, .dedicated(directory: other.path + "/own"))
        try fillWithSecrets(log, &secrets, count: 2)
        try log.eraseBlocking(moved)
        try log.placeBlocking(moved, .dedicated())
        var ledger = Ledger()
        try ledger.append(to: log, moved)
        try log.closeBlocking()
        log = try open()
        try #require(log.residences(of: moved).map(\.firstSequence) == [5])
        plan.setReplace { $0.hasSuffix("PLACEMENTS") ? .noSpace : nil }
        #expect(throws: WALError.self) { try log.placeBlocking(moved, .shared) }
        plan.setReplace(nil)
        try? log.closeBlocking()
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        try wait("it is complete again") { log.tenants.first { $0.name == moved }?.erasure?.isComplete == true }
        #expect(log.tenants.first { $0.name == moved }?.erasure?.through == 4)
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
    }

    /// What an erasure has not reached, another journal having carried it out, stays a residence although nobody lacks it.
    @Test func residencesWaitForErasures() throws {
        let log = try open()
        var ledger = Ledger()
        try ledger.append(to: log, moved)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        // Before it is left, or it would go at once.
        try log.register(subscriber: "late")
        try log.placeBlocking(moved, .dedicated())
        try ledger.append(to: log, moved)
        try #require(log.residences(of: moved).count == 2)
        let own = try #require(log.journals.openCores(with: moved).last)
        own.lock.withLock {
            own.state.apply(.erasure(tenant: moved, through: 8, requested: 1, isComplete: true))
        }
        log.unregister(subscriber: "late")
        try log.flushAcknowledgementsBlocking()
        log.journals.vacate()
        #expect(log.residences(of: moved).count == 2)
        log.core.lock.withLock {
            log.core.state.apply(.erasure(tenant: moved, through: 4, requested: 1, isComplete: true))
        }
        log.journals.vacate()
        #expect(log.residences(of: moved).count == 1)
        try log.closeBlocking()
    }

    /// What stands in a segment's frame behind a tenant's first number in a journal is read, whatever is in front of it.
    @Test func framesBeginInFrontOfAResidence() throws {
        var log = try open()
        try log.register(subscriber: "collector")
        var ledger = Ledger()
        try ledger.append(to: log, moved)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        // Nothing comes to its own journal, and nobody lacks what was before.
        try log.placeBlocking(moved, .dedicated())
        try log.placeBlocking(moved, .shared)
        try #require(log.residences(of: moved).map(\.firstSequence) == [5])
        ledger.forget(Array(ledger.names))
        log.unregister(subscriber: "collector")
        try log.flushAcknowledgementsBlocking()
        try ledger.append(to: log, moved)
        try log.compactBlocking()
        let entries = log.core.lock.withLock { log.core.segments.entries(of: moved) }
        try #require(entries.contains { $0.covered.lowerBound < 5 && $0.covered.upperBound > 5 })
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        try checkView(ledger)
        log = try open()
        check(try deliver(log, to: "late").records, ledger.records)
        try log.closeBlocking()
    }

    /// The bytes of an erased tenant are damage to nobody, although the journal that tells of the erasure is gone when a
    /// view meets them.
    @Test func viewsKnowErasuresOfRemovedJournals() throws {
        let log = try open()
        var secrets: [[UInt8]] = []
        try log.placeBlocking(moved, .dedicated())
        try fillWithSecrets(log, &secrets)
        let looking = FaultPlan()
        let view = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: looking), scope: .wholeJournal)
        let (ownRoot, moved) = (ownRoot, moved)
        let failures = Shared<[String]>([])
        let isFirst = Shared(true)
        looking.setRead { path, _ in
            guard path.hasPrefix(ownRoot), isFirst.value else { return false }
            isFirst.change { $0 = false }
            do {
                try log.eraseBlocking(moved)
                try log.placeBlocking(moved, .shared)
                try wait("the journal is removed") {
                    !FileManager.default.fileExists(atPath: ownRoot + "/FORMAT")
                }
            } catch { failures.change { $0.append("\(error)") } }
            return false
        }
        let read = ReadBack(view)
        #expect(!isFirst.value && failures.value.isEmpty, "\(failures.value)")
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        #expect(read.records.isEmpty)
        try log.closeBlocking()
    }
}
