import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// A reader beside a living writer, and damage that comes while the log is open.
@Suite struct RecoveryLiveReaderTests {
    let directory = TemporaryDirectory()

    /// An idle writer's watermark shows a reader the last record soon.
    @Test func acknowledgedRecordsShowWithinTheIdleTime() throws {
        var options = quietOptions()
        options.idleMilliseconds = 5
        let log = try openPatiently(at: directory.path, options: options)
        var ledger = Ledger()
        for _ in 0..<5 {
            try ledger.append(to: log, "alpha")
            let deadline = endOfPatience()
            var read = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal))
            while read.records.count < ledger.records.count, Date() < deadline {
                Thread.sleep(forTimeInterval: 0.002)
                read = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal))
            }
            checkRecords(read, ledger.records)
        }
        // The watermark is written once, not again and again.
        try log.waitForWatermark()
        let commits = log.statistics.commits
        Thread.sleep(forTimeInterval: 0.1)
        #expect(log.statistics.commits == commits)
        try log.closeBlocking()
    }

    /// A commit whose bytes are on the disk and whose write has not returned is nobody's yet.
    @Test func unacknowledgedRecordsDoNotShow() throws {
        let plan = FaultPlan()
        let log = try openPatiently(at: directory.path, plan: plan)
        var ledger = Ledger()
        try ledger.append(to: log, "alpha")
        try ledger.append(to: log, "alpha")
        // The device takes the write and says that it failed, twice: the records were never acknowledged.
        plan.failNextWrites(2, .failsHolding([0..<1 << 20]))
        #expect(throws: WALError.self) { try log.appendBlocking(numberedRecord(9), tenant: "alpha") }
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.writer == .process(Int(getpid())))
        #expect(!view.report.hasLoss)
        let read = ReadBack(view)
        #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value })
        #expect(read.duplicates.isEmpty && read.failures.isEmpty && read.damaged.isEmpty)
        withExtendedLifetime(log) {}
    }

    /// A commit whose write failed may stand whole where a view has seen it, and be overwritten when it has its place in the
    /// next file.
    @Test(arguments: ["alpha", "beta"] as [TenantName])
    func commitsThatWereGivenUpMayGoUnderAView(tenant: TenantName) throws {
        let plan = FaultPlan()
        let log = try openPatiently(at: directory.path, plan: plan)
        var ledger = Ledger()
        for _ in 0..<3 { try ledger.append(to: log, "alpha") }
        let writes = Counter(2)
        let seen = Shared<WriteAheadLogReader<DirectStorage>?>(nil)
        let path = directory.path
        plan.setWrite { _, _ in
            switch writes.next() {
            case 1: return .failsHolding([0..<1 << 20])
            case 0: seen.value = try? WriteAheadLogReader(at: path, scope: .wholeJournal)
            default: break
            }
            return nil
        }
        try ledger.append(to: log, tenant)
        plan.setWrite(nil)
        let view = try #require(seen.value)
        // Nothing accounts for it any more.
        log.core.lock.withLock { _ = log.core.addTenant("nobody") }
        try log.eraseBlocking("nobody")
        let read = ReadBack(view)
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value })
        var records = view.records(of: tenant)
        #expect(throws: Never.self) { while try records.next() != nil {} }
        try log.closeBlocking()
    }

    /// What is at another place at each look is the writer's doing; what stays where it is is damage.
    @Test(arguments: [false, true]) func lossesThatComeAndGoBesideAWriterAreNone(stays: Bool) throws {
        let log = try openPatiently(at: directory.path)
        var ledger = Ledger()
        for _ in 0..<30 { try ledger.append(to: log, "alpha", length: 1500) }
        let looks = Counter(20)
        let place = Shared(UInt64(0))
        let plan = FaultPlan()
        // Of the second, which holds records.
        plan.setRead { path, range in
            guard path.hasSuffix("00000000.journal") else { return false }
            if range.lowerBound == 0 {
                let left = looks.next()
                place.value = left < 0 && !stays ? 0 : 65536 + (stays ? 0 : 8192 * UInt64(left))
            }
            return place.value > 0 && range.contains(place.value)
        }
        let view = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: plan), scope: .wholeJournal)
        #expect(view.report.hasLoss == stays, "\(view.report.findings)")
        let left = looks.next()
        #expect(stays ? left > 10 : left < 0, "\(left)")
        try log.closeBlocking()
    }

    /// Many views while a writer appends, rotates and recycles: each shows a run of acknowledged records.
    @Test func viewsBesideABusyWriter() async throws {
        let path = directory.path
        let log = try openPatiently(at: path)
        try log.register(subscriber: "collector")
        let acknowledged = Shared(UInt64(0))
        let writer = Task.detached {
            var ledger = Ledger()
            for round in 0..<150 {
                try ledger.append(to: log, "alpha", length: 3000)
                if round % 10 == 9, let highest = ledger.highest["alpha"], highest > 100 {
                    acknowledged.value = highest - 100
                    log.acknowledge(through: highest - 100, of: "alpha", subscriber: "collector")
                }
            }
            return ledger
        }
        var views: [(read: ReadBack, delivered: UInt64)] = []
        for _ in 0..<40 {
            let view = try WriteAheadLogReader(at: path)
            #expect(!view.report.hasLoss, "\(view.report.findings)")
            views.append((ReadBack(view), acknowledged.value))
            await Task.yield()
        }
        let ledger = try await writer.value
        for (read, delivered) in views {
            #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value })
            #expect(read.duplicates.isEmpty && read.failures.isEmpty && read.damaged.isEmpty)
            // A file that is used again before it was read leaves a gap, in what was delivered.
            let sequences = read.records.keys.map(\.sequence).filter { $0 > delivered }.sorted()
            #expect(sequences.isEmpty || sequences.last! - sequences[0] + 1 == sequences.count, "a run without gaps")
        }
        try log.closeBlocking()
    }

    /// A subscriber's file cannot begin a new life or go while the subscriber is in it: if it looks so, that is damage.
    /// Taken for a new life, the file would be left and offered again without end.
    @Test(arguments: ["a later header", "another file's first blocks", "gone"])
    func pinnedFileThatLooksReusedIsDamaged(_ what: String) throws {
        let log = try openPatiently(at: directory.path)
        try log.register(subscriber: "collector")
        var ledger = Ledger()
        while log.liveFileCount < 3 { try ledger.append(to: log, "alpha", length: 3000) }
        var file = try #require(try JournalImage.live(in: directory.path).first)
        let lost = what == "gone" ? Set(file.commits.flatMap(\.records)) : Set(file.commits[1].records)
        var header = file.header
        header.fileSequence += 100
        file.putHeader(header)
        if what != "gone" {
            file.flip(at: file.commits[1].start + 40)
            try file.save()
        }
        if what == "another file's first blocks" {
            let other = try #require(try JournalImage.live(in: directory.path).last)
            file.put(Array(other.bytes[..<(file.commits[1].start + 4096)]), at: 0)
            try file.save()
        }
        if what == "gone" { try FileManager.default.removeItem(atPath: file.path) }
        var records = log.records(of: "alpha", subscriber: "collector").makeBlockingIterator()
        var found: Set<RecordName> = []
        var damages = 0
        while damages < 10 {
            do {
                guard let batch = try records.next() else { break }
                found.formUnion(batch.sequences.map { RecordName("alpha", $0) })
            } catch {
                guard case .damaged = error else { throw error }
                damages += 1
            }
        }
        #expect(damages == 1)
        #expect(found == ledger.names.subtracting(lost))
        withExtendedLifetime(log) {}
    }

    /// Damage that comes after the opening is met by the subscriber, once, and passed: not swallowed.
    @Test(arguments: [true, false]) func damageWhileOpenIsReported(_ inHeader: Bool) async throws {
        let log = try openPatiently(at: directory.path)
        var ledger = Ledger()
        for _ in 0..<6 { try ledger.append(to: log, "alpha", length: 3000) }
        var file = try #require(try JournalImage.live(in: directory.path).last)
        let commit = file.commits[3]
        file.flip(at: inHeader ? commit.start + 40 : commit.body(commit.frames[0]).lowerBound)
        try file.save()
        var records = log.records(of: "alpha", subscriber: "collector").makeAsyncIterator()
        var found: Set<RecordName> = []
        var damages = 0
        while damages < 10 {
            do {
                guard let batch = try await records.next() else { break }
                found.formUnion(batch.sequences.map { RecordName("alpha", $0) })
            } catch {
                guard case .damaged = error else { throw error }
                damages += 1
            }
        }
        #expect(damages == 1, "the lost records are passed over in silence")
        #expect(found == ledger.names.subtracting(commit.records))
        try await log.close()
    }
}
