import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Opening reads what it must: the newest file, and of the others the checkpoints.
@Suite struct RecoveryScopeTests {
    private let directory = TemporaryDirectory()

    private func view(_ scope: RecoveryScope) throws -> WriteAheadLogReader<DirectStorage> {
        try WriteAheadLogReader(at: directory.path, scope: scope)
    }

    /// Everything that a view tells of tenants, in a form to be compared.
    private func told(_ view: WriteAheadLogReader<DirectStorage>) -> [String] {
        view.tenants.map {
            "\($0.name) next \($0.nextSequence) held \(String(describing: $0.held)) \($0.acknowledgedThrough)"
        }.sorted()
    }

    @Test func tellsTheSameAsTheWholeJournalAndReadsOneFileOfIt() throws {
        let log = try StandardLog(at: directory.path, files: 5)
        let (short, whole) = (try view(.sinceCheckpoint), try view(.wholeJournal))
        #expect(told(short) == told(whole) && short.lastCommit == whole.lastCommit)
        #expect(short.subscribers == whole.subscribers)
        #expect(short.report.filesSummarised == 4 && short.report.liveFiles == 5 && short.report.findings.isEmpty)
        #expect(short.report.bytesRead * 4 < whole.report.bytesRead)
        #expect(whole.report.filesSummarised == 0)
        checkRecords(ReadBack(short), log.ledger.records)
    }

    @Test(arguments: 1...6) func agreesAfterAnyHistory(_ seed: UInt64) throws {
        var generator = SplitMix(seed: seed)
        for _ in 0..<6 {
            try extendLog(&generator)
            try waitForNoWriter(at: directory.path)
            let (short, whole) = (try view(.sinceCheckpoint), try view(.wholeJournal))
            #expect(told(short) == told(whole), "seed \(seed)")
            #expect(short.lastCommit == whole.lastCommit)
            #expect(ReadBack(short).records == ReadBack(whole).records, "seed \(seed)")
        }
    }

    /// Opens the log, appends and acknowledges this and that, and closes it or lets it go as a crash would.
    private func extendLog(_ generator: inout SplitMix) throws {
        var options = quietOptions()
        options.recoveryScope = .sinceCheckpoint
        let log = try openPatiently(at: directory.path, options: options)
        if Bool.random(using: &generator) { try log.register(subscriber: "collector") }
        for number in 0..<Int.random(in: 20...150, using: &generator) {
            let tenant = try TenantName("tenant-\(Int.random(in: 0..<12, using: &generator))")
            let receipt = try log.appendBlocking(
                numberedRecord(number, length: Int.random(in: 1...6000, using: &generator)), tenant: tenant)
            if number % 7 == 0, Bool.random(using: &generator) {
                log.acknowledge(through: receipt.sequence, of: tenant, subscriber: "collector")
            }
        }
        if Bool.random(using: &generator) { try log.closeBlocking() }
    }

    @Test func damageInAnOlderFileIsToldWhenItIsReadAndTheFileIsSetAside() throws {
        let log = try StandardLog(at: directory.path, files: 4)
        var file = log.files[1]
        for commit in file.commits[4...5] { file.zero(commit.headers) }
        let lost = Set(file.commits[4...5].flatMap(\.records))
        try file.save()
        var options = quietOptions()
        options.recoveryScope = .sinceCheckpoint
        let writer = try openPatiently(at: directory.path, options: options)
        #expect(writer.recoveryReport.findings.isEmpty)
        var read: Set<RecordName> = []
        var damaged = 0
        var walk = SubscriberWalk(core: writer.core, tenant: nil, subscriber: "second")
        while true {
            do throws(WALError) {
                guard let batch = try walk.next() else { break }
                for record in batch.records { read.insert(RecordName(batch.tenant, record.sequence)) }
            } catch {
                guard case .damaged(let path, let offset, _) = error else { throw error }
                #expect(path.hasSuffix(file.name) && offset == UInt64(file.commits[4].start))
                damaged += 1
            }
        }
        #expect(damaged == 1)
        #expect(read == Set(log.ledger.records.keys).subtracting(lost), "everything around the damage is delivered")
        // Once everybody has what can be read, the file is set aside, not used again.
        walk = SubscriberWalk(core: writer.core, tenant: "alpha", subscriber: "second")
        for (tenant, highest) in log.ledger.highest {
            for subscriber in ["collector", "second"] as [TenantName] {
                writer.acknowledge(through: highest, of: tenant, subscriber: subscriber)
            }
        }
        try writer.core.flushAcknowledgements()
        _ = consume walk
        try writer.closeBlocking()
        let aside = try FileManager.default.contentsOfDirectory(atPath: directory.path + "/quarantine")
        #expect(aside.count == 1 && aside[0].hasPrefix(file.name), "\(aside)")
    }

