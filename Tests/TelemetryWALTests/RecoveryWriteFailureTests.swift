import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Writes that fail, and a disk without room.
@Suite struct RecoveryWriteFailureTests {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    private func open() throws -> FaultyLog { try openPatiently(at: directory.path, plan: plan) }

    /// Reads the log as a fresh process would; the closure says what may be there beside what was acknowledged.
    private func checkAcknowledged(_ ledger: Ledger, orPending pending: Set<RecordName> = []) throws {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!view.report.hasLoss && view.report.findings.isEmpty, "\(view.report.findings)")
        let read = ReadBack(view)
        let owed = ledger.records.filter { !pending.contains($0.key) || read.records[$0.key] != nil }
        checkRecords(ReadBack(view), owed)
    }

    /// What the device holds of a write that it said it failed: nothing, the first block, all but that, everything.
    static let held: [[Range<Int>]] = [[], [0..<4096], [4096..<1 << 20], [0..<1 << 20]]

    @Test(arguments: held, [true, false]) func oneFailedWriteIsRepeatedInAFreshFile(
        _ held: [Range<Int>], _ closing: Bool
    ) throws {
        var ledger = Ledger()
        do {
            let log = try open()
            for _ in 0..<3 { try ledger.append(to: log, "alpha", length: 3000) }
            plan.failNextWrites(1, .failsHolding(held))
            try ledger.append(to: log, "alpha", length: 3000)
            #expect(log.statistics.failedWrites == 1)
            #expect(log.liveFileCount == 2)
            for _ in 0..<3 { try ledger.append(to: log, "beta", length: 3000) }
            if closing { try log.closeBlocking() }
        }
        try waitForNoWriter(at: directory.path)
        try checkAcknowledged(ledger)
        let again = try open()
        try ledger.append(to: again, "alpha")
        try again.closeBlocking()
        try checkAcknowledged(ledger)
    }

    /// The first write of a new file fails: the file is given up before it was part of the log.
    @Test(arguments: held) func failedFirstWriteAbandonsTheFile(_ held: [Range<Int>]) throws {
        var ledger = Ledger()
        let firsts = Counter(2)
        plan.setWrite { _, range in range.lowerBound == 0 && firsts.next() == 0 ? .failsHolding(held) : nil }
        let log = try open()
        while log.liveFileCount < 3 { try ledger.append(to: log, "alpha", length: 3000) }
        #expect(log.statistics.failedWrites == 1)
        try log.closeBlocking()
        try checkAcknowledged(ledger)
    }

    /// The device acknowledges the first write of a new file and drops it: the log notices, and goes on in another.
    @Test func droppedFirstWriteIsNoticed() throws {
        var ledger = Ledger()
        let firsts = Counter(2)
        plan.setWrite { _, range in range.lowerBound == 0 && firsts.next() == 0 ? .dropped : nil }
        let log = try open()
        while log.liveFileCount < 3 { try ledger.append(to: log, "alpha", length: 3000) }
        #expect(log.statistics.failedWrites == 1)
        try log.closeBlocking()
        try checkAcknowledged(ledger)
    }

    /// Two failures in a row are final, until the log is opened again.
    @Test(arguments: held) func twoFailedWritesAreFinal(_ held: [Range<Int>]) throws {
        var ledger = Ledger()
        var pending: Set<RecordName> = []
        do {
            let log = try open()
            for _ in 0..<5 { try ledger.append(to: log, "alpha", length: 3000) }
            plan.failNextWrites(2, .failsHolding(held))
            #expect { try log.appendBlocking(numberedRecord(777, length: 9000), tenant: "alpha") } throws: {
                if case WALError.failed(let cause) = $0 { cause.code == .ioFailure } else { false }
            }
            // The device would work again: the log does not try.
            #expect { try log.appendBlocking(numberedRecord(778), tenant: "beta") } throws: {
                if case WALError.failed = $0 { true } else { false }
            }
            #expect { try log.closeBlocking() } throws: { if case WALError.failed = $0 { true } else { false } }
            let name = RecordName("alpha", 21)
            ledger.note(name, numberedRecord(777, length: 9000).payload)
            pending = [name]
        }
        try waitForNoWriter(at: directory.path)
        try checkAcknowledged(ledger, orPending: pending)
        let found = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)).records
        if found[RecordName("alpha", 21)] == nil { ledger.forget(pending) }
        let again = try open()
        try ledger.append(to: again, "alpha")
        try ledger.append(to: again, "beta")
        try again.closeBlocking()
        try checkAcknowledged(ledger)
    }

    /// The write that closes the log fails: nothing that was acknowledged depends on it.
    @Test func closingWriteFails() throws {
        var ledger = Ledger()
        let log = try open()
        try ledger.append(to: log, "alpha")
        plan.failNextWrites(1)
        try log.closeBlocking()
        try checkAcknowledged(ledger)
    }

    /// A failed write whose bytes the device holds, and then the next file's headers lost: the next file no longer
    /// says where this one ended, and the records still come back once.
    @Test func supersededTailWithoutItsSeal() throws {
        var ledger = Ledger()
        let log = try open()
        for _ in 0..<3 { try ledger.append(to: log, "alpha", length: 3000) }
        plan.failNextWrites(1, .failsHolding([0..<1 << 20]))
        for _ in 0..<5 { try ledger.append(to: log, "alpha", length: 3000) }
        try log.closeBlocking()
        var second = try JournalImage.live(in: directory.path)[1]
        second.zero(0..<8192)
        try second.save()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!view.report.hasLoss)
        checkRecords(ReadBack(view), ledger.records)
    }

    /// A file of one write has no later commit of its own to vouch for it: the next file's header does.
    @Test func headersOfAFileOfOneWriteAreLost() throws {
        var ledger = Ledger()
        let log = try open()
        try ledger.append(to: log, "alpha")
        plan.failNextWrites(1)
        for _ in 0..<3 { try ledger.append(to: log, "alpha") }
        try log.closeBlocking()
        var first = try JournalImage.live(in: directory.path)[0]
        first.zero(0..<8192)
        try first.save()
        var expected = RecoveryExpectation(ledger: ledger)
        expected.finding = .init(what: .headerLost, file: first.name, byteRange: 0..<8192)
        try checkRecovery(of: directory.path, expected)
    }

    @Test func fullDiskRefusesAppendsAndNothingElse() async throws {
        var ledger = Ledger()
        let made = Counter(4)
        plan.setCreate { _ in made.next() >= 0 ? nil : .noSpace }
        let log = try open()
        try log.register(subscriber: "collector")
        #expect {
            while true { try ledger.append(to: log, "alpha", length: 3000) }
        } throws: {
            if case WALError.journalFull = $0 { true } else { false }
        }
        // Reading and acknowledging need no room.
        var through: UInt64 = 0
        for try await batch in log.records(of: "alpha", subscriber: "collector") {
            for record in batch.records {
                #expect(ledger.records[RecordName("alpha", record.sequence)] == Array(record.payload))
                through = record.sequence
            }
        }
        #expect(through == ledger.highest["alpha"])
        log.acknowledge(through: through, of: "alpha", subscriber: "collector")
        try await log.flushAcknowledgements()
        // What was acknowledged makes room.
        let deadline = endOfPatience()
        while true {
            do {
                try ledger.append(to: log, "alpha", length: 3000)
                break
            } catch WALError.journalFull where Date() < deadline { try await Task.sleep(for: .milliseconds(2)) }
        }
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!view.report.hasLoss, "\(view.report.findings)")
        checkRecords(ReadBack(view), ledger.records, delivered: ["alpha": through])
    }

    @Test func fullLogClosesAndOpensAgain() throws {
        var ledger = Ledger()
        let made = Counter(4)
        plan.setCreate { _ in made.next() >= 0 ? nil : .noSpace }
        let log = try open()
        #expect(throws: WALError.self) {
            while true { try ledger.append(to: log, "alpha", length: 3000) }
        }
        try log.closeBlocking()
        try checkAcknowledged(ledger)
        let again = try open()
        try again.register(subscriber: "collector")
        again.acknowledge(through: 10, of: "alpha", subscriber: "collector")
        try again.closeBlocking()
        try checkAcknowledged(ledger)
        #expect(try openPatiently(at: directory.path).tenants[0].acknowledgedThrough["collector"] == 10)
    }
}
