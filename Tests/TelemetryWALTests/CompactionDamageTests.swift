import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Damage in the journal before it moves, in segments, and files that are not what their names say.
@Suite struct CompactionDamageTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    /// What the journal lost before it moved is told to whoever reads the segments, once; merged or not.
    @Test(arguments: [false, true]) func lossesMoveOn(isMerged: Bool) throws {
        let (ledger, file, hit) = try damagedJournal()
        var options = options()
        if isMerged { options.compactionThreshold = 0 }
        let log = try open(options)
        #expect(log.recoveryReport.hasLoss)
        var lost = Ledger()
        while log.compactionStatistics.filesCompacted < 3
            || (isMerged && log.compactionStatistics.segmentsMerged < 48)
        {
            try fill(log, &lost, batches: 8)
            if isMerged { try log.compactBlocking() }
        }
        #expect(log.compactionStatistics.recordsLost == UInt64(hit.records.count))
        let (records, damages) = try deliver(log, to: "collector", acknowledging: false)
        #expect(damages.count == 1, "\(damages)")
        #expect(Set(ledger.names.filter { records[$0] == nil }) == Set(hit.records))
        // The file with the damage is kept.
        try wait("the damaged file is set aside") {
            let set = try FileManager.default.contentsOfDirectory(atPath: directory.path + "/quarantine")
            return set.contains { $0.hasPrefix(file.name) }
        }
        try log.closeBlocking()
    }

    /// The same to readers that come while files move and segments are merged.
    @Test func lossesAreToldInTheThickOfIt() throws {
        let (ledger, _, hit) = try damagedJournal()
        var options = options()
        options.compactionThreshold = 0
        let log = try open(options)
        var more = Ledger()
        while log.compactionStatistics.recordsLost == 0 { try fill(log, &more, batches: 1) }
        let busy = log
        let isDone = Counter(1)
        let writer = Thread {
            var more = Ledger()
            for _ in 0..<60 {
                for tenant in Self.tenants { _ = try? more.append(to: busy, tenant, length: 3000) }
                _ = try? busy.compactBlocking()
            }
            _ = isDone.next()
        }
        writer.start()
        var round = 0
        while !writer.isFinished || round < 5 {
            round += 1
            let (records, damages) = try deliver(log, to: TenantName("reader-\(round)"), acknowledging: false)
            #expect(damages.count == 1, "round \(round): \(damages)")
            #expect(Set(ledger.names.filter { records[$0] == nil }) == Set(hit.records), "round \(round)")
            log.unregister(subscriber: try TenantName("reader-\(round)"))
        }
        try log.closeBlocking()
    }

    /// Damage in a segment costs the frame, is told once, and the segment is set aside when the rest is delivered.
    @Test func damagedSegment() throws {
        var ledger = Ledger()
        var log = try open()
        while log.segmentCount == 0 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let path = try #require(segmentPaths.first)
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        bytes[5000] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        log = try open()
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.count == 1 && damages[0].contains(path), "\(damages)")
        let missing = ledger.names.filter { records[$0] == nil }
        #expect(!missing.isEmpty && Set(missing.map(\.tenant)).count == 1)
        try log.flushAcknowledgementsBlocking()
        try wait("segments are removed") { log.segmentCount == 0 }
        let name = try #require(path.split(separator: "/").last)
        try wait("the damaged segment is set aside") {
            let kept = try FileManager.default.subpathsOfDirectory(atPath: directory.path + "/quarantine")
            return kept.contains { $0.hasSuffix(name) }
        }
        try log.closeBlocking()
    }

    /// A file of another tenant or range under a segment's name takes nobody's place.
    @Test func foreignSegmentIsLeftAlone() throws {
        var ledger = Ledger()
        var log = try open()
        while log.segmentCount < 6 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let directory = directory.path + "/tenants/alpha/"
        let own = try #require(segmentPaths.first { $0.hasPrefix(directory) })
        let strange = directory + SegmentName.name(covering: 1...1_000_000)
        try FileManager.default.copyItem(atPath: own, toPath: strange)
        log = try open()
        try fill(log, &ledger, batches: 1)
        let (records, damages) = try deliver(log, to: "collector", acknowledging: false)
        #expect(damages.isEmpty)
        check(records, ledger.records)
        #expect(log.tenants.first { $0.name == "alpha" }.map { $0.nextSequence < 1_000_000 } == true)
        #expect(FileManager.default.fileExists(atPath: strange))
        try log.closeBlocking()
    }

    /// A device that fails for a while costs nothing: the file is read again.
    @Test func passingReadErrorsAreNoLoss() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        options = self.options()
        options.compactionThreshold = 0
        options.recoveryScope = .sinceCheckpoint
        let oldest = try #require(try JournalImage.live(in: directory.path).first).name
        let failing = Shared<FaultyLog?>(nil)
        let opening = ObjectIdentifier(Thread.current)
        // Not what opening reads of it, but the compactor, which begins as soon as the log is open, three times.
        plan.setRead { path, range in
            guard path.hasSuffix(oldest), range.upperBound > 65536, ObjectIdentifier(Thread.current) != opening else {
                return false
            }
            try? waitUntil { failing.value != nil }
            return failing.value?.compactionStatistics.failures ?? 3 < 3
        }
        log = try open(options)
        failing.value = log
        try wait("the device reads again") {
            do {
                try log.compactBlocking()
                return true
            } catch { return false }
        }
        plan.setRead(nil)
        failing.value = nil
        #expect(log.compactionStatistics.failures == 3)
        try checkView(ledger)
        #expect(log.compactionStatistics.recordsLost == 0)
        try log.closeBlocking()
    }
}
