import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Several commits on their way at a time: acknowledged in order, and none of them lost or doubled whatever fails.
@Suite struct CommitsUnderWayTests {
    private let directory = TemporaryDirectory()
    private let plan = FaultPlan()

    private func open(_ change: (inout WriteAheadLogOptions) -> Void = { _ in }) throws -> FaultyLog {
        var options = quietOptions(fileSize: 1 << 20)
        change(&options)
        return try openPatiently(at: directory.path, options: options, plan: plan)
    }

    /// Begins with a durable record, then holds a lone appender's write, and has another record written beside it.
    private func overtake(_ log: FaultyLog, _ gate: Gate) throws -> (held: Thread, second: Ticket) {
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        plan.setWrite { _, _ in gate.admit() }
        let held = Thread { _ = try? log.appendBlocking(numberedRecord(2), tenant: "alpha") }
        held.start()
        gate.waitUntilHeld()
        let second = try log.enqueue(numberedRecord(3), tenant: "beta")
        try waitUntil { log.core.lock.withLock { log.core.slotsUnderWay.contains { $0.result != nil } } }
        return (held, second)
    }

    @Test func whatIsWrittenFirstIsNotAcknowledgedBeforeWhatWasStagedFirst() async throws {
        let log = try open()
        let gate = Gate()
        let (held, second) = try overtake(log, gate)
        #expect(log.statistics.records == 1, "the second commit is on disk and must not be acknowledged")
        #expect(log.tenants.first { $0.name == "beta" }?.nextSequence == 1)
        gate.open()
        try await log.durable(through: second)
        #expect(log.statistics.records == 3)
        try waitUntil { held.isFinished }
        try await log.close()
        let found = try contents(of: directory.path)
        #expect(found["alpha"]?.count == 2 && found["beta"]?.count == 1)
    }

    @Test func aCrashBeforeTheFirstIsDurableLeavesNeither() async throws {
        let log = try open()
        let gate = Gate()
        let (_, second) = try overtake(log, gate)
        let crashed = TemporaryDirectory()
        let copy = crashed.path + "/wal"
        try FileManager.default.copyItem(atPath: directory.path, toPath: copy)
        let view = try WriteAheadLogReader(at: copy, scope: .wholeJournal)
        #expect(!view.report.hasLoss && view.report.findings.isEmpty, "\(view.report.findings)")
        #expect(view.report.cases[.unvouchedCommit] == 1)
        #expect(ReadBack(view).records.keys.map(\.description) == ["alpha/1"])
        gate.open()
        try await log.durable(through: second)
        try await log.close()
    }

