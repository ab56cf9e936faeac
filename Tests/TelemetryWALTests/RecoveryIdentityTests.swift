import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Which commits are a log's and a file's: imitations, strays, and numbers that only lost bytes knew.
@Suite struct RecoveryIdentityTests {
    let directory = TemporaryDirectory()

    /// Two commits in a spare that claim to go on behind the log's end and vouch for each other, as a file whose begin
    /// the device dropped has them.
    private func putCommits(of identifier: LogIdentifier, in spare: JournalImage, behind log: StandardLog) throws {
        var spare = spare
        let last = log.files[2].commits[log.files[2].commits.count - 1]
        let format = RootFormat(logIdentifier: identifier, blockSize: 4096, created: 0)
        var (offset, checksum) = (UInt64(8192), last.header.checksum)
        for step in 1...2 as ClosedRange<UInt64> {
            let number = last.header.commitNumber + step
            let bytes = CraftedFrame.commit(
                [CraftedFrame("mallory", step, [[6, 6, 6]])], of: format,
                CommitPlacement(
                    epoch: 0xBAD, fileSequence: log.files[2].sequence + 1, offset: offset, commitNumber: number,
                    durableThrough: number - 1, recordsBefore: UInt64(log.ledger.records.count) + step - 1,
                    previousChecksum: checksum))
            spare.put(bytes, at: Int(offset))
            offset += UInt64(bytes.count)
            checksum = bytes[8..<12].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        try spare.save()
    }

    /// What a tenant's payload left in a file that is used again looks like commits, but for the UUID, which no tenant
    /// knows. With it they prove the spare's headers wrong.
    @Test(arguments: [true, false]) func imitatedCommitsProveNothing(_ knowsIdentifier: Bool) throws {
        let log = try StandardLog(at: directory.path)
        var generator = SystemRandomNumberGenerator()
        try putCommits(
            of: knowsIdentifier ? log.files[0].header.logIdentifier : LogIdentifier(using: &generator),
            in: try JournalImage.spares(in: directory.path)[0], behind: log)
        if knowsIdentifier {
            let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
            #expect(view.report.cases[.headerLost] == 1)
            #expect(view.tenants.contains { $0.name == "mallory" })
        } else {
            try checkRecovery(of: directory.path, log.expectation)
        }
    }

    /// The device put another file's commit into one whose headers are lost: that one is still known by its own.
    @Test func strayCommitInAFileWithoutHeaders() throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[1]
        let (stray, hit) = (log.files[2].commits[4], file.commits[4])
        #expect(stray.range == hit.range)
        file.put(Array(log.files[2].bytes[stray.range]), at: stray.start)
        file.zero(0..<8192)
        try file.save()
        var expected = log.expectation
        expected.lost = Set(hit.records)
        expected.cases = [.headerLost, .commitsDamaged]
        expected.finding = .init(
            what: .commitsDamaged, file: file.name, byteRange: hit.range,
            commits: hit.header.commitNumber...hit.header.commitNumber)
        expected.allowsFurtherFindings = true
        try checkRecovery(of: directory.path, expected)
    }

    /// The device put a file's headers over those of the one before and kept nothing of the rest: what stands under them
    /// is the other's.
    @Test func headersOfAFileThatIsGoneOverAnother() throws {
        let log = try StandardLog(at: directory.path, files: 4)
        var file = log.files[1]
        let gone = log.files[2]
        file.put(Array(gone.bytes[0..<8192]), at: 0)
        try file.save()
        try FileManager.default.removeItem(atPath: gone.path)
        var expected = log.expectation
        expected.lost = Set(gone.commits.flatMap(\.records))
        expected.cases = [.headerLost, .fileMissing]
        expected.finding = .init(
            what: .fileMissing, file: "(sequence \(gone.sequence))", byteRange: 0..<gone.bytes.count,
            commits: gone.commits[0].header.commitNumber...gone.commits[gone.commits.count - 1].header.commitNumber)
        expected.allowsFurtherFindings = true
        try checkRecovery(of: directory.path, expected)
    }

