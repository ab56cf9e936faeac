import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What subscribers leave lying moves from the journal into tenants' segments, and nobody who reads notices.
@Suite struct CompactionTests {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    static let tenants: [TenantName] = ["alpha", "beta/ü", "gamma"]

    /// Journals of eight files of 256 KiB: what does not fit moves on.
    private func options() -> WriteAheadLogOptions {
        var options = quietOptions()
        options.journalLimit = 2 << 20
        options.idleMilliseconds = 5
        return options
    }

    private func open(_ options: WriteAheadLogOptions? = nil) throws -> FaultyLog {
        try openPatiently(at: directory.path, options: options ?? self.options(), plan: plan)
    }

    /// Appends so many batches for each tenant.
    private func fill(_ log: FaultyLog, _ ledger: inout Ledger, batches: Int) throws {
        for _ in 0..<batches {
            for tenant in Self.tenants { try ledger.append(to: log, tenant, count: 4, length: 3000) }
        }
    }

    /// Waits until something holds.
    private func wait(_ what: String, until holds: () throws -> Bool) throws {
        let deadline = Date().addingTimeInterval(20)
        while try !holds() {
            if Date() > deadline {
                Issue.record("in vain: \(what)")
                return
            }
            Thread.sleep(forTimeInterval: 0.002)
        }
    }

    private var segmentPaths: [String] {
        let root = directory.path + "/tenants"
        let paths = (try? FileManager.default.subpathsOfDirectory(atPath: root)) ?? []
        return paths.filter { $0.contains(".segment") || $0.hasSuffix(".tmp") }.map { root + "/" + $0 }.sorted()
    }

    /// Reads what a subscriber lacks, and checks that each tenant's records come in order, each once.
    private func deliver(
        _ log: FaultyLog, to subscriber: TenantName, acknowledging: Bool = true
    ) throws -> (records: [RecordName: [UInt8]], damages: [String]) {
        var records: [RecordName: [UInt8]] = [:]
        var last: [TenantName: UInt64] = [:]
        var damages: [String] = []
        var walk = log.records(subscriber: subscriber).makeBlockingIterator()
        while damages.count < 50 {
            do throws(WALError) {
                guard let batch = try walk.next() else { break }
                for record in batch.records {
                    #expect(record.sequence > last[batch.tenant] ?? 0)
                    last[batch.tenant] = record.sequence
                    records[RecordName(batch.tenant, record.sequence)] = Array(record.payload)
                }
                if acknowledging { log.acknowledge(batch, subscriber: subscriber) }
            } catch {
                guard case .damaged = error else { throw error }
                damages.append("\(error)")
            }
        }
        return (records, damages)
    }

    private func check(_ found: [RecordName: [UInt8]], _ expected: [RecordName: [UInt8]]) {
        let missing = expected.keys.filter { found[$0] == nil }.map(\.description).sorted()
        let strange = found.filter { expected[$0.key] != $0.value }.map(\.key.description).sorted()
        #expect(missing.isEmpty, "missing: \(missing.prefix(10)) of \(missing.count)")
        #expect(strange.isEmpty, "strange: \(strange.prefix(10)) of \(strange.count)")
    }

