import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Damage, verification and repair of logs with encrypted records, with keys, without, and with others.
@Suite(.timeLimit(.minutes(5))) struct EncryptionCheckTests: EncryptionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    let keys = SimulatedKeys()

    @Test func checksNeedNoKeys() throws {
        rotateAll()
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        try fill(log, &ledger, batches: 10)
        try log.closeBlocking()
        let blind = try view()
        #expect(!blind.report.hasLoss)
        #expect(blind.report.framesNotOpened > 0)
        #expect(blind.report.records > 0)
        for segment in blind.segments {
            let report = try #require(try blind.report(on: segment, opensFrames: true))
            #expect(!report.isDamaged)
            #expect(report.framesNotOpened == UInt64(report.frames))
            #expect(report.records > 0)
        }
        let deep = try blind.deepReport()
        #expect(deep.findings.isEmpty && deep.framesNotOpened > 0 && deep.records == 0)
        let seeing = try WriteAheadLogReader(
            at: directory.path, scope: .wholeJournal, opensBodies: true, keyProvider: keys)
        #expect(seeing.report.framesNotOpened == 0)
        let open = try seeing.deepReport()
        #expect(open.findings.isEmpty && open.framesNotOpened == 0)
        #expect(open.records >= UInt64(ledger.records.count))
        // A view without keys tells once of each tenant, and gives nothing.
        var records = blind.records()
        var errors: [WALError] = []
        while errors.count < 50 {
            do throws(WALError) {
                guard try records.next() != nil else { break }
                Issue.record("a record was given that is encrypted")
            } catch { errors.append(error) }
        }
        #expect(errors.count == Self.tenants.count)
    }

    @Test func damageOfWhatIsEncryptedIsDamage() throws {
        rotateAll()
        var ledger = Ledger()
        var options = encrypted()
        options.segmentLimit = 0
        let log = try open(options)
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).first)
        let hit = try #require(file.commits.dropFirst(3).first { !$0.records.isEmpty })
        let frame = try #require(hit.frames.first { !$0.header.isControl })
        file.flip(at: hit.body(frame).lowerBound + 30)
        try file.save()
        let view = try view()
        #expect(view.report.cases[.frameDamaged] == 1)
        let again = try open(options)
        let found = try read(again)
        let lost = Set(hit.records)
        check(found.records, ledger.records.filter { !lost.contains($0.key) })
        #expect(found.errors.count == 1)
        if case .damaged? = found.errors.first {} else { Issue.record("\(found.errors)") }
        try again.closeBlocking()
    }

    @Test func anotherSecretOfTheSameIdentifierIsNoDamage() throws {
        rotateAll()
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 3)
        try log.closeBlocking()
        var options = encrypted()
        options.keyProvider = OtherSecrets()
        let again = try open(options)
        let found = try read(again, acknowledging: true)
        #expect(found.records.isEmpty)
        #expect(found.errors.count == Self.tenants.count)
        for error in found.errors {
            if case .keyUnavailable = error { continue }
            Issue.record("\(error)")
        }
        try again.closeBlocking()
        let last = try open(encrypted())
        check(try read(last).records, ledger.records)
        try last.closeBlocking()
    }

    /// What everybody has is nothing to be told of where it is damaged; a key that is missing is.
    @Test func deliveredRecordsAreNotLeftOutInSilence() throws {
        rotateAll()
        var ledger = Ledger()
        var options = encrypted()
        options.segmentLimit = 0
        let log = try open(options)
        try log.register(subscriber: "reader")
        while log.liveFileCount < 3 { try fill(log, &ledger, batches: 1) }
        _ = try read(log, acknowledging: true)
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        let blind = try WriteAheadLogReader(at: directory.path)
        var records = blind.records()
        var errors = 0
        while errors < 50 {
            do throws(WALError) {
                guard try records.next() != nil else { break }
            } catch { errors += 1 }
        }
        #expect(errors == Self.tenants.count)
        // Every frame is counted.
        var frames: UInt64 = 0
        let whole = try view()
        for file in whole.journalFiles {
            for commit in try whole.commits(inFileNamed: file.name) {
                frames += UInt64(commit.frames.count { $0.header.isSealed })
            }
        }
        #expect(whole.report.framesNotOpened == frames)
        #expect(try whole.deepReport().framesNotOpened == frames)
        #expect(!whole.report.hasAnotherSecret)
        let wrong = try WriteAheadLogReader(
            at: directory.path, scope: .wholeJournal, opensBodies: true, keyProvider: OtherSecrets())
        #expect(wrong.report.framesNotOpened == frames && wrong.report.hasAnotherSecret)
        #expect(!wrong.report.hasLoss)
    }

    @Test func repairKeepsWhatIsEncrypted() throws {
        rotateAll()
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        try log.closeBlocking()
        // A copy of a summary is gone; a repair without keys writes the segment anew, frames and all.
        let path = try #require(segmentPaths.first)
        let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        try handle.write(contentsOf: Data(repeating: 0, count: 4096))
        try handle.close()
        let image = try Data(contentsOf: URL(fileURLWithPath: path))
        try image.prefix(image.count - 4096).write(to: URL(fileURLWithPath: path))
        var options = options()
        options.segmentLimit = 1 << 30
        let report = try LogRepair(
            storage: FaultyStorage(at: directory.path, plan: plan), options: options
        ).run()
        #expect(report.segmentsRewritten == 1)
        #expect(report.recordsGivenUp == 0)
        let again = try open(encrypted())
        check(try read(again).records, ledger.records)
        try again.closeBlocking()
    }
}
