import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What moves into segments while its key is not to be had: as it is, so that nobody waits for it.
@Suite(.timeLimit(.minutes(5))) struct CarriedFrameTests: EncryptionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    let keys = SimulatedKeys()

    /// Whether any of a tenant's frames in segments is carried, and whether any is not.
    private func frames(of tenant: TenantName) throws -> (carried: Int, others: Int) {
        let view = try WriteAheadLogReader(at: directory.path)
        var count = (carried: 0, others: 0)
        for status in view.segments(of: tenant) {
            let file = try SegmentFile(
                SegmentName.name(covering: status.covered), of: tenant, in: view.storage, format: view.format)
            for number in file.index.frames.indices {
                try file.withEncodedFrame(number) { bytes in
                    let isCarried = (try? FrameHeader.decode(bytes, at: 0))?.isCarried ?? false
                    if isCarried { count.carried += 1 } else { count.others += 1 }
                }
            }
        }
        return count
    }

    /// Files leave the journal whoever's key is missing, and with the key everything is there: beside the writer, and when
    /// the log is opened again.
    @Test(arguments: [false, true]) func journalFilesDoNotWaitForKeys(hasAnotherSecret: Bool) throws {
        rotateAll()
        var ledger = Ledger()
        var options = encrypted()
        let log = try open(options)
        try log.register(subscriber: "reader")
        while log.liveFileCount < 3 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let secret = PayloadScan(ledger.records.map(\.value))

        keys.setFailing(true, "alpha")
        if hasAnotherSecret { options.keyProvider = OtherSecrets() }
        let blind = try open(options)
        let statistics = try blind.compactBlocking()
        #expect(statistics.failures == 0 && statistics.recordsLost == 0)
        #expect(statistics.recordsCarried == UInt64(ledger.records.count / (hasAnotherSecret ? 1 : 3)))
        #expect(blind.segmentCount == 3 && blind.liveFileCount == 1)
        let found = try read(blind)
        let others = ledger.records.filter { !hasAnotherSecret && $0.key.tenant != "alpha" }
        check(found.records, others)
        #expect(found.errors.count == (hasAnotherSecret ? 3 : 1))
        for error in found.errors {
            if case .keyUnavailable = error { continue }
            Issue.record("\(error)")
        }
        keys.setFailing(false, "alpha")
        if !hasAnotherSecret { check(try read(blind).records, ledger.records) }
        try blind.closeBlocking()
        #expect(try secret.places(below: directory.path).isEmpty)
        #expect(try frames(of: "alpha").others == 0)
        #expect(try (frames(of: "gamma").carried > 0) == hasAnotherSecret)

        let again = try open(encrypted())
        check(try read(again, acknowledging: true).records, ledger.records)
        try again.closeBlocking()
        // Whoever checks a log has no keys.
        let view = try view()
        #expect(!view.report.hasLoss)
        for segment in view.segments {
            #expect(try view.report(on: segment, opensFrames: true)?.isDamaged == false)
        }
    }

    /// Without its index a segment's frames say themselves what they are bound to.
    @Test func framesAreReadWithoutAnIndex() throws {
        keys.rotate("alpha")
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        for _ in 0..<5 { try ledger.append(to: log, "alpha", count: 4, length: 3000) }
        keys.setFailing(true, "alpha")
        try log.compactBlocking()
        try log.closeBlocking()
        keys.setFailing(false, "alpha")
        let path = try #require(segmentPaths.first)
        let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        try handle.write(contentsOf: Data(repeating: 0, count: 4096))
        try handle.close()
        let image = try Data(contentsOf: URL(fileURLWithPath: path))
        try image.prefix(image.count - 4096).write(to: URL(fileURLWithPath: path))
        let again = try open(encrypted())
        check(try read(again).records, ledger.records)
        try again.closeBlocking()
    }

    /// A frame of which a subscriber has a part cannot be cut: the segment begins with it, and the subscriber gets the rest.
    @Test func partlyAcknowledgedFrameMovesWhole() throws {
        keys.rotate("alpha")
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        for _ in 0..<3 { try ledger.append(to: log, "alpha", count: 4, length: 3000) }
        log.acknowledge(through: 6, of: "alpha", subscriber: "reader")
        try log.flushAcknowledgementsBlocking()
        keys.setFailing(true, "alpha")
        let statistics = try log.compactBlocking()
        #expect(statistics.recordsCarried == 8 && statistics.recordsLost == 0)
        keys.setFailing(false, "alpha")
        check(try read(log).records, ledger.records.filter { $0.key.sequence > 6 })
        log.acknowledge(through: 10, of: "alpha", subscriber: "reader")
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        let again = try open(encrypted())
        check(try read(again).records, ledger.records.filter { $0.key.sequence > 10 })
        try again.closeBlocking()
        #expect(try frames(of: "alpha") == (2, 0))
    }

    /// A merge writes short frames again, with the keys that they had; where these are missing it takes them over as they
    /// are, and later without what had a key that was forgotten.
    @Test(arguments: [false, true]) func mergesDoNotWaitForKeys(isForgotten: Bool) throws {
        rotateAll()
        let old = try #require(keys.currentIdentifier(of: "alpha"))
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        func grow(_ count: Int) throws {
            for _ in 0..<count {
                try fill(log, &ledger, batches: 1)
                try log.compactBlocking()
            }
        }
        keys.setMissing(true, old)
        try grow(SegmentTiers.fanIn)
        #expect(log.segmentCount == 3)
        #expect(try frames(of: "alpha") == (SegmentTiers.fanIn, 0))
        let told = try read(log)
        check(told.records, ledger.records.filter { $0.key.tenant != "alpha" })
        keys.setMissing(false, old)
        check(try read(log).records, ledger.records)
        let new = keys.rotate("alpha")
        let gone = ledger.names.filter { $0.tenant == "alpha" }
        if isForgotten {
            keys.forget(old)
            ledger.forget(gone)
        }
        try grow(SegmentTiers.fanIn - 1)
        let statistics = try log.compactBlocking()
        #expect(statistics.failures == 0 && statistics.recordsLost == 0)
        #expect(statistics.recordsForgotten == UInt64(isForgotten ? gone.count : 0))
        #expect(log.segmentCount == 3)
        let found = try read(log)
        check(found.records, ledger.records)
        // What is gone is so on purpose, and nobody has to be told any more.
        #expect(found.errors.isEmpty, "\(found.errors)")
        try log.closeBlocking()
        // With the key it is written anew, as everything is.
        #expect(try frames(of: "alpha").carried == 0)
        #expect(try identifiers(of: "alpha").segments == (isForgotten ? [new] : [old, new]))
        let view = try view()
        #expect(!view.report.hasLoss)
        for segment in view.segments {
            #expect(try view.report(on: segment, opensFrames: true)?.isDamaged == false)
        }
    }

    /// Frames that cannot be put together may be too many for one segment. Such a row is not merged: it would come out as
    /// several, and who is ended between their names would leave segments that overlap.
    @Test func whatDoesNotFitIntoASegmentIsNotMerged() throws {
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        try log.compactBlocking()
        let format = log.core.format
        try log.closeBlocking()
        let writer = SegmentWriter(storage: FaultyStorage(at: directory.path, plan: plan), format: format)
        let each = UInt64(FormatLimits.maximumSegmentFrameCount / (SegmentTiers.fanIn - 1) + 1)
        for part in 0..<UInt64(SegmentTiers.fanIn - 1) {
            let covered = 2 + part * each...1 + (part + 1) * each
            writer.begin("alpha", from: covered.lowerBound)
            // Lost ranges take a place each, too, and cost less.
            for sequence in covered {
                writer.addLost(sequence...sequence, cause: sequence % 2 == 0 ? .damaged : .givenUp)
            }
            let finished = try writer.finish(covering: covered, created: 1, received: 0...0)
            try FaultyStorage(at: directory.path, plan: plan).publish([finished.rename])
        }
        let again = try open(encrypted())
        for _ in 0..<2 {
            let statistics = try again.compactBlocking()
            #expect(statistics.failures == 0 && statistics.segmentsMerged == 0)
            let entries = again.core.lock.withLock { again.core.segments.entries(of: "alpha") }
            #expect(entries.count == SegmentTiers.fanIn && entries.count { $0.isFull } == 1)
        }
        try again.closeBlocking()
    }

    /// Segments overlap where a writer was ended between the names of several: nothing comes twice, nor does anything go.
    @Test(arguments: [false, true]) func overlappingSegmentsAreMerged(isLocked: Bool) throws {
        keys.rotate("alpha")
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        for _ in 0..<8 {
            try ledger.append(to: log, "alpha", count: 4, length: 3000)
            try log.compactBlocking()
        }
        let format = log.core.format
        try log.closeBlocking()
        // What the fourth and the fifth hold once more, with the second half of the third.
        let storage = FaultyStorage(at: directory.path, plan: plan)
        let writer = SegmentWriter(storage: storage, format: format)
        writer.begin("alpha", from: 11)
        for first in [9, 13, 17] as [UInt64] {
            let file = try SegmentFile(
                SegmentName.name(covering: first...first + 3), of: "alpha", in: storage, format: format,
                keys: FrameKeys(keys))
            try writer.add(file.batch(ofFrame: 0, from: max(11, first)))
        }
        try storage.publish([writer.finish(covering: 11...20, created: 1, received: 0...0).rename])
        let again = try open(encrypted())
        keys.setFailing(isLocked, "alpha")
        for _ in 8..<SegmentTiers.fanIn + 2 {
            if isLocked { keys.setFailing(false, "alpha") }
            try ledger.append(to: again, "alpha", count: 4, length: 3000)
            if isLocked { keys.setFailing(true, "alpha") }
            try again.compactBlocking()
        }
        keys.setFailing(false, "alpha")
        try again.compactBlocking()
        check(try read(again).records, ledger.records)
        // A frame that stands across is cut, which takes its key.
        if !isLocked { #expect(again.segmentCount < 8) }
        try again.closeBlocking()
        try checkView(ledger, keys)
    }

    /// Where `FORMAT` was made anew, the journal says that the log is encrypted, until its records move: then `FORMAT` does.
    @Test(arguments: [false, true]) func theMarkIsThereBeforeTheRecordsLeaveTheJournal(isLocked: Bool) throws {
        keys.rotate("alpha")
        var log = try open(encrypted())
        try log.register(subscriber: "reader")
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        try log.closeBlocking()
        try FileManager.default.removeItem(atPath: directory.path + "/FORMAT")
        keys.setFailing(isLocked, "alpha")
        log = try open(encrypted())
        func format() throws -> RootFormat {
            try [UInt8](Data(contentsOf: URL(filePath: directory.path + "/FORMAT"))).withRawSpan {
                try RootFormat.decode($0)
            }
        }
        #expect(try !format().isEncrypted)
        #expect(try log.compactBlocking().records == 1)
        #expect(try format().isEncrypted)
        try log.closeBlocking()
    }
}