    /// A file is gone, and a spare has commits of its number that were never acknowledged: a begin of another epoch, torn
    /// by a crash. They are not taken for it.
    @Test func commitsOfAnotherEpochAreNotTheFileThatIsGone() throws {
        let log = try StandardLog(at: directory.path, files: 4)
        let gone = log.files[2]
        var spare = try JournalImage.spares(in: directory.path)[0]
        var (offset, checksum) = (UInt64(8192), log.files[1].commits[log.files[1].commits.count - 1].header.checksum)
        for step in 0...1 as ClosedRange<UInt64> {
            let number = gone.header.firstCommit + step
            let bytes = CraftedFrame.commit(
                [CraftedFrame("mallory", step + 1, [[6, 6, 6]])], of: gone.header.log,
                CommitPlacement(
                    epoch: gone.header.epoch ^ 1, fileSequence: gone.sequence, offset: offset, commitNumber: number,
                    durableThrough: number - 1, recordsBefore: gone.header.recordsBefore + step,
                    previousChecksum: checksum))
            spare.put(bytes, at: Int(offset))
            offset += UInt64(bytes.count)
            checksum = bytes[8..<12].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        try spare.save()
        try FileManager.default.removeItem(atPath: gone.path)
        var expected = log.expectation
        expected.lost = Set(gone.commits.flatMap(\.records))
        expected.finding = .init(
            what: .fileMissing, file: "(sequence \(gone.sequence))", byteRange: 0..<gone.bytes.count,
            commits: gone.commits[0].header.commitNumber...gone.commits[gone.commits.count - 1].header.commitNumber)
        try checkRecovery(of: directory.path, expected)
    }

    /// Opening skipped numbers, since the log's end could not be read. The checkpoint that told of it is lost, with all
    /// records behind it; the header still tells.
    @Test func skippedNumbersAreKnownByTheHeader() throws {
        var log = try StandardLog(at: directory.path)
        let plan = FaultPlan()
        let (newest, end) = (log.files[2], UInt64(log.files[2].end))
        plan.setRead { path, range in path.hasSuffix(newest.name) && range.contains(end) }
        let skipping = try openPatiently(at: directory.path, plan: plan)
        let given = try skipping.appendBlocking(numberedRecord(1), tenant: "alpha").sequence
        #expect(given > log.ledger.highest["alpha"]! + 1)
        try skipping.closeBlocking()
        log.files = try JournalImage.live(in: directory.path)
        var file = log.files[3]
        file.zero(file.commits[0].start..<file.commits[1].range.upperBound)
        try file.save()
        let again = try openPatiently(at: directory.path)
        for tenant in StandardLog.tenants + ["novel"] {
            #expect(try again.appendBlocking(numberedRecord(2), tenant: tenant).sequence > given)
        }
        try again.closeBlocking()
    }

    /// What looks torn in front of blocks that the device fails to read may have been acknowledged: that is told, and no number
    /// is given again.
    @Test func tornCommitInFrontOfUnreadableBlocks() throws {
        let log = try StandardLog(at: directory.path, closing: false)
        var file = log.files[2]
        let place = try #require(file.commits.indices.dropLast().last { !file.commits[$0].records.isEmpty })
        let hit = file.commits[place]
        file.flip(at: hit.body(hit.frames[0]).upperBound - 1)
        try file.save()
        let plan = FaultPlan()
        let behind = UInt64(hit.range.upperBound)..<UInt64(file.commits.last!.range.upperBound)
        plan.setRead { [path = file.path] in $0 == path && $1.overlaps(behind) }
        let opened = try openPatiently(at: directory.path, plan: plan)
        #expect(opened.recoveryReport.hasLoss)
        #expect(opened.recoveryReport.findings.map(\.what) == [.rangeUnreadable])
        for (tenant, highest) in log.ledger.highest {
            #expect(try opened.appendBlocking(numberedRecord(1), tenant: tenant).sequence > highest)
        }
        try opened.closeBlocking()
    }

    /// A file that had left the log was begun anew, and the write failed in parts: nobody subscribes any more, yet what
    /// it held is no loss. `isNumberTaken`: another file was begun since, and has the number that the failed life had.
    @Test(arguments: [false, true]) func fileBegunAnewInPartsIsNoLoss(isNumberTaken: Bool) throws {
        let log = try logWithoutSubscribers()
        try overwriteCommit(of: log, epoch: 77, fileSequence: log.files[2].sequence + (isNumberTaken ? 0 : 1))
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!view.report.hasLoss && view.report.cases[.damagedDelivered] == 1)
        // Not walked, either.
        var records = try WriteAheadLogReader(at: directory.path).records()
        while try records.next() != nil {}
    }

