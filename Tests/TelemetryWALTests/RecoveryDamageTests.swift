import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Where in a log the damage is: each block of a commit, each checkpoint, each frame.
@Suite struct RecoveryDamageTests {
    let directory = TemporaryDirectory()

    /// Damage in one block takes that block's commit and nothing else, whichever block it is.
    @Test(arguments: 0..<3) func oneBlockOfACommitIsZeroed(_ block: Int) throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[1]
        let commit = file.commits[9]
        #expect(commit.range.count >= 3 * 4096)
        let start = commit.range.lowerBound + block * 4096
        file.zero(start..<start + 4096)
        try file.save()
        var expected = log.expectation
        expected.lost = Set(commit.records)
        let number = commit.header.commitNumber
        expected.finding =
            block == 0
            ? .init(what: .commitsDamaged, file: file.name, byteRange: commit.range, commits: number...number)
            : .init(
                what: .frameDamaged, file: file.name, byteRange: commit.body(commit.frames[0]),
                commits: number...number)
        try checkRecovery(of: directory.path, expected)
    }

    /// Zeros behind the bodies are covered by no checksum, and mean nothing.
    @Test func paddingIsOfNoConsequence() throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[1]
        let commit = file.commits[9]
        #expect(commit.body(commit.frames[0]).upperBound < commit.range.upperBound)
        file.flip(at: commit.range.upperBound - 1)
        try file.save()
        try checkRecovery(of: directory.path, log.expectation)
    }

    /// A checkpoint holds no record: without it the log goes on from the state that it had, be it the checkpoint of a
    /// middle file or of the newest.
    @Test(arguments: 1...2, [true, false]) func checkpointIsDamaged(_ index: Int, _ inHeader: Bool) throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[index]
        let checkpoint = file.commits[0]
        #expect(checkpoint.header.flags.contains(.checkpoint))
        file.flip(at: inHeader ? checkpoint.start + 50 : checkpoint.body(checkpoint.frames[0]).lowerBound)
        try file.save()
        var expected = log.expectation
        let number = checkpoint.header.commitNumber
        expected.finding = .init(
            what: inHeader ? .commitsDamaged : .frameDamaged, file: file.name, byteRange: checkpoint.range,
            commits: number...number)
        try checkRecovery(of: directory.path, expected)
    }

    /// Without the oldest checkpoint nothing says who is known, beyond what follows: numbers must not begin anew.
    @Test(arguments: [true, false]) func onlyCheckpointIsDamaged(_ inHeader: Bool) throws {
        // "quiet" has its records and cursor in the first files only, which are delivered and go: then checkpoints
        // alone know of it.
        var ledger = Ledger()
        do {
            let log = try openPatiently(at: directory.path)
            try log.register(subscriber: "collector")
            var last = try ledger.append(to: log, "quiet")
            log.acknowledge(through: last.last!.sequence, of: "quiet", subscriber: "collector")
            while (try JournalImage.live(in: directory.path).last?.header.oldestLiveFileSequence ?? 0) < 4 {
                log.acknowledge(through: last.last!.sequence, of: "alpha", subscriber: "collector")
                last = try ledger.append(to: log, "alpha", length: 3000)
            }
            try ledger.append(to: log, "alpha")
            try log.closeBlocking()
        }
        let live = try JournalImage.live(in: directory.path)
        let oldest = try #require(live.last).header.oldestLiveFileSequence
        for var file in live where file.sequence >= oldest {
            let checkpoint = file.commits[0]
            file.flip(at: inHeader ? checkpoint.start + 50 : checkpoint.body(checkpoint.frames[0]).lowerBound)
            try file.save()
        }
        let log = try openPatiently(at: directory.path)
        #expect(log.recoveryReport.hasLoss)
        for (tenant, highest) in ledger.highest {
            let receipt = try log.appendBlocking(numberedRecord(5), tenant: tenant)
            #expect(receipt.sequence > highest, "sequence number given again to \(tenant)")
        }
        try log.closeBlocking()
    }

    /// The head of the oldest file, headers and first commits: nothing before it tells how much is lost, but that
    /// something is must be said.
    @Test(arguments: [1, 3]) func headOfTheOldestFileIsZeroed(_ files: Int) throws {
        let log = try StandardLog(at: directory.path, files: files)
        var file = log.files[0]
        let hit = file.commits[0...3]
        file.zero(0..<hit.last!.range.upperBound)
        try file.save()
        let lost = Set(hit.flatMap(\.records))
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.hasLoss, "\(view.report.findings)")
        checkRecords(ReadBack(view), log.ledger.records.filter { !lost.contains($0.key) })
        let writer = try openPatiently(at: directory.path)
        #expect(writer.recoveryReport.hasLoss)
        for (tenant, highest) in log.ledger.highest {
            #expect(try writer.appendBlocking(numberedRecord(5), tenant: tenant).sequence > highest)
        }
        try writer.closeBlocking()
    }

    /// Damage in one tenant's frame leaves the other tenants' frames of the commit.
    @Test(arguments: 0..<3) func oneFrameOfManyIsDamaged(_ victim: Int) throws {
        var log = try StandardLog(at: directory.path, closing: false)
        var file = log.files[2]
        let frames = StandardLog.tenants.map { tenant in
            let first = log.ledger.highest[tenant]! + 1
            let payloads = (0..<3).map { numberedRecord(Int(first) + $0, length: 2500).payload }
            for (index, payload) in payloads.enumerated() {
                log.ledger.note(RecordName(tenant, first + UInt64(index)), payload)
            }
            return CraftedFrame(tenant, first, payloads)
        }
        file.put(file.craftedCommit(frames), at: file.end)
        try file.save()
        // A later commit vouches for it.
        let writer = try openPatiently(at: directory.path)
        try log.ledger.append(to: writer, "alpha")
        try writer.closeBlocking()
        var damaged = try #require(try JournalImage.live(in: directory.path).last)
        let commit = try #require(damaged.commits.first { $0.frames.count == 3 })
        let body = commit.body(commit.frames[victim])
        damaged.flip(at: body.lowerBound + 20)
        try damaged.save()
        var expected = log.expectation
        expected.lost = Set(RecordName.all(of: commit.frames[victim]))
        let number = commit.header.commitNumber
        expected.finding = .init(
            what: .frameDamaged, file: damaged.name, byteRange: body, commits: number...number)
        try checkRecovery(of: directory.path, expected)
    }

    /// A frame of the last commit, for which nothing vouches: then the commit is torn, all of it.
    @Test func oneFrameOfTheTornCommitTakesAll() throws {
        let log = try StandardLog(at: directory.path, closing: false)
        var file = log.files[2]
        let frames = StandardLog.tenants.map { CraftedFrame($0, log.ledger.highest[$0]! + 1, [[1, 2, 3]]) }
        let crafted = file.craftedCommit(frames)
        file.put(crafted, at: file.end)
        let end = file.end
        try file.save()
        file = try #require(JournalImage(name: file.name, in: directory.path))
        let commit = try #require(file.commits.last)
        #expect(commit.start == end)
        file.flip(at: commit.body(commit.frames[1]).lowerBound)
        try file.save()
        var expected = log.expectation
        expected.cases = [.tornTail]
        expected.tornTailBytes = UInt64(crafted.count)
        try checkRecovery(of: directory.path, expected)
    }

    /// The commit that first named a tenant is lost: its numbers were given, and must not be given again.
    @Test func tenantsFirstCommitIsDamaged() throws {
        var ledger = Ledger()
        let log = try openPatiently(at: directory.path)
        try ledger.append(to: log, "alpha")
        try ledger.append(to: log, "novel")
        try ledger.append(to: log, "alpha")
        try log.closeBlocking()
        var file = try JournalImage.live(in: directory.path)[0]
        let commit = try #require(file.commits.first { $0.frames.first?.header.tenant == "novel" })
        file.zero(commit.range)
        try file.save()
        let again = try openPatiently(at: directory.path)
        #expect(again.recoveryReport.hasLoss)
        #expect(again.recoveryReport.findings.first?.recordsLost == 4)
        #expect(try again.appendBlocking(numberedRecord(1), tenant: "novel").sequence > 4)
        try again.closeBlocking()
    }

    /// A file's headers are lost with its first commits: what these held is counted, and none of their numbers is given
    /// again. (`checkRecovery` appends to each tenant.)
    @Test(arguments: [1, 2]) func firstCommitsAreLostWithTheHeaders(_ index: Int) throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[index]
        let lost = file.commits[1...3].flatMap(\.records)
        file.zero(0..<file.commits[4].start)
        try file.save()
        var expected = log.expectation
        expected.lost = Set(lost)
        expected.cases = [.headerLost, .commitsDamaged]
        expected.finding = .init(
            what: .commitsDamaged, file: file.name, byteRange: 8192..<file.commits[4].start,
            commits: file.commits[0].header.commitNumber...file.commits[3].header.commitNumber)
        expected.allowsFurtherFindings = true
        try checkRecovery(of: directory.path, expected)
    }
}
