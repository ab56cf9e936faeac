import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What subscribers leave lying moves from the journal into tenants' segments, and nobody who reads notices.
@Suite struct CompactionTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    // MARK: - Moving on

    /// Nobody subscribes: the journal stays within its limit, appends go on, and everything is there, before and after
    /// the log is opened again, for views and for a subscriber that comes at last.
    @Test func nothingIsLostWithoutSubscribers() throws {
        var ledger = Ledger()
        for _ in 0..<3 {
            let log = try open()
            try fill(log, &ledger, batches: 100)
            try log.waitForWatermark()
            try checkView(ledger)
            #expect(log.compactionStatistics.filesCompacted > 0)
            #expect(log.compactionStatistics.recordsLost == 0)
            try log.closeBlocking()
            try checkView(ledger)
        }
        let log = try open()
        #expect(log.segmentCount > 0 && log.segmentLength > 0)
        for status in log.tenants { #expect(status.held == 1...status.nextSequence - 1) }
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.isEmpty)
        check(records, ledger.records)
        // What everybody has goes.
        try log.flushAcknowledgementsBlocking()
        try wait("segments are removed") { log.segmentCount == 0 && segmentPaths.isEmpty }
        #expect(log.segmentLength == 0)
        try log.closeBlocking()
    }

    /// A subscriber that keeps up costs nothing: no segment is made.
    @Test func nothingMovesWhileSubscribersKeepUp() throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "collector")
        for _ in 0..<60 {
            try fill(log, &ledger, batches: 3)
            _ = try deliver(log, to: "collector")
            try log.flushAcknowledgementsBlocking()
        }
        #expect(log.compactionStatistics == CompactionStatistics())
        try log.closeBlocking()
    }

    /// One tenant's receiver is down: of the others nothing moves.
    @Test func onlyTheUndeliveredMoves() throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "collector")
        for _ in 0..<100 {
            try fill(log, &ledger, batches: 2)
            for tenant in Self.tenants where tenant != "gamma" {
                log.acknowledge(through: ledger.highest[tenant]!, of: tenant, subscriber: "collector")
            }
            try log.flushAcknowledgementsBlocking()
        }
        let statistics = log.compactionStatistics
        #expect(statistics.filesCompacted > 0)
        #expect(statistics.records <= ledger.highest["gamma"]! && statistics.records > 0)
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.isEmpty)
        check(records, ledger.records.filter { $0.key.tenant == "gamma" })
        try log.closeBlocking()
    }

    /// A subscriber in the middle of its reading keeps no file from leaving, and misses nothing.
    @Test(arguments: [nil, TenantName("beta/ü")]) func readerIsOvertaken(tenant: TenantName?) throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "slow")
        var walk =
            (tenant.map { log.records(of: $0, subscriber: "slow") } ?? log.records(subscriber: "slow"))
            .makeBlockingIterator()
        var records: [RecordName: [UInt8]] = [:]
        var isThrough = false
        for round in 0..<80 {
            try fill(log, &ledger, batches: 4)
            // Slower than the writer at first, then faster.
            for _ in 0..<(round < 60 ? 5 : 10_000) {
                guard let batch = try walk.next() else {
                    isThrough = true
                    break
                }
                for record in batch.records {
                    let name = RecordName(batch.tenant, record.sequence)
                    #expect(records.updateValue(Array(record.payload), forKey: name) == nil)
                }
            }
        }
        #expect(isThrough)
        check(records, ledger.records.filter { tenant == nil || $0.key.tenant == tenant })
        #expect(log.compactionStatistics.filesCompacted > 10)
        try log.closeBlocking()
    }

    /// Views beside the writer, in the thick of it: each shows a run of records without a gap.
    @Test func viewsWhileFilesMove() throws {
        let log = try open()
        let path = directory.path
        let written = Shared(Result<Ledger, any Error>.success(Ledger()))
        let writer = Thread {
            written.value = Result {
                var ledger = Ledger()
                for _ in 0..<400 { for tenant in Self.tenants { try ledger.append(to: log, tenant, length: 3000) } }
                return ledger
            }
        }
        writer.start()
        try waitUntil { log.statistics.records > 0 }
        var views: [ReadBack] = []
        while views.count < 10 || (views.count < 60 && !writer.isFinished) {
            let view = try WriteAheadLogReader(at: path)
            #expect(!view.report.hasLoss, "\(view.report.findings)")
            views.append(ReadBack(view))
        }
        try waitUntil { writer.isFinished }
        let ledger = try written.value.get()
        for read in views {
            #expect(read.duplicates.isEmpty && read.failures.isEmpty && read.damaged.isEmpty, "\(read.damaged)")
            #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value })
            for tenant in Self.tenants {
                let sequences = read.records.keys.filter { $0.tenant == tenant }.map(\.sequence).sorted()
                #expect(sequences.isEmpty || (sequences[0] == 1 && sequences.last! == sequences.count))
            }
        }
        #expect(log.compactionStatistics.filesCompacted > 0)
        try log.closeBlocking()
    }

    /// Asked to, all that is undelivered moves, however little it is.
    @Test func compactionOnDemand() throws {
        var ledger = Ledger()
        let log = try open()
        try fill(log, &ledger, batches: 3)
        var statistics = try log.compactBlocking()
        #expect(statistics.filesCompacted == 1 && statistics.records == UInt64(ledger.records.count))
        #expect(log.segmentCount == Self.tenants.count)
        try checkView(ledger)
        // Nothing is left to move.
        #expect(try log.compactBlocking() == statistics)
        try fill(log, &ledger, batches: 1)
        statistics = try log.compactBlocking()
        #expect(statistics.records == UInt64(ledger.records.count))
        plan.setCreate { $0.hasPrefix("tenants/") ? .noSpace : nil }
        try fill(log, &ledger, batches: 1)
        #expect(throws: WALError.self) { try log.compactBlocking() }
        plan.setCreate(nil)
        try log.closeBlocking()
        #expect(throws: WALError.self) { try log.compactBlocking() }
        try checkView(ledger)
    }

    /// Nobody who comes while records move misses what was there when it came.
    @Test func whoComesMeanwhileMissesNothing() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        // Commits for being idle would leave the first file no more records than are acknowledged: it would just go.
        options.idleMilliseconds = 3_600_000
        var log = try open(options)
        try log.register(subscriber: "first")
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        for tenant in Self.tenants { log.acknowledge(through: 8, of: tenant, subscriber: "first") }
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        // While the first segment is being made, somebody comes: the compactor begins as soon as the log is open.
        let hasCome = Counter(1)
        let busy = Shared<FaultyLog?>(nil)
        plan.setCreate { name in
            guard name.hasPrefix("tenants/"), hasCome.next() == 0 else { return nil }
            try? waitUntil { busy.value != nil }
            try? busy.value?.register(subscriber: "second")
            return nil
        }
        log = try open()
        busy.value = log
        try log.compactBlocking()
        #expect(hasCome.next() < 0)
        // It holds the log, which holds the plan.
        plan.setCreate(nil)
        busy.value = nil
        let (records, damages) = try deliver(log, to: "second", acknowledging: false)
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.closeBlocking()
    }

    /// Between being woken and waking the compactor does not rest; on a closed log it does, whoever calls.
    @Test func whoIsWokenDoesNotRest() throws {
        let log = try open()
        try wait("it rests") { !log.isCompacting }
        log.core.lock.withLock {
            log.core.wakeCompactor()
            #expect(log.core.compactorRests && log.core.isCompacting)
        }
        try wait("it rests again") { !log.isCompacting }
        try log.closeBlocking()
        log.core.lock.withLock { log.core.wakeCompactor() }
        #expect(!log.isCompacting)
    }

    // MARK: - Room

    /// Segments at their limit: the journal fills up to its own, appends are refused, and delivery makes room.
    @Test func segmentLimitHoldsBack() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 1 << 20
        let log = try open(options)
        var refusal: WALError?
        for _ in 0..<2000 where refusal == nil {
            do { try fill(log, &ledger, batches: 1) } catch { refusal = error as? WALError }
        }
        guard case .journalFull? = refusal else {
            Issue.record("appends are not refused: \(String(describing: refusal))")
            return
        }
        #expect(log.segmentLength < 4 << 20)
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        try wait("there is room again") {
            do {
                try fill(log, &ledger, batches: 1)
                return true
            } catch { return false }
        }
        try log.closeBlocking()
    }

    /// No room for segments: nothing is lost, appends are refused, and when there is room they go on.
    @Test func fullDisk() throws {
        var ledger = Ledger()
        let log = try open()
        plan.setCreate { $0.hasPrefix("tenants/") ? .noSpace : nil }
        var refusal: WALError?
        for _ in 0..<2000 where refusal == nil {
            do { try fill(log, &ledger, batches: 1) } catch { refusal = error as? WALError }
        }
        guard case .journalFull? = refusal else {
            Issue.record("appends are not refused: \(String(describing: refusal))")
            return
        }
        #expect(log.compactionStatistics.failures > 0)
        plan.setCreate(nil)
        try wait("there is room again") {
            do {
                try fill(log, &ledger, batches: 1)
                return true
            } catch { return false }
        }
        #expect(!segmentPaths.contains { $0.hasSuffix(".tmp") })
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        let read = ReadBack(view)
        check(read.records.filter { ledger.records[$0.key] != nil }, ledger.records)
    }

    /// More segments at a time than are synced one by one.
    @Test func manyTenants() throws {
        var ledger = Ledger()
        var log = try open()
        for number in 0..<100 { try ledger.append(to: log, TenantName("tenant-\(number)"), count: 2, length: 100) }
        try log.compactBlocking()
        #expect(log.segmentCount == 100)
        try checkView(ledger)
        try log.closeBlocking()
        log = try open()
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.closeBlocking()
    }

    // MARK: - Merging

    /// Many small segments become few, in the same order; what is delivered meanwhile is left out.
    @Test func smallSegmentsAreMerged() throws {
        var ledger = Ledger()
        var options = options()
        options.compactionThreshold = 256 << 10
        let log = try open(options)
        for _ in 0..<80 {
            try fill(log, &ledger, batches: 8)
            // Each time a few files only: many segments.
            try wait("files move") { log.liveFileCount <= 4 }
        }
        try wait("segments are merged") { log.compactionStatistics.segmentsMerged >= 32 }
        try log.waitForWatermark()
        try checkView(ledger)
        try wait("what was merged is gone") { segmentPaths.count == log.segmentCount }
        #expect(log.compactionStatistics.segmentsWritten > UInt64(log.segmentCount))
        try log.closeBlocking()
        try checkView(ledger)
    }

    /// What an interrupted merge or compaction left is removed at opening, and read by nobody.
    @Test func leftoversAreRemoved() throws {
        var ledger = Ledger()
        var log = try open()
        while log.segmentCount < 6 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path)
        let row = view.segments(of: "alpha")
        try #require(row.count > 1)
        var merge = SegmentMerge(
            storage: FaultyStorage(at: directory.path), format: view.format,
            writer: SegmentWriter(storage: FaultyStorage(at: directory.path), format: view.format), tenant: "alpha",
            acknowledged: 0, created: 1)
        let finished = try #require(
            try merge.run(row.map { SegmentCatalog.Entry(covered: $0.covered, length: 0) }) { true })
        try FaultyStorage(at: directory.path).publish([finished.rename])
        try Data([1, 2, 3]).write(
            to: URL(fileURLWithPath: directory.path + "/tenants/alpha/0000000000000001.tmp"))
        let before = segmentPaths.count
        try checkView(ledger)
        // Nothing is to move while the paths are counted.
        var options = options()
        options.segmentLimit = 0
        log = try open(options)
        #expect(segmentPaths.count == before - row.count - 1)
        #expect(segmentPaths.count == log.segmentCount)
        let (records, damages) = try deliver(log, to: "collector", acknowledging: false)
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.closeBlocking()
    }

    /// A merge needs room for what it merges once more. It is put off where the file system has none beside what the floor
    /// keeps, and is done when it has.
    @Test func mergesArePutOffWhereSpaceIsShort() throws {
        var ledger = Ledger()
        var options = options()
        options.freeSpaceFloor = 1 << 20
        plan.setFreeSpace(1 << 30)
        let log = try open(options)
        try log.register(subscriber: "reader")
        for _ in 1..<SegmentTiers.fanIn {
            try fill(log, &ledger, batches: 1)
            try log.compactBlocking()
        }
        try fill(log, &ledger, batches: 1)
        plan.setFreeSpace(1 << 20 | 200 << 10)
        var statistics = try log.compactBlocking()
        #expect(log.segmentCount == Self.tenants.count * SegmentTiers.fanIn)
        #expect(statistics.mergesPostponed >= 3 && statistics.segmentsMerged == 0 && statistics.failures == 0)
        plan.setFreeSpace(1 << 30)
        try fill(log, &ledger, batches: 1)
        statistics = try log.compactBlocking()
        #expect(statistics.segmentsMerged > 0 && statistics.failures == 0)
        check(try deliver(log, to: "reader").records, ledger.records)
        try log.closeBlocking()
    }
}