    @Test func aBlockThatCannotBeReadStopsNobody() throws {
        let log = try StandardLog(at: directory.path, files: 4)
        let file = log.files[1]
        // Far enough behind the checkpoint, which is read.
        let hit = try #require(file.commits.last { $0.start > 100 << 10 && !$0.records.isEmpty })
        let plan = FaultPlan()
        plan.setRead { path, range in path.hasSuffix(file.name) && range.contains(UInt64(hit.start)) }
        var options = quietOptions()
        options.recoveryScope = .sinceCheckpoint
        let writer = try openPatiently(at: directory.path, options: options, plan: plan)
        let walk = SubscriberWalk(core: writer.core, tenant: nil, subscriber: "second")
        var read: Set<RecordName> = []
        var reasons: [String] = []
        while reasons.count < 5 {
            do throws(WALError) {
                guard let batch = try walk.next() else { break }
                for record in batch.records { read.insert(RecordName(batch.tenant, record.sequence)) }
            } catch {
                guard case .damaged(_, _, let reason) = error else { throw error }
                reasons.append(reason)
            }
        }
        #expect(reasons.count == 1 && reasons[0].contains("device"), "\(reasons)")
        #expect(read == Set(log.ledger.records.keys).subtracting(hit.records))
        try writer.closeBlocking()
    }

    @Test(arguments: [0, 3]) func aFileCutWithinABlockIsReportedAndTheLogOpens(_ index: Int) throws {
        let log = try StandardLog(at: directory.path, files: 4)
        let file = log.files[index]
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file.path))
        try handle.truncate(atOffset: UInt64(file.commits[4].start + 777))
        try handle.close()
        for scope in RecoveryScope.allCases {
            let report = try view(scope).report
            #expect(report.cases[.fileTruncated] == 1 && report.hasLoss, "\(scope)")
        }
    }

    /// A loss makes numbers skip: the file before it must not wait for records that never were.
    @Test func skippedNumbersDoNotHoldAFileBack() throws {
        let log = try StandardLog(at: directory.path, files: 2, closing: false)
        let newest = log.files[1]
        let plan = FaultPlan()
        let end = UInt64(newest.commits.last!.range.upperBound)
        plan.setRead { path, range in path.hasSuffix(newest.name) && range.contains(end) }
        let writer = try openPatiently(at: directory.path, plan: plan)
        try writer.appendBlocking(numberedRecord(1), tenant: "alpha")
        try writer.closeBlocking()
        let short = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: plan), scope: .sinceCheckpoint)
        #expect(short.report.filesSummarised == 0, "the whole journal tells what the files hold")
        for tenant in short.tenants where tenant.name != "alpha" {
            #expect(tenant.held?.upperBound == log.ledger.highest[tenant.name], "\(tenant)")
        }
    }

    @Test(arguments: [0, 1, 3]) func aBrokenCheckpointMeansTheWholeJournal(_ index: Int) throws {
        let log = try StandardLog(at: directory.path, files: 4)
        var file = log.files[index]
        file.flip(at: file.commits[0].body(file.commits[0].frames[0]).lowerBound)
        try file.save()
        let (short, whole) = (try view(.sinceCheckpoint), try view(.wholeJournal))
        // The newest file's checkpoint may be what a torn write left; the file before it then begins the reading.
        #expect(short.report.filesSummarised == (index == 3 ? 2 : 0))
        #expect(short.report.hasLoss == whole.report.hasLoss)
        #expect(ReadBack(short).records == ReadBack(whole).records)
    }
}