    /// Such a file stays until a header does without it. In quarantine it would be missing, and nobody could see any more that
    /// it had left.
    @Test func fileBegunAnewInPartsStaysUntilAHeader() throws {
        let plan = FaultPlan()
        let first = try openPatiently(at: directory.path, plan: plan)
        try first.register(subscriber: "collector")
        try first.flushAcknowledgementsBlocking()
        plan.failNextWrites(1)
        try first.appendBlocking(numberedRecord(1), tenant: "alpha")
        first.unregister(subscriber: "collector")
        try first.flushAcknowledgementsBlocking()
        try first.closeBlocking()
        var files = try JournalImage.live(in: directory.path)
        #expect(files.map(\.sequence) == [1, 2] && files[0].commits.allSatisfy { $0.records.isEmpty })
        files[0].zero(files[0].commits[0].start..<files[0].commits.last!.range.upperBound)
        let start = files[0].commits[0].start
        let last = try #require(files[1].commits.last?.header.commitNumber)
        let bytes = CraftedFrame.commit(
            [CraftedFrame("alpha", 900, [[1]])], of: files[0].header.log,
            CommitPlacement(
                epoch: 77, fileSequence: 3, offset: UInt64(start), commitNumber: last + 1, durableThrough: last,
                recordsBefore: 900, previousChecksum: 1))
        files[0].put(bytes, at: start)
        try files[0].save()
        var options = WriteAheadLogOptions()
        options.compactionThreshold = 0
        let second = try openPatiently(at: directory.path, options: options)
        let name = files[0].path
        for _ in 0..<100 where FileManager.default.fileExists(atPath: name) { usleep(3000) }
        #expect(FileManager.default.fileExists(atPath: name))
        #expect(try !WriteAheadLogReader(at: directory.path, scope: .wholeJournal).report.hasLoss)
        try second.closeBlocking()
    }

    /// A commit of another file of the log in the place of one's own was put there by the device: a loss, which every reader
    /// is told, and the compactor as well.
    @Test func misplacedCommitIsNoNewLife() throws {
        let log = try logWithoutSubscribers()
        try overwriteCommit(of: log, epoch: log.files[1].header.epoch, fileSequence: log.files[1].sequence)
        #expect(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal).report.hasLoss)
        #expect(ReadBack(try WriteAheadLogReader(at: directory.path)).damaged.count == 1)
        let opened = try openPatiently(at: directory.path)
        try opened.compactBlocking()
        try opened.closeBlocking()
        // From then on the segments tell.
        #expect(!ReadBack(try WriteAheadLogReader(at: directory.path)).damaged.isEmpty)
    }

    /// A log whose records everybody has, and that nobody subscribes to any more.
    private func logWithoutSubscribers() throws -> StandardLog {
        let log = try StandardLog(at: directory.path)
        let opened = try openPatiently(at: directory.path)
        for (tenant, through) in log.ledger.highest {
            opened.acknowledge(through: through, of: tenant, subscriber: "collector")
        }
        try opened.flushAcknowledgementsBlocking()
        opened.unregister(subscriber: "collector")
        try opened.flushAcknowledgementsBlocking()
        try opened.closeBlocking()
        return log
    }

    /// Puts a commit of another life in the place of one of the oldest file.
    private func overwriteCommit(of log: StandardLog, epoch: UInt64, fileSequence: UInt64) throws {
        var file = try #require(JournalImage(name: log.files[0].name, in: directory.path))
        let hit = file.commits[2]
        let bytes = CraftedFrame.commit(
            [CraftedFrame("alpha", 900, [[1]])], of: file.header.log,
            CommitPlacement(
                epoch: epoch, fileSequence: fileSequence, offset: UInt64(hit.start), commitNumber: 5000,
                durableThrough: 4998, recordsBefore: 900, previousChecksum: 1))
        file.put(bytes, at: hit.start)
        try file.save()
    }

    /// Both the headers and the checkpoint are gone; a record behind them shows how far the numbers had come.
    @Test func skippedNumbersAreKnownByRecords() throws {
        let log = try StandardLog(at: directory.path)
        let plan = FaultPlan()
        let (newest, end) = (log.files[2], UInt64(log.files[2].end))
        plan.setRead { path, range in path.hasSuffix(newest.name) && range.contains(end) }
        let skipping = try openPatiently(at: directory.path, plan: plan)
        let given = try skipping.appendBlocking(numberedRecord(1), tenant: "alpha").sequence
        _ = try skipping.appendBlocking(numberedRecord(1), tenant: "beta")
        try skipping.closeBlocking()
        var file = try JournalImage.live(in: directory.path)[3]
        file.zero(0..<file.commits[1].range.upperBound)
        try file.save()
        let again = try openPatiently(at: directory.path)
        for tenant in StandardLog.tenants + ["novel"] {
            #expect(try again.appendBlocking(numberedRecord(2), tenant: tenant).sequence > given)
        }
        try again.closeBlocking()
    }

