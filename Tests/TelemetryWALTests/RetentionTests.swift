import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What a tenant's policy drops, what it refuses, and that nobody else notices.
@Suite struct RetentionTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    private static let budget: UInt64 = 200_000
    private let flooded: TenantName = "alpha"
    private let calm: TenantName = "gamma"

    private func options(
        _ whenFull: RetentionPolicy.WhenFull, budget: UInt64? = RetentionTests.budget, age: UInt64? = nil
    ) -> WriteAheadLogOptions {
        var options = options()
        options.tenantRetention = [flooded: RetentionPolicy(budget: budget, age: age, whenFull: whenFull)]
        return options
    }

    private func status(_ log: FaultyLog, _ tenant: TenantName? = nil) throws -> TenantStatus {
        try #require(log.tenants.first { $0.name == tenant ?? flooded })
    }

    /// What must be there: all but what the log says that it dropped.
    private func expected(_ ledger: Ledger, _ status: TenantStatus) -> [RecordName: [UInt8]] {
        ledger.records.filter { $0.key.tenant != status.name || $0.key.sequence > status.droppedThrough }
    }

    /// Damage in a file of which all was dropped is nothing to tell, although nobody subscribes.
    @Test func damageInWhatWasDroppedIsNotTold() throws {
        var ledger = Ledger()
        let log = try open()
        while log.liveFileCount < 3 { try ledger.append(to: log, flooded, count: 8, length: 1000) }
        let file = try #require(JournalImage.live(in: directory.path).first)
        let last = try #require(file.commits.last?.frames.last?.header.lastSequence)
        try log.setRetention(RetentionPolicy(budget: 20_000, whenFull: .dropOldest), of: flooded)
        try wait("the oldest are dropped") { try status(log).droppedThrough > last }
        var spoiled = file
        let body = try #require(file.commits[1].frames.last)
        spoiled.flip(at: file.commits[1].body(body).lowerBound + 40)
        try spoiled.save()
        let view = try WriteAheadLogReader(at: directory.path)
        #expect(view.journalFiles.contains { $0.header.fileSequence == file.sequence }, "the newest header counts it")
        let read = ReadBack(view)
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        try log.closeBlocking()
    }

    // MARK: - Budgets

    /// Back-pressure: the tenant's appends are refused at its budget, others' are not; acknowledging makes room.
    @Test func aBudgetRefusesItsTenantOnly() throws {
        var ledger = Ledger()
        let budget: UInt64 = 60_000
        let log = try open(options(.backPressure, budget: budget))
        try log.register(subscriber: "collector")
        func fillUp() throws {
            for _ in 0..<200 { try ledger.append(to: log, flooded, count: 2, length: 1000) }
        }
        var refusal: WALError?
        do { try fillUp() } catch { refusal = error as? WALError }
        guard case .tenantFull(flooded, budget) = refusal else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        let status = try status(log)
        #expect(status.backlogLength <= budget && status.backlogLength > budget - 3000)
        #expect(status.backlogLength == status.backlog * 1016)
        #expect(throws: WALError.self) { try log.enqueue(numberedRecord(1, length: 2000), tenant: flooded) }
        for _ in 0..<100 { try ledger.append(to: log, calm, count: 4, length: 1000) }
        // A record that is longer than the budget never has room, and is told so.
        #expect {
            try log.appendBlocking(numberedRecord(1, length: 61_000), tenant: flooded)
        } throws: { error in
            guard case .recordTooLarge(61_000, 59_984)? = error as? WALError else { return false }
            return true
        }
        let (records, _) = try deliver(log, to: "collector")
        check(records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        try ledger.append(to: log, flooded, count: 2, length: 1000)
        #expect(try self.status(log).drops.isEmpty)
        try log.closeBlocking()
    }

    /// Drop-oldest: appends go on, what waits stays within the budget, what went is counted once and for good, and a
    /// subscriber gets the rest.
    @Test(arguments: [1 << 30, 0] as [UInt64]) func theOldestGo(compactionThreshold: UInt64) throws {
        var ledger = Ledger()
        var options = options(.dropOldest)
        options.compactionThreshold = compactionThreshold
        var dropped = DropTotal()
        for _ in 0..<3 {
            let log = try open(options)
            for _ in 0..<120 {
                try ledger.append(to: log, flooded, count: 4, length: 2000)
                try ledger.append(to: log, calm, count: 1, length: 500)
                #expect(try status(log).backlogLength <= Self.budget)
            }
            try log.flushAcknowledgementsBlocking()
            let status = try status(log)
            dropped = try #require(status.drops[.budget])
            #expect(dropped.records == status.droppedThrough, "each is counted once")
            #expect(status.backlogLength > Self.budget / 2)
            #expect(dropped.firstReceived > 0 && dropped.firstReceived <= dropped.lastReceived)
            #expect(dropped.length / 2016 <= dropped.records && dropped.length / 2016 + 20 > dropped.records)
            try log.closeBlocking()
            // In the log itself: whoever opens it knows.
            let view = try WriteAheadLogReader(at: directory.path)
            let seen = try #require(view.tenants.first { $0.name == flooded })
            #expect(seen.drops == [.budget: dropped] && seen.droppedThrough == status.droppedThrough)
            #expect(!view.report.hasLoss)
        }
        let log = try open(options)
        let status = try status(log)
        #expect(status.drops[.budget] == dropped)
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.isEmpty, "what was dropped is no damage")
        check(records, expected(ledger, status))
        #expect(records.keys.filter { $0.tenant == flooded }.map(\.sequence).min() == status.droppedThrough + 1)
        try log.closeBlocking()
    }

    /// Drop-newest: what does not fit is not taken, and counted.
    @Test func theNewestAreNotTaken() throws {
        var ledger = Ledger()
        let log = try open(options(.dropNewest))
        var refused = 0
        for _ in 0..<150 {
            do { try ledger.append(to: log, flooded, count: 2, length: 1000) } catch {
                guard case .dropped(flooded, 2)? = error as? WALError else { throw error }
                refused += 2
            }
        }
        #expect(refused > 0)
        try log.flushAcknowledgementsBlocking()
        let status = try status(log)
        #expect(status.droppedThrough == 0 && status.backlog == UInt64(ledger.records.count))
        #expect(status.drops[.newest]?.records == UInt64(refused))
        #expect(status.drops[.newest]?.length == UInt64(refused) * 1016)
        try log.closeBlocking()
        let again = try open(options(.dropNewest))
        #expect(try self.status(again).drops == status.drops)
        check(try deliver(again, to: "collector").records, ledger.records)
        try again.closeBlocking()
    }

    /// Counts of what was not taken are written although nothing follows that they could ride on.
    @Test func refusalsAreWrittenByThemselves() throws {
        var ledger = Ledger()
        let log = try open(options(.dropNewest))
        for _ in 0..<90 { try ledger.append(to: log, flooded, count: 2, length: 1000) }
        var refused: UInt64 = 0
        func refuse() {
            while true {
                do { try ledger.append(to: log, flooded, count: 10, length: 1000) } catch {
                    refused += 10
                    return
                }
            }
        }
        let commits = log.statistics.commits
        for _ in 0..<100 { refuse() }
        // One flush each would be what others pay for it.
        #expect(log.statistics.commits - commits < 20)
        try wait("they are durable") {
            try WriteAheadLogReader(at: directory.path).tenants[0].drops[.newest]?.records == refused
        }
        try log.closeBlocking()
    }

    /// What was delivered stays delivered for the budget, whoever comes and leaves, before and after a restart.
    @Test func subscribersThatComeAndGoUseUpNoBudget() throws {
        var ledger = Ledger()
        var log = try open(options(.backPressure))
        try log.register(subscriber: "first")
        func fillAndDeliver() throws {
            for _ in 0..<45 { try ledger.append(to: log, flooded, count: 2, length: 2000) }
            _ = try deliver(log, to: "first")
            try log.flushAcknowledgementsBlocking()
        }
        try fillAndDeliver()
        try log.register(subscriber: "second")
        #expect(try status(log).backlogLength == 0)
        _ = try deliver(log, to: "second")
        try fillAndDeliver()
        _ = try deliver(log, to: "second")
        try log.flushAcknowledgementsBlocking()
        log.unregister(subscriber: "first")
        log.unregister(subscriber: "second")
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        log = try open(options(.backPressure))
        try log.register(subscriber: "first")
        #expect(try status(log).backlogLength == 0)
        try fillAndDeliver()
        #expect(try status(log).oldestReceived == nil)
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path)
        #expect(view.tenants[0].drops.isEmpty && view.tenants[0].backlogLength == 0)
    }

    /// A budget counts what waits, wherever it lies: moving and merging change nothing of it.
    @Test func movingDoesNotCount() throws {
        var ledger = Ledger()
        var options = options(.dropOldest, budget: 1 << 30)
        options.compactionThreshold = 0
        let log = try open(options)
        for _ in 0..<40 { try fill(log, &ledger, batches: 5) }
        try log.compactBlocking()
        #expect(log.compactionStatistics.records > 0)
        for tenant in Self.tenants {
            let owed = ledger.records.filter { $0.key.tenant == tenant }
            #expect(try status(log, tenant).backlogLength == owed.reduce(0) { $0 + UInt64($1.value.count) + 16 })
        }
        try log.closeBlocking()
        for tenant in try WriteAheadLogReader(at: directory.path).tenants {
            let owed = ledger.records.filter { $0.key.tenant == tenant.name }
            #expect(tenant.backlogLength == owed.reduce(0) { $0 + UInt64($1.value.count) + 16 })
        }
    }

    /// A budget that is made smaller, on the living log and from one opening to the next.
    @Test func aSmallerBudgetTakesHold() throws {
        var ledger = Ledger()
        var log = try open(options(.dropOldest, budget: 1 << 20))
        for _ in 0..<60 { try ledger.append(to: log, flooded, count: 4, length: 2000) }
        #expect(try status(log).drops.isEmpty)
        try log.setRetention(RetentionPolicy(budget: 300_000, whenFull: .dropOldest), of: flooded)
        #expect(log.retention(of: flooded).budget == 300_000 && log.retention(of: calm) == RetentionPolicy())
        try wait("the smaller budget takes hold") { try status(log).backlogLength <= 300_000 }
        #expect(throws: WALError.self) { try log.setRetention(RetentionPolicy(budget: 100), of: flooded) }
        try log.closeBlocking()
        // What a view says would go is what goes.
        let policy = RetentionPolicy(budget: 100_000, whenFull: .dropOldest)
        let plan = try WriteAheadLogReader(at: directory.path)
            .retentionPlan(RetentionPolicy(), own: [flooded: policy], at: wallClockNanoseconds())
        log = try open()
        try log.setRetention(policy, of: flooded)
        let went = try log.applyRetentionBlocking()
        #expect(plan.map(\.sequences) == went.map(\.sequences) || went.isEmpty)
        try wait("it goes") { try status(log).backlogLength <= 100_000 }
        #expect(plan.last?.sequences.upperBound == (try status(log).droppedThrough))
        try log.closeBlocking()
    }

    // MARK: - Age

    /// Who opens a log to have its policies applied is told what goes.
    @Test func whoAppliesPoliciesIsNotForestalled() throws {
        var ledger = Ledger()
        var log = try open(options(.backPressure, budget: nil))
        try log.register(subscriber: "collector")
        try fill(log, &ledger, batches: 3)
        try log.closeBlocking()
        var options = options(.backPressure, budget: nil, age: 1_000_000_000)
        options.firstRetentionPass = .max / 4
        log = try open(options)
        // Longer than the pass would wait otherwise.
        Thread.sleep(forTimeInterval: 2.5)
        #expect(try status(log).droppedThrough == 0)
        let last = try #require(ledger.highest[flooded])
        #expect(try log.applyRetentionBlocking().map(\.sequences) == [1...last])
        try log.closeBlocking()
    }

    /// Records older than they are kept go, whoever lacks them, from journal and segments; younger ones stay.
    @Test(arguments: [false, true]) func theOldGo(inSegments: Bool) throws {
        var ledger = Ledger()
        var options = options(.backPressure, budget: nil, age: 1_500_000_000)
        if inSegments { options.compactionThreshold = 0 }
        let begin = wallClockNanoseconds()
        let log = try open(options)
        try log.register(subscriber: "collector")
        for _ in 0..<30 { try fill(log, &ledger, batches: 2) }
        if inSegments { try log.compactBlocking() }
        let old = try #require(ledger.highest[flooded])
        Thread.sleep(forTimeInterval: 1.0)
        let young = wallClockNanoseconds()
        try ledger.append(to: log, flooded, count: 4)
        try wait("the old go") { try status(log).droppedThrough >= old }
        let dropped = try status(log)
        #expect(wallClockNanoseconds() - begin >= 1_500_000_000, "not before their time")
        if wallClockNanoseconds() - young < 1_400_000_000 { #expect(dropped.droppedThrough == old) }
        #expect(dropped.drops[.age]?.records == dropped.droppedThrough)
        #expect(try status(log, calm).droppedThrough == 0)
        check(
            try deliver(log, to: "collector", acknowledging: false).records.filter { $0.key.tenant != flooded },
            ledger.records.filter { $0.key.tenant != flooded })
        try wait("all of them go") { try status(log).backlog == 0 }
        if inSegments { try wait("its segments go") { !segmentPaths.contains { $0.contains("/alpha/") } } }
        try log.closeBlocking()
    }

    /// The age of what is in segments survives a restart.
    @Test func agesAreKnownAfterARestart() throws {
        var ledger = Ledger()
        var options = options()
        // Few segments: those that are merged go together.
        options.compactionThreshold = 1 << 20
        options.recoveryScope = .sinceCheckpoint
        var log = try open(options)
        for _ in 0..<8 { try fill(log, &ledger, batches: 2) }
        try log.compactBlocking()
        let old = try #require(ledger.highest[flooded])
        Thread.sleep(forTimeInterval: 1.2)
        for _ in 0..<8 { try fill(log, &ledger, batches: 2) }
        try log.compactBlocking()
        try log.closeBlocking()
        let now = wallClockNanoseconds()
        let view = try WriteAheadLogReader(at: directory.path)
        let plan = try view.retentionPlan(RetentionPolicy(age: 1_000_000_000), at: now)
        #expect(plan.map(\.tenant) == Self.tenants && plan.allSatisfy { $0.cause == .age })
        log = try open(options)
        try log.setRetention(RetentionPolicy(age: 1_000_000_000), of: flooded)
        try wait("the old go") { try status(log).droppedThrough > 0 }
        let dropped = try status(log).droppedThrough
        #expect(dropped >= old, "what the first half had, to the last record: its segments say when it came")
        try log.closeBlocking()
    }

    // MARK: - Room

    /// The log as a whole is full. A tenant that drops its oldest makes room; one with back-pressure loses nothing.
    @Test(arguments: [0, 1 << 20] as [UInt64]) func aFullLogDropsWhereItMay(segmentLimit: UInt64) throws {
        var ledger = Ledger()
        var options = options(.dropOldest, budget: nil)
        options.segmentLimit = segmentLimit
        let log = try open(options)
        try log.register(subscriber: "collector")
        try ledger.append(to: log, calm, count: 4, length: 500)
        if segmentLimit == 0 {
            // The oldest file holds the other's records: then it may not go, and appends are refused in the end.
            #expect(throws: WALError.self) {
                for _ in 0..<2000 { try ledger.append(to: log, flooded, count: 4, length: 4000) }
            }
            #expect(try status(log).drops.isEmpty)
            let (records, _) = try deliver(log, to: "collector")
            check(records, ledger.records)
            try log.flushAcknowledgementsBlocking()
        }
        for _ in 0..<600 { try ledger.append(to: log, flooded, count: 4, length: 4000) }
        try log.flushAcknowledgementsBlocking()
        let (records, damages) = try deliver(log, to: "collector")
        // The compactor may still make room while the records are read: what it dropped is asked for behind the reading.
        let status = try status(log)
        #expect(status.drops[.space]?.records ?? 0 > 0 && status.drops.count == 1)
        #expect(damages.isEmpty)
        if segmentLimit > 0 {
            let dropped = records.filter { $0.key.tenant == flooded && $0.key.sequence <= status.droppedThrough }
            for (name, payload) in dropped { #expect(ledger.records[name] == payload) }
            check(records.filter { dropped[$0.key] == nil }, expected(ledger, status))
        }
        #expect(log.segmentLength <= 2 << 20)
        try log.closeBlocking()
    }

    /// Less free space than the floor: nothing is made any more, appends come to be refused, all else goes on; with space
    /// again, so do they.
    @Test func theFloorOfFreeSpaceHolds() throws {
        var ledger = Ledger()
        var options = options()
        options.freeSpaceFloor = 1 << 30
        plan.setFreeSpace(2 << 30)
        let log = try open(options)
        try log.register(subscriber: "collector")
        try fill(log, &ledger, batches: 10)
        plan.setFreeSpace(1 << 30)
        var refusal: WALError?
        for _ in 0..<500 where refusal == nil {
            do { try fill(log, &ledger, batches: 1) } catch { refusal = error as? WALError }
        }
        guard case .journalFull(let reason)? = refusal, reason.contains("freeSpaceFloor") else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        #expect(segmentPaths.isEmpty)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        // What was acknowledged leaves files to be used again: no new one is needed.
        try wait("appends go on") { (try? ledger.append(to: log, calm, count: 1)) != nil }
        plan.setFreeSpace(nil)
        options.freeSpaceFloor = 0
        try log.closeBlocking()
        let again = try open(options)
        try fill(again, &ledger, batches: 100)
        try again.closeBlocking()
    }

    /// A file system that cannot say how much room it has is not full: nothing is dropped for it.
    @Test func failingToAskForSpaceDropsNothing() throws {
        var ledger = Ledger()
        var options = options(.dropOldest, budget: nil)
        options.freeSpaceFloor = 1 << 20
        options.compactionThreshold = 0
        // Far enough: it must not be the journal's limit that is reached.
        options.journalLimit = 16 << 20
        let log = try open(options)
        try log.register(subscriber: "collector")
        for _ in 0..<60 { try ledger.append(to: log, flooded, count: 4, length: 4000) }
        try wait("segments are made") { log.segmentCount > 0 }
        plan.failFreeSpace()
        var refusal: WALError?
        for _ in 0..<2000 where refusal == nil {
            do { try ledger.append(to: log, flooded, count: 4, length: 4000) } catch { refusal = error as? WALError }
        }
        guard case .storage? = refusal else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        Thread.sleep(forTimeInterval: 2.5)
        #expect(try status(log).drops.isEmpty)
        plan.setFreeSpace(nil)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// Policies that make no sense are refused.
    @Test func policiesAreChecked() {
        for policy in [
            RetentionPolicy(budget: 4095), RetentionPolicy(budget: .max), RetentionPolicy(age: 999_999_999),
        ] {
            var options = options()
            options.retention = policy
            #expect(throws: WALError.self) { try open(options) }
            options.retention = RetentionPolicy()
            options.tenantRetention = ["x": policy]
            #expect(throws: WALError.self) { try open(options) }
        }
    }
}
