import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Tenants that have a journal of their own: what is kept apart, numbers that go on, order, and what a failure leaves.
@Suite struct PlacementTests: PlacementSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    private func sequences(_ log: FaultyLog, _ subscriber: TenantName = "reader") throws -> [UInt64] {
        try read(log, by: subscriber).records.keys.filter { $0.tenant == moved }.map(\.sequence).sorted()
    }

    /// Tenants in the files of a journal.
    private func tenants(inJournalAt root: String) throws -> Set<TenantName> {
        Set(try JournalImage.live(in: root).flatMap { $0.commits.flatMap { $0.records.map(\.tenant) } })
    }

    @Test func numbersGoOnAndOnlyTheTenantIsThere() throws {
        var ledger = Ledger()
        var log = try open()
        #expect(log.placement(of: moved) == .shared)
        try fill(log, &ledger, batches: 3)
        try log.placeBlocking(moved, .dedicated())
        #expect(log.placement(of: moved) == .dedicated())
        let before = try tenants(inJournalAt: directory.path)
        #expect(before == Set(Self.tenants))
        try fill(log, &ledger, batches: 3)
        let residences = log.residences(of: moved)
        #expect(residences.map(\.firstSequence) == [1, 13] && residences.map(\.lastSequence) == [12, nil])
        #expect(residences.map(\.path) == [directory.path, ownRoot])
        #expect(try sequences(log) == Array(1...24))
        check(try read(log).records, ledger.records)
        let status = try #require(log.tenants.first { $0.name == moved })
        #expect(status.nextSequence == 25 && status.held == 1...24 && status.backlog == 24)
        try log.closeBlocking()
        #expect(try tenants(inJournalAt: ownRoot) == [moved])
        let inShared = try JournalImage.live(in: directory.path).flatMap { $0.commits.flatMap(\.records) }
        #expect(inShared.filter { $0.tenant == moved }.map(\.sequence).max() == 12)
        try checkView(ledger)
        log = try open()
        #expect(log.placement(of: moved) == .dedicated())
        try fill(log, &ledger, batches: 1)
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        try checkView(ledger)
    }

    /// Before its first record: nothing of the tenant was ever in the shared journal.
    @Test func tenantsArePlacedBeforeTheyCome() throws {
        var ledger = Ledger()
        let log = try open()
        try log.placeBlocking(moved, .dedicated())
        try fill(log, &ledger, batches: 2)
        #expect(log.residences(of: moved).map(\.firstSequence) == [1])
        try log.compactBlocking()
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        #expect(try tenants(inJournalAt: directory.path) == Set(Self.tenants).subtracting([moved]))
        #expect(segmentPaths.allSatisfy { !$0.contains("beta") })
        try checkView(ledger)
    }

    /// On its way there and back under the load of threads, tasks and enqueues, with somebody who reads all the while: each
    /// receipt is a record, each comes once and in order, also when the log is let go amid it.
    @Test(arguments: [false, true]) func movesUnderLoadLoseAndDoubleNothing(closes: Bool) async throws {
        let elsewhere = TemporaryDirectory()
        let noted = try await moveUnderLoad(elsewhere.path + "/own", closes: closes)
        // Where it was not closed, as a crash would leave it.
        let log = try open()
        let found = try read(log, by: "slow")
        #expect(found.errors.isEmpty)
        check(found.records.filter { noted[$0.key] != nil }, noted)
        let status = try #require(log.tenants.first { $0.name == moved })
        #expect(status.acknowledgedThrough["slow"] == 0 && status.backlog == status.nextSequence - 1)
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        let all = ReadBack(view)
        #expect(!view.hasLoss && all.failures.isEmpty)
        #expect(all.duplicates.isEmpty, "\(all.duplicates) \(log.residences())")
        check(all.records.filter { noted[$0.key] != nil }, noted)
    }

    /// Returns what there is a receipt for.
    private func moveUnderLoad(_ elsewhere: String, closes: Bool) async throws -> [RecordName: [UInt8]] {
        let places: [Placement] = [
            .dedicated(), .shared, .dedicated(directory: elsewhere), .dedicated(), .shared, .dedicated(),
        ]
        let noted = Shared<[RecordName: [UInt8]]>([:])
        let isDone = Shared(false)
        let living = try open()
        try living.register(subscriber: "slow")
        let given = Shared<[TenantName: [UInt64]]>([:])
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<6 {
                group.addTask {
                    let tenant = Self.tenants[number % 3]
                    for count in 0..<400 where !isDone.value {
                        let record = numberedRecord(number * 1000 + count, length: 300)
                        do {
                            if number < 3 {
                                let sequence = try await living.append(record, tenant: tenant).sequence
                                noted.change { $0[RecordName(tenant, sequence)] = record.payload }
                            } else {
                                do {
                                    let ticket = try living.enqueue(record, tenant: tenant)
                                    try await living.durable(through: ticket)
                                } catch WALError.placementChanging, WALError.journalFull {}
                            }
                        } catch WALError.journalFull {
                        } catch { Issue.record("\(error)") }
                        try? await Task.sleep(for: .microseconds(300))
                    }
                }
            }
            group.addTask {
                // Goes on from where it stopped, as a follower does.
                var iterator = living.records(subscriber: "follower").makeAsyncIterator()
                while true {
                    let ends = isDone.value
                    do {
                        while let batch = try await iterator.next() {
                            given.change { $0[batch.tenant, default: []] += Array(batch.sequences) }
                            living.acknowledge(batch, subscriber: "follower")
                        }
                    } catch { Issue.record("\(error)") }
                    if ends { return }
                    try? await Task.sleep(for: .milliseconds(2))
                }
            }
            group.addTask {
                for place in places + places {
                    try? await Task.sleep(for: .milliseconds(20))
                    do { try await living.place(Self.tenants[1], place) } catch { Issue.record("\(error)") }
                }
                isDone.value = true
            }
        }
        for (tenant, numbers) in given.value {
            #expect(numbers == Array(1...UInt64(numbers.count)), "\(tenant)")
            #expect(numbers.count >= noted.value.keys.filter { $0.tenant == tenant }.count)
        }
        #expect(living.placement(of: moved) == .dedicated())
        if closes { try living.closeBlocking() }
        return noted.value
    }

    /// A journal whose volume is missing keeps its tenant waiting, and nobody else.
    @Test func missingVolumeStopsItsTenantOnly() throws {
        let volume = TemporaryDirectory()
        let (root, away) = (volume.path + "/own", volume.path + "/away")
        var ledger = Ledger()
        var log = try open()
        try fill(log, &ledger, batches: 2)
        try log.placeBlocking(moved, .dedicated(directory: root))
        try fill(log, &ledger, batches: 2)
        try log.closeBlocking()
        try FileManager.default.moveItem(atPath: root, toPath: away)
        log = try open()
        for _ in 0..<2 { try ledger.append(to: log, "alpha") }
        #expect { try log.appendBlocking(numberedRecord(1), tenant: moved) } throws: {
            if case WALError.journalUnavailable(moved, root, _) = $0 { true } else { false }
        }
        #expect(throws: WALError.self) { try log.enqueue(numberedRecord(1), tenant: moved) }
        #expect(throws: WALError.self) { try log.placeBlocking(moved, .shared) }
        #expect(throws: WALError.self) { try log.eraseBlocking(moved) }
        #expect(log.residences(of: moved).map { $0.fault != nil } == [false, true])
        // No new journal is begun where the old one is expected: its numbers would be given twice.
        #expect(!FileManager.default.fileExists(atPath: root))
        let others = try read(log).records
        check(others.filter { $0.key.tenant != moved }, ledger.records.filter { $0.key.tenant != moved })
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path)
        #expect(view.hasLoss)
        let found = ReadBack(view)
        #expect(found.failures.count == 1 && found.failures[0].contains(root))
        check(
            found.records,
            ledger.records.filter { $0.key.tenant != moved || $0.key.sequence <= 8 })
        try FileManager.default.moveItem(atPath: away, toPath: root)
        log = try open()
        try ledger.append(to: log, moved)
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        try checkView(ledger)
    }

    /// What nobody lacks any more leaves no residence, and a journal without a tenant no file.
    @Test func journalsThatNobodyNeedsGo() throws {
        var ledger = Ledger()
        var log = try open()
        try log.placeBlocking(moved, .dedicated())
        try fill(log, &ledger, batches: 2)
        try log.placeBlocking(moved, .shared)
        try fill(log, &ledger, batches: 2)
        // While nobody has subscribed, everything stays.
        #expect(log.residences(of: moved).count == 2)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        #expect(try deliver(log, to: "collector").records.isEmpty)
        try log.closeBlocking()
        log = try open()
        #expect(log.residences(of: moved).map(\.placement) == [.shared])
        let left = try files(below: ownRoot)
        #expect(left.isEmpty, "\(left)")
        ledger.forget(Array(ledger.names))
        try fill(log, &ledger, batches: 1)
        #expect(ledger.highest[moved] == 20)
        check(try deliver(log, to: "collector").records, ledger.records)
        // The same directory serves again.
        try log.placeBlocking(moved, .dedicated())
        try ledger.append(to: log, moved)
        #expect(ledger.highest[moved] == 24)
        try log.closeBlocking()
    }

    /// Who comes later subscribes to all journals, and what a subscriber has is had wherever it was.
    @Test func subscribersAndCursorsAreOfAllJournals() throws {
        var ledger = Ledger()
        var log = try open()
        try log.register(subscriber: "early")
        try fill(log, &ledger, batches: 2)
        try log.placeBlocking(moved, .dedicated())
        try log.register(subscriber: "late")
        try fill(log, &ledger, batches: 2)
        log.acknowledge(through: 4, of: moved, subscriber: "early")
        log.acknowledge(through: 12, of: moved, subscriber: "late")
        try log.flushAcknowledgementsBlocking()
        for _ in 0..<2 {
            #expect(try sequences(log, "early") == Array(5...16))
            #expect(try sequences(log, "late") == Array(13...16))
            let status = try #require(log.tenants.first { $0.name == moved })
            #expect(status.acknowledgedThrough == ["early": 4, "late": 12])
            #expect(status.backlog == 12)
            try log.closeBlocking()
            log = try open()
        }
        log.unregister(subscriber: "early")
        try log.flushAcknowledgementsBlocking()
        #expect(log.tenants.first { $0.name == moved }?.acknowledgedThrough == ["late": 12])
        try log.closeBlocking()
    }

    @Test func erasureReachesEveryJournal() throws {
        var log = try open()
        try log.register(subscriber: "collector")
        var secrets: [[UInt8]] = []
        func fill() throws { try fillWithSecrets(log, &secrets, count: 8) }
        try fill()
        try log.compactBlocking()
        try fill()
        try log.placeBlocking(moved, .dedicated())
        try fill()
        try log.compactBlocking()
        try fill()
        let scan = PayloadScan(secrets)
        #expect(try scan.places(below: directory.path).count >= 4)
        let report = try log.eraseBlocking(moved)
        #expect(report.through == 32 && report.undelivered == 32)
        #expect(
            report.files.contains { $0.path.hasPrefix(ownRoot) } && report.files.contains { !$0.path.hasPrefix("/") })
        #expect(try scan.places(below: directory.path).isEmpty)
        #expect(try log.appendBlocking(numberedRecord(1), tenant: moved).sequence == 33)
        #expect(try sequences(log) == [33])
        try log.closeBlocking()
        log = try open()
        #expect(try sequences(log) == [33])
        try log.closeBlocking()
    }

    /// What a budget says of a tenant holds where it is, whatever numbers it had elsewhere.
    @Test func budgetsBeginAnew() throws {
        var options = options()
        options.tenantRetention[moved] = RetentionPolicy(budget: 20_000, whenFull: .dropOldest)
        let log = try open(options)
        try log.register(subscriber: "collector")
        for number in 0..<40 { try log.appendBlocking(numberedRecord(number, length: 1000), tenant: moved) }
        try log.placeBlocking(moved, .dedicated())
        let before = try #require(log.tenants.first { $0.name == moved }?.drops[.budget]?.records)
        for number in 0..<40 { try log.appendBlocking(numberedRecord(number, length: 1000), tenant: moved) }
        let status = try #require(log.tenants.first { $0.name == moved })
        #expect(status.drops[.budget]?.records ?? 0 > before && status.drops[.budget]?.records ?? 0 < 70)
        #expect(status.backlogLength <= 40_000)
        let left = try sequences(log)
        #expect(UInt64(left.count) == 80 - (status.drops[.budget]?.records ?? 0) && left.last == 80)
        try log.closeBlocking()
    }

    /// What was dropped in a journal that is gone stays counted, and what was erased there stays known.
    @Test func accountsOutliveTheirJournals() throws {
        var options = options()
        options.tenantRetention[moved] = RetentionPolicy(budget: 10_000, whenFull: .dropOldest)
        var log = try open(options)
        try log.register(subscriber: "collector")
        try log.placeBlocking(moved, .dedicated())
        for number in 0..<30 { try log.appendBlocking(numberedRecord(number, length: 1000), tenant: moved) }
        let dropped = try #require(log.tenants.first { $0.name == moved }?.drops[.budget])
        let erasure = try log.eraseBlocking(moved)
        try log.placeBlocking(moved, .shared)
        #expect(log.residences(of: moved).count == 1)
        for _ in 0..<2 {
            let status = try #require(log.tenants.first { $0.name == moved })
            #expect(status.drops[.budget] == dropped && status.droppedThrough == 30)
            #expect(status.drops[.erasure]?.records == erasure.undelivered)
            #expect(status.erasure?.through == 30 && status.erasure?.isComplete == true)
            try log.closeBlocking()
            #expect(
                try WriteAheadLogReader(at: directory.path).tenants.first { $0.name == moved }?.drops == status.drops)
            log = try open(options)
        }
        #expect(try log.appendBlocking(numberedRecord(1), tenant: moved).sequence == 31)
        try log.closeBlocking()
    }

    /// A move whose table cannot be written leaves the tenant where it was.
    @Test func failedMoveLeavesTheTenantWhereItWas() throws {
        var ledger = Ledger()
        var log = try open()
        try fill(log, &ledger, batches: 1)
        try log.placeBlocking("other", .dedicated())
        let failures = Counter(1)
        plan.setReplace { $0 == "PLACEMENTS" && failures.next() >= 0 ? .ioFailure : nil }
        #expect(throws: WALError.self) { try log.placeBlocking(moved, .dedicated()) }
        #expect(log.placement(of: moved) == .shared)
        try fill(log, &ledger, batches: 1)
        // What that has left is removed with the next move.
        try log.placeBlocking("other", .shared)
        // Where it cannot be told which of them is on the disk, nothing is appended to either.
        plan.setReplace { $0 == "PLACEMENTS" ? .ioFailure : nil }
        #expect(throws: WALError.self) { try log.placeBlocking(moved, .dedicated()) }
        plan.setReplace(nil)
        #expect(throws: WALError.self) { try log.appendBlocking(numberedRecord(1), tenant: moved) }
        try ledger.append(to: log, "alpha")
        try log.closeBlocking()
        log = try open()
        try fill(log, &ledger, batches: 1)
        check(try read(log).records, ledger.records)
        try log.placeBlocking(moved, .dedicated())
        try fill(log, &ledger, batches: 1)
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        try checkView(ledger)
    }

    @Test func rootsThatAreNotWhatTheyShouldBeAreRefused() throws {
        let elsewhere = TemporaryDirectory()
        var log = try open()
        try log.placeBlocking(moved, .dedicated())
        try log.placeBlocking("alpha", .dedicated(directory: elsewhere.path + "/alpha"))
        for tenant in Self.tenants { try log.appendBlocking(numberedRecord(1), tenant: tenant) }
        #expect(throws: WALError.self) { try log.placeBlocking("gamma", .dedicated(directory: "relative")) }
        // Another tenant's, and what is no journal.
        #expect(throws: WALError.self) {
            try log.placeBlocking("gamma", .dedicated(directory: elsewhere.path + "/alpha"))
        }
        try FileManager.default.createDirectory(atPath: elsewhere.path + "/x", withIntermediateDirectories: true)
        try Data([1]).write(to: URL(fileURLWithPath: elsewhere.path + "/x/things"))
        #expect(throws: WALError.self) { try log.placeBlocking("gamma", .dedicated(directory: elsewhere.path + "/x")) }
        #expect(log.placement(of: "gamma") == .shared)
        try log.appendBlocking(numberedRecord(1), tenant: "gamma")
        try log.closeBlocking()
        // A part of a log is no log.
        #expect { try openPatiently(at: ownRoot, options: options()) } throws: {
            if case WALError.notALog(_, let reason) = $0 { reason.contains("\(moved)") } else { false }
        }
        // Nothing is told of it without the table.
        let path = directory.path + "/PLACEMENTS"
        let table = try Data(contentsOf: URL(fileURLWithPath: path))
        try FileManager.default.removeItem(atPath: path)
        #expect(throws: WALError.self) { try open() }
        #expect(throws: WALError.self) { try WriteAheadLogReader(at: directory.path) }
        try Data(repeating: 7, count: table.count).write(to: URL(fileURLWithPath: path))
        #expect(throws: WALError.self) { try open() }
        var half = table
        half.replaceSubrange(0..<4096, with: Data(repeating: 7, count: 4096))
        try half.write(to: URL(fileURLWithPath: path))
        log = try open()
        #expect(log.placement(of: moved) == .dedicated())
        #expect(try sequences(log) == [1])
        try log.closeBlocking()
    }
}