    /// Damage in a file that was not read when the log was opened: whoever reads it is told, not the first one only.
    @Test func everyReaderIsToldOfDamageFoundLater() throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[0]
        // A tenant's first records in the file: whoever reads that tenant must not begin behind them.
        let hit = file.commits[1]
        let tenant = try #require(hit.frames.compactMap(\.header.tenant).first)
        file.zero(hit.range)
        try file.save()
        var options = quietOptions()
        options.recoveryScope = .sinceCheckpoint
        let opened = try openPatiently(at: directory.path, options: options)
        #expect(!opened.recoveryReport.hasLoss)
        for (subscriber, tenant) in [
            ("collector", nil), ("collector", nil), ("collector", tenant), ("archive", nil), ("archive", tenant),
        ] as [(TenantName, TenantName?)] {
            var walk =
                (tenant.map { opened.records(of: $0, subscriber: subscriber) }
                ?? opened.records(subscriber: subscriber)).makeBlockingIterator()
            var (damaged, records) = (0, 0)
            while true {
                do throws(WALError) {
                    guard let batch = try walk.next() else { break }
                    records += batch.count
                } catch {
                    guard case .damaged = error else { throw error }
                    damaged += 1
                }
            }
            #expect(damaged == 1 && records > 0, "\(subscriber), \(tenant?.description ?? "all")")
        }
        try opened.closeBlocking()
    }

    /// A commit with three frames of a tenant, the one in the middle damaged: whoever reads hears of it in its place,
    /// before anything behind it.
    @Test func damageIsToldInItsPlace() throws {
        let log = try StandardLog(at: directory.path)
        let next = log.ledger.highest["alpha"]! + 1
        let name = log.files[2].name
        let frames = (0..<3 as Range<UInt64>).map { CraftedFrame("alpha", next + $0, [[UInt8($0)]]) }
        for frames in [frames, [CraftedFrame("beta", log.ledger.highest["beta"]! + 1, [[9]])]] {
            var file = try #require(JournalImage(name: name, in: directory.path))
            file.put(file.craftedCommit(frames), at: file.end)
            try file.save()
        }
        var file = try #require(JournalImage(name: name, in: directory.path))
        let commit = file.commits[file.commits.count - 2]
        file.flip(at: commit.body(commit.frames[1]).upperBound - 1)
        try file.save()
        var records = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal).records(of: "alpha", from: next)
        var events: [String] = []
        while true {
            do throws(WALError) {
                guard let batch = try records.next() else { break }
                events.append("\(batch.sequences.lowerBound - next)")
            } catch { events.append(error.description.contains("records \(next + 1) to") ? "damaged" : "\(error)") }
        }
        #expect(events == ["0", "damaged", "2"])
    }

    /// A file that everybody has was begun anew, and the write failed in parts: no reader need hear of it. One that
    /// somebody has not, he must.
    @Test(arguments: [true, false]) func damageInADeliveredFileIsNoNews(_ isDelivered: Bool) throws {
        let log = try StandardLog(at: directory.path)
        let first = log.files[0]
        var highest: [TenantName: UInt64] = [:]
        for record in first.commits.flatMap(\.records) { highest[record.tenant] = record.sequence }
        let opened = try openPatiently(at: directory.path)
        for (tenant, through) in highest {
            opened.acknowledge(
                through: isDelivered || tenant != "alpha" ? through : through - 1, of: tenant, subscriber: "collector")
        }
        try opened.flushAcknowledgementsBlocking()
        try opened.closeBlocking()
        var file = try #require(JournalImage(name: first.name, in: directory.path))
        file.zero(file.commits[3].range)
        try file.save()
        var records = try WriteAheadLogReader(at: directory.path).records()
        var damaged = 0
        while true {
            do throws(WALError) {
                guard try records.next() != nil else { break }
            } catch { damaged += 1 }
        }
        #expect(damaged == (isDelivered ? 0 : 1))
    }
}