    @Test func aFailureBeforeADurableCommitMovesBothInOrder() async throws {
        let log = try open()
        let gate = Gate(.fails(.ioFailure))
        let (held, second) = try overtake(log, gate)
        gate.open()
        try await log.durable(through: second)
        try waitUntil { held.isFinished }
        #expect(log.statistics.failedWrites == 1 && log.statistics.records == 3)
        try await log.close()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.findings.isEmpty)
        let read = ReadBack(view)
        #expect(read.duplicates.isEmpty)
        #expect(Set(read.records.keys.map(\.description)) == ["alpha/1", "alpha/2", "beta/1"])
        #expect(read.records[RecordName("alpha", 2)] == numberedRecord(2).payload)
    }

    @Test func allThatWaitsGoesIntoOneCommit() throws {
        let log = try open { $0.commitsUnderWay = 1 }
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        let held = Thread { _ = try? log.appendBlocking(numberedRecord(0), tenant: "alpha") }
        held.start()
        gate.waitUntilHeld()
        for number in 1...100 {
            _ = try log.enqueue(numberedRecord(number), tenant: try TenantName("tenant-\(number % 10)"))
        }
        gate.open()
        // Not by suspending: should that take a minute in a busy run, the idle log writes its watermark meanwhile.
        try waitUntil { log.statistics.records == 101 }
        #expect(log.statistics.writes == 2)
        try log.closeBlocking()
    }

    @Test func tasksThatWaitShareACommit() async throws {
        let log = try open { $0.commitsUnderWay = 1 }
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        let held = Thread { _ = try? log.appendBlocking(numberedRecord(0), tenant: "held") }
        held.start()
        gate.waitUntilHeld()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...40 {
                group.addTask {
                    try await log.append(numberedRecord(number), tenant: try TenantName("tenant-\(number)"))
                }
            }
            defer { gate.open() }
            let deadline = endOfPatience()
            while log.core.lock.withLock({ log.core.openGroup.recordCount }) < 40, Date() < deadline {
                try await Task.sleep(for: .milliseconds(1))
            }
            gate.open()
            try await group.waitForAll()
        }
        try await log.close()
        var batches = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal).records()
        var commits: [UInt64: Int] = [:]
        while let batch = try batches.next() { commits[batch.commitNumber, default: 0] += batch.count }
        #expect(commits.values.sorted() == [1, 40])
    }

    @Test func stagingIsBoundedAndRefusesInsteadOfGrowing() async throws {
        let log = try open {
            $0.commitsUnderWay = 1
            $0.stagingLimit = 1 << 20
            $0.journalFileSize = 4 << 20
        }
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        let held = Thread { _ = try? log.appendBlocking(numberedRecord(0), tenant: "alpha") }
        held.start()
        gate.waitUntilHeld()
        var staged = 0
        var last: Ticket?
        do throws(WALError) {
            while staged < 4 << 20 {
                last = try log.enqueue(numberedRecord(staged, length: 1000), tenant: "alpha")
                staged += 1016
            }
            Issue.record("nothing held it back")
        } catch {
            guard case .stagingFull(let limit) = error else { throw error }
            // A 16th is for other tenants.
            #expect(limit == 1 << 20 && staged <= limit / 16 * 15 && staged > limit / 16 * 15 - 4096)
        }
        #expect(log.statistics.backPressure == 1)
        gate.open()
        try await log.durable(through: try #require(last))
        _ = try log.enqueue(numberedRecord(1), tenant: "alpha")
        try await log.close()
    }

    /// Many were on their way and one is left: it waits for company no longer than a moment. The log's idle time is a
    /// minute here: a call that nobody hears takes that long, or for ever.
    @Test(.timeLimit(.minutes(60))) func aLoneAppendBehindABurstIsHeard() async throws {
        // One file takes all: `enqueue` does not wait for the next.
        let log = try open {
            $0.journalFileSize = 16 << 20
            $0.idleMilliseconds = 60_000
        }
        // A busy machine may hold up one or two as long.
        var slow = 0
        for round in 0..<300 {
            var last: Ticket?
            for number in 0..<5 { last = try log.enqueue(numberedRecord(number), tenant: "alpha") }
            try await log.durable(through: try #require(last))
            if round % 3 == 0 { try await log.flushAcknowledgements() }
            usleep(UInt32(round % 60))
            if round % 2 == 0 {
                let start = ContinuousClock.now
                try log.appendBlocking(numberedRecord(round), tenant: "beta")
                if ContinuousClock.now - start >= .seconds(50) { slow += 1 }
                try #require(slow < 3, "round \(round)")
            } else {
                try await log.append(numberedRecord(round), tenant: "beta")
            }
        }
        try await log.close()
    }

    /// Writes fail now and then while many append; what was acknowledged is there, once, and in order.
    @Test(arguments: [false, true]) func acknowledgedRecordsSurviveFailuresUnderLoad(_ tasks: Bool) async throws {
        let log = try open()
        let writes = Counter(1_000_000)
        plan.setWrite { _, range in range.lowerBound > 0 && writes.next() % 15 == 0 ? .failsHolding([0..<4096]) : nil }
        let ledger = try await append(to: log, tasks: tasks)
        plan.setWrite(nil)
        #expect(log.statistics.failedWrites > 0)
        try await log.close()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.findings.isEmpty, "\(view.report.findings)")
        checkRecords(ReadBack(view), ledger.records)
    }

    /// Sixteen appenders, each with a tenant of its own and one that all share; batches small and large.
    private func append(to log: FaultyLog, tasks: Bool) async throws -> Ledger {
        @Sendable func load(_ appender: Int, _ round: Int) throws -> ([TelemetryRecord], TenantName) {
            let number = appender * 1000 + round
            let tenant = round % 3 == 0 ? "shared" : try TenantName("tenant-\(appender)")
            let isLarge = round % 10 == 9
            let count = isLarge ? 30 : 1 + round % 4
            return ((0..<count).map { numberedRecord(number * 100 + $0, length: isLarge ? 2000 : 300) }, tenant)
        }
        let ledger = Guarded(Ledger())
        if tasks {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for appender in 0..<16 {
                    group.addTask {
                        for round in 0..<40 {
                            let (records, tenant) = try load(appender, round)
                            let receipt = try await log.append(contentsOf: records, tenant: tenant)
                            ledger.note(receipt, records)
                        }
                    }
                }
                try await group.waitForAll()
            }
        } else {
            let threads = (0..<16).map { appender in
                Thread {
                    for round in 0..<40 {
                        do {
                            let (records, tenant) = try load(appender, round)
                            ledger.note(try log.appendBlocking(contentsOf: records, tenant: tenant), records)
                        } catch { Issue.record(error) }
                    }
                }
            }
            for thread in threads { thread.start() }
            while !threads.allSatisfy(\.isFinished) { try await Task.sleep(for: .milliseconds(5)) }
        }
        return ledger.value
    }

    private final class Guarded: @unchecked Sendable {
        private let lock = NSLock()
        private var ledger: Ledger

        init(_ ledger: Ledger) { self.ledger = ledger }

        func note(_ receipt: BatchReceipt, _ records: [TelemetryRecord]) {
            lock.withLock {
                for (sequence, record) in zip(receipt.sequences, records) {
                    ledger.note(RecordName(receipt.tenant, sequence), record.payload)
                }
            }
        }
        var value: Ledger { lock.withLock { ledger } }
    }
}