    private func checkView(_ ledger: Ledger) throws {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!view.report.hasLoss, "\(view.report.findings)")
        let read = ReadBack(view)
        #expect(read.duplicates.isEmpty && read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged)")
        check(read.records, ledger.records)
    }

    // MARK: - Moving on

    /// Nobody subscribes: the journal stays within its limit, appends go on, and everything is there, before and after
    /// the log is opened again, for views and for a subscriber that comes at last.
    @Test func nothingIsLostWithoutSubscribers() throws {
        var ledger = Ledger()
        for _ in 0..<3 {
            let log = try open()
            try fill(log, &ledger, batches: 100)
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
        let isDone = Counter(1)
        let writer = Task.detached {
            var ledger = Ledger()
            for _ in 0..<400 { for tenant in Self.tenants { try ledger.append(to: log, tenant, length: 3000) } }
            _ = isDone.next()
            return ledger
        }
        var views: [ReadBack] = []
        for _ in 0..<60 {
            let view = try WriteAheadLogReader(at: path)
            #expect(!view.report.hasLoss, "\(view.report.findings)")
            views.append(ReadBack(view))
        }
        let done = DispatchSemaphore(value: 0)
        nonisolated(unsafe) var result: Result<Ledger, any Error>?
        Task {
            result = await writer.result
            done.signal()
        }
        done.wait()
        let ledger = try #require(try result?.get())
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

    // MARK: - Damage

    /// What the journal lost before it moved is told to whoever reads the segments, once; merged or not.
    @Test(arguments: [false, true]) func lossesMoveOn(isMerged: Bool) throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).first)
        // Not the first one, and not one that an idle log wrote.
        let hit = try #require(file.commits.dropFirst(3).first { !$0.records.isEmpty })
        file.zero(hit.range)
        try file.save()
        options = self.options()
        if isMerged { options.compactionThreshold = 0 }
        log = try open(options)
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
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).first)
        // Not the first one, and not one that an idle log wrote.
        let hit = try #require(file.commits.dropFirst(3).first { !$0.records.isEmpty })
        file.zero(hit.range)
        try file.save()
        options = self.options()
        options.compactionThreshold = 0
        log = try open(options)
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
        let failures = Counter(30)
        log = try open(options)
        plan.setRead { path, range in path.hasSuffix(oldest) && range.upperBound > 65536 && failures.next() >= 0 }
        try wait("the device reads again") {
            do {
                try log.compactBlocking()
                return true
            } catch { return false }
        }
        plan.setRead(nil)
        try checkView(ledger)
        #expect(log.compactionStatistics.recordsLost == 0)
        try log.closeBlocking()
    }

    /// Nobody who comes while records move misses what was there when it came.
    @Test func whoComesMeanwhileMissesNothing() throws {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        try log.register(subscriber: "first")
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        log = try open()
        for tenant in Self.tenants { log.acknowledge(through: 20, of: tenant, subscriber: "first") }
        try log.flushAcknowledgementsBlocking()
        // While the first segment is being made, somebody comes.
        let hasCome = Counter(1)
        let busy = log
        plan.setCreate { name in
            if name.hasPrefix("tenants/"), hasCome.next() == 0 { try? busy.register(subscriber: "second") }
            return nil
        }
        try log.compactBlocking()
        #expect(hasCome.next() < 0)
        // It holds the log, which holds the plan.
        plan.setCreate(nil)
        let (records, damages) = try deliver(log, to: "second", acknowledging: false)
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.closeBlocking()
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

    // MARK: - Merging

    /// Many small segments become few, in the same order; what is delivered meanwhile is left out.
    @Test func smallSegmentsAreMerged() throws {
        var ledger = Ledger()
        var options = options()
        options.compactionThreshold = 256 << 10
        let log = try open(options)
        for _ in 0..<60 {
            try fill(log, &ledger, batches: 8)
            // Each time a few files only: many segments.
            try wait("files move") { log.liveFileCount <= 4 }
        }
        try wait("segments are merged") { log.compactionStatistics.segmentsMerged >= 32 }
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
        try FaultyStorage(at: directory.path).publish(finished.map(\.rename))
        try Data([1, 2, 3]).write(
            to: URL(fileURLWithPath: directory.path + "/tenants/alpha/0000000000000001.tmp"))
        let before = segmentPaths.count
        try checkView(ledger)
        log = try open()
        #expect(segmentPaths.count == before - row.count - 1)
        #expect(segmentPaths.count == log.segmentCount)
        let (records, damages) = try deliver(log, to: "collector", acknowledging: false)
        #expect(damages.isEmpty)
        check(records, ledger.records)
        try log.closeBlocking()
    }
}
