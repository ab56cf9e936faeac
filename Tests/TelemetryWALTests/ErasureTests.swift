import Foundation
import Synchronization
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// After an erasure nothing of the tenant is left, and nobody else notices.
@Suite struct ErasureTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    private let erased: TenantName = "erased"

    /// Records of the tenant that is to go, no piece of which can come about by chance.
    private struct Secrets {
        var payloads: [[UInt8]] = []

        mutating func append(to log: FaultyLog, _ tenant: TenantName, count: Int = 4, length: Int = 1600) throws {
            var generator = SystemRandomNumberGenerator()
            let records = (0..<count).map { _ in
                let half = (0..<length / 2).map { _ in UInt8.random(in: 0...255, using: &generator) }
                // Twice the same, so that compression has something to do.
                return TelemetryRecord(kind: .opaque, timestamp: 1, payload: half + half)
            }
            payloads += records.map { Array($0.payload) }
            try log.appendBlocking(contentsOf: records, tenant: tenant)
        }

        func expectNone(below path: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
            let places = try PayloadScan(payloads).places(below: path)
            #expect(places.isEmpty, "\(places)", sourceLocation: sourceLocation)
        }
    }

    private func mixed(_ log: FaultyLog, _ ledger: inout Ledger, _ secrets: inout Secrets, rounds: Int) throws {
        for _ in 0..<rounds {
            try ledger.append(to: log, "alpha", count: 2, length: 1500)
            try secrets.append(to: log, erased)
            try ledger.append(to: log, "gamma", count: 3, length: 700)
        }
    }

    private func status(_ log: FaultyLog) throws -> TenantStatus {
        try #require(log.tenants.first { $0.name == erased })
    }

    /// In segments, in live journal files, behind the present one's end, and in spares, which were used before.
    @Test(arguments: [0, 1 << 30] as [UInt64], CompressionPolicy.allCases)
    func nothingIsLeft(compactionThreshold: UInt64, compression: CompressionPolicy) throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var options = options()
        options.compactionThreshold = compactionThreshold
        options.compression = compression
        let log = try open(options)
        try log.register(subscriber: "collector")
        // Files have had earlier lives.
        for _ in 0..<3 {
            try mixed(log, &ledger, &secrets, rounds: 25)
            _ = try deliver(log, to: "collector")
            try log.flushAcknowledgementsBlocking()
        }
        ledger.forget(Array(ledger.names))
        try mixed(log, &ledger, &secrets, rounds: 30)
        if compactionThreshold == 0 { try log.compactBlocking() }
        try mixed(log, &ledger, &secrets, rounds: 10)
        let before = try PayloadScan(secrets.payloads).places(below: directory.path)
        #expect(before.count > 2)
        let last = try status(log).nextSequence - 1
        let report = try log.eraseBlocking(erased)
        #expect(report.through == last && report.undelivered == 160 && report.leftAlone.isEmpty)
        // What was compacted meanwhile lies in files of other names, or in none.
        let told = Set(report.files.map(\.path))
        let left = before.keys.filter { FileManager.default.fileExists(atPath: directory.path + "/" + $0) }
        #expect(told.isSuperset(of: left) && told.contains { $0.hasPrefix("journal/") })
        #expect(compactionThreshold > 0 || told.contains { $0.hasPrefix("tenants/erased/") })
        try secrets.expectNone(below: directory.path)
        let status = try status(log)
        #expect(status.erasure?.isComplete == true && status.erasure?.through == last && status.backlog == 0)
        #expect(status.drops[.erasure]?.records == 160)
        // What comes later stays, and numbers go on.
        #expect(try log.appendBlocking(numberedRecord(1, length: 50), tenant: erased).sequence == last + 1)
        ledger.note(RecordName(erased, last + 1), numberedRecord(1, length: 50).payload)
        for _ in 0..<10 { try ledger.append(to: log, "alpha", count: 2, length: 1500) }
        check(try deliver(log, to: "collector", acknowledging: false).records, ledger.records)
        try log.closeBlocking()
        try secrets.expectNone(below: directory.path)
        let view = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, opensBodies: true))
        #expect(view.damaged.isEmpty && !view.records.keys.contains { $0.tenant == erased && $0.sequence <= last })
        check(view.records.filter { ledger.records[$0.key] != nil }, ledger.records)
        let again = try open(options)
        check(try deliver(again, to: "collector", acknowledging: false).records, ledger.records)
        try again.closeBlocking()
        try secrets.expectNone(below: directory.path)
    }

    /// An append that failed is no record and has no number, and its bytes go all the same, although there is nothing more
    /// to be erased.
    @Test func bytesOfFailedAppendsGo() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var log = try open()
        try mixed(log, &ledger, &secrets, rounds: 5)
        let report = try log.eraseBlocking(erased)
        // Of what would tell what they are, nothing.
        plan.setWrite { _, range in .failsHolding([(range.lowerBound == 0 ? 20480 : 4096)..<1 << 20]) }
        var failed = Secrets()
        #expect(throws: WALError.self) { try failed.append(to: log, erased, count: 8) }
        plan.setWrite(nil)
        try? log.closeBlocking()
        log = try open()
        #expect(try status(log).nextSequence - 1 == report.through)
        #expect(
            try !PayloadScan(failed.payloads).places(below: directory.path).isEmpty, "there is something to be found")
        #expect(try log.eraseBlocking(erased).through == report.through)
        try secrets.expectNone(below: directory.path)
        try failed.expectNone(below: directory.path)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// The same of a tenant that never had a record. While the log does not know it, they go with anybody's.
    @Test(arguments: [false, true]) func bytesOfWhoNeverHadARecordGo(isKnown: Bool) throws {
        var (ledger, failed) = (Ledger(), Secrets())
        var log = try open()
        try ledger.append(to: log, "alpha", count: 2, length: 1500)
        plan.setWrite { _, range in
            if range.lowerBound > 0, range.count < 8192 { return nil }
            return .failsHolding([(range.lowerBound == 0 ? 20480 : 4096)..<1 << 20])
        }
        #expect(throws: WALError.self) { try failed.append(to: log, erased, count: 8) }
        plan.setWrite(nil)
        try? log.closeBlocking()
        log = try open()
        // As an append that is refused does.
        log.core.lock.withLock { _ = log.core.addTenant(isKnown ? erased : "beta") }
        #expect(
            try !PayloadScan(failed.payloads).places(below: directory.path).isEmpty, "there is something to be found")
        if !isKnown { #expect(throws: WALError.self) { try log.eraseBlocking(erased) } }
        #expect(try log.eraseBlocking(isKnown ? erased : "beta").through == 0)
        try failed.expectNone(below: directory.path)
        #expect(log.core.lock.withLock { log.core.sweeps.isEmpty && !log.core.erasesAnybody })
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// A sweep that fails is told, and not tried again by itself; the next one does not trust what it reads.
    @Test func aSweepThatFailsIsTold() throws {
        var ledger = Ledger()
        let log = try open()
        try ledger.append(to: log, "alpha", count: 2, length: 1500)
        log.core.lock.withLock { _ = log.core.addTenant(erased) }
        plan.setRead { _, _ in true }
        #expect {
            try log.eraseBlocking(erased)
        } throws: { error in
            if case .storage? = error as? WALError { true } else { false }
        }
        plan.setRead(nil)
        #expect(log.core.lock.withLock { log.core.sweeps.isEmpty && log.core.sweepsBegunBefore == [erased] })
        let writes = Counter(0)
        plan.setWrite { _, _ in
            _ = writes.next()
            return nil
        }
        try log.eraseBlocking(erased)
        #expect(writes.next() < -1, "zeros were written again")
        #expect(log.core.lock.withLock { log.core.sweepsBegunBefore.isEmpty })
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// Which of several erasures that were decided is durable when the log is opened again is not known: segments end at each.
    @Test func eachErasureDecidedIsAnEnd() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let log = try open()
        try ledger.append(to: log, "alpha")
        var begun: [LogCore<FaultyStorage>.BegunErasure] = []
        for _ in 0..<2 {
            try secrets.append(to: log, erased)
            begun.append(try log.core.beginErasure(of: erased, isHeld: true))
        }
        #expect(begun.map(\.report.through) == [4, 8])
        let ends = log.core.lock.withLock { log.core.erasureEnds(of: erased) }
        #expect(Set(ends) == [4, 8])
        for erasure in begun { log.core.release(erasure) }
        for erasure in begun {
            _ = try log.core.finish(erasure)
            log.core.endWaiting(for: erasure)
        }
        #expect(log.core.lock.withLock { log.core.erasureEnds(of: erased) } == [8])
        try secrets.expectNone(below: directory.path)
        try log.closeBlocking()
    }

    /// A copy of a file of the log may be taken for it when the log is opened: it keeps what the file keeps.
    @Test func copiesKeepWhatTheirFileKeeps() throws {
        var (ledger, secrets, later) = (Ledger(), Secrets(), Secrets())
        let log = try open()
        try ledger.append(to: log, "alpha", count: 2, length: 1500)
        try secrets.append(to: log, erased)
        try later.append(to: log, erased)
        let end = try #require(log.core.lock.withLock { log.core.files.last?.endOffset })
        let journal = directory.path + "/journal/"
        try FileManager.default.copyItem(atPath: journal + "00000000.journal", toPath: journal + "00000077.journal")
        let erasure = try log.core.beginErasure(of: erased, through: 4)
        #expect(try log.core.finish(erasure).through == 4)
        log.core.endWaiting(for: erasure)
        try secrets.expectNone(below: directory.path)
        let places = try PayloadScan(later.payloads).places(below: directory.path)
        #expect(places.count == 2, "\(places.keys)")
        let files = try ["00000000", "00000077"].map {
            try FileHandle(forReadingFrom: URL(filePath: journal + $0 + ".journal")).read(upToCount: Int(end))
        }
        #expect(files[0] == files[1])
        try log.closeBlocking()
    }

    /// Where a commit of others was written in parts, in a file that nobody is promised anything in, what stood there before
    /// goes; what is whole stays. In quarantine, what is damaged stays where another commit vouches for it, which says
    /// nothing where commits are not flushed.
    @Test(arguments: [(false, WriteDurability.powerLoss), (true, .powerLoss), (true, .processCrash)])
    func whatStandsBetweenACommitsPartsGoes(isInQuarantine: Bool, durability: WriteDurability) throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var options = options()
        options.durability = durability
        let log = try open(options)
        try log.register(subscriber: "collector")
        while log.liveFileCount < 2 { try mixed(log, &ledger, &secrets, rounds: 5) }
        let name = try #require(log.core.lock.withLock { log.core.files.first?.name })
        var image = try #require(JournalImage(name: name, in: directory.path))
        var commits = image.commits
        if isInQuarantine {
            // Nothing is left that vouches for the last one.
            let last = try #require(commits.lastIndex { $0.frames.contains { $0.header.tenant == "alpha" } })
            for commit in commits[(last + 1)...] { image.zero(commit.range) }
            commits.removeSubrange((last + 1)...)
        }
        let bodies = commits.flatMap { commit in
            commit.frames.filter { $0.header.tenant == "alpha" }.map { commit.body($0) }
        }
        #expect(bodies.count > 2 && bodies[0].count > 1200)
        let secret = Array(secrets.payloads[0].prefix(1000))
        let parts = isInQuarantine ? try #require(bodies.last) : bodies[0]
        image.put(isInQuarantine ? [UInt8](repeating: 0xDA, count: 1000) : secret, at: bodies[0].lowerBound + 100)
        image.put(secret, at: parts.lowerBound + 100)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        try wait("the file leaves") { log.core.lock.withLock { !log.core.files.contains { $0.name == name } } }
        let place = isInQuarantine ? "quarantine/00000077.journal.3" : "journal/00000077.journal"
        try FileManager.default.createDirectory(
            atPath: directory.path + "/quarantine", withIntermediateDirectories: true)
        try Data(image.bytes).write(to: URL(filePath: directory.path + "/" + place))
        try log.eraseBlocking(erased)
        try secrets.expectNone(below: directory.path)
        let left = [UInt8](try Data(contentsOf: URL(filePath: directory.path + "/" + place)))
        let goes = durability == .processCrash ? [bodies[0], parts] : [parts]
        for body in goes { #expect(left[body].allSatisfy { $0 == 0 }) }
        for body in bodies where !goes.contains(body) { #expect(left[body] == image.bytes[body]) }
        try log.closeBlocking()
    }

    /// Others append all the while, through file after file.
    @Test(arguments: [WritePath.automatic, .plain]) func othersGoOn(writePath: WritePath) throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var options = options()
        options.writePath = writePath
        options.journalLimit = 16 << 20
        let log = try open(options)
        try mixed(log, &ledger, &secrets, rounds: 60)
        let isThrough = Atomic<Bool>(false)
        // Rounds that each may have come to: what is looked through must not grow as fast as it is looked through.
        let allowed = Atomic<Int>(0)
        let appended = Shared(ledger)
        let threads = (0..<3).map { number in
            let thread = Thread {
                var round = 0
                while !isThrough.load(ordering: .acquiring) || round < 30 {
                    while !isThrough.load(ordering: .acquiring), round >= allowed.load(ordering: .acquiring) {
                        Thread.sleep(forTimeInterval: 0.001)
                    }
                    let record = numberedRecord(1_000_000 * (number + 1) + round, length: [80, 900, 9000][round % 3])
                    let tenant = Self.tenants[number]
                    if let receipt = try? log.appendBlocking(record, tenant: tenant) {
                        appended.change { $0.note(RecordName(tenant, receipt.sequence), record.payload) }
                    }
                    round += 1
                }
            }
            thread.start()
            return thread
        }
        for _ in 0..<5 {
            allowed.add(200, ordering: .releasing)
            try log.eraseBlocking(erased)
            try secrets.expectNone(below: directory.path)
            try secrets.append(to: log, erased, count: 20)
        }
        allowed.add(200, ordering: .releasing)
        try log.eraseBlocking(erased)
        isThrough.store(true, ordering: .releasing)
        while threads.contains(where: { !$0.isFinished }) { Thread.sleep(forTimeInterval: 0.002) }
        try log.closeBlocking()
        try secrets.expectNone(below: directory.path)
        try checkView(appended.value)
    }

    /// Who is reading is not told of damage, be it in this process or in another.
    @Test(arguments: [0, 1 << 30] as [UInt64]) func readersPassOver(compactionThreshold: UInt64) throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var options = options()
        options.compactionThreshold = compactionThreshold
        let log = try open(options)
        try log.register(subscriber: "collector")
        try mixed(log, &ledger, &secrets, rounds: 100)
        try log.waitForWatermark()
        try wait("the journal is as it will be") { !log.isCompacting }
        var walk = log.records(subscriber: "collector").makeBlockingIterator()
        var walkOfOne = log.records(of: erased, subscriber: "collector").makeBlockingIterator()
        var found: [RecordName: [UInt8]] = [:]
        func take(_ batch: RecordBatch) {
            for record in batch.records where batch.tenant != erased {
                found[RecordName(batch.tenant, record.sequence)] = Array(record.payload)
            }
        }
        for _ in 0..<5 { take(try #require(try walk.next())) }
        _ = try walkOfOne.next()
        let view = try WriteAheadLogReader(at: directory.path)
        try log.eraseBlocking(erased)
        while let batch = try walk.next() { take(batch) }
        check(found, ledger.records)
        while try walkOfOne.next() != nil {}
        let read = ReadBack(view)
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        check(read.records.filter { $0.key.tenant != erased }, ledger.records)
        let fresh = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, opensBodies: true)
        #expect(!fresh.report.hasLoss && ReadBack(fresh).records.keys.allSatisfy { $0.tenant != erased })
        try log.closeBlocking()
    }

    /// A crash amid it: the next writer goes on, whatever the first had done.
    @Test(arguments: [0, 1, 3, 7]) func theNextWriterGoesOn(writes: Int) throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let last = try eraseInPart(&ledger, &secrets, writes: writes)
        plan.setWrite(nil)
        try waitForNoWriter(at: directory.path)
        let halfWay = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(!halfWay.report.hasLoss, "\(halfWay.report.findings)")
        let tenant = try #require(halfWay.tenants.first { $0.name == erased })
        #expect(tenant.erasure?.through == last && tenant.erasure?.isComplete == false)
        check(ReadBack(halfWay).records, ledger.records)
        let again = try open()
        try wait("the erasure is complete") { try status(again).erasure?.isComplete == true }
        try secrets.expectNone(below: directory.path)
        check(try deliver(again, to: "collector").records, ledger.records)
        try again.closeBlocking()
    }

    /// The device fails after so many writes, and the process dies. Returns the last number that is to go.
    private func eraseInPart(_ ledger: inout Ledger, _ secrets: inout Secrets, writes: Int) throws -> UInt64 {
        let log = try open()
        try log.register(subscriber: "collector")
        try mixed(log, &ledger, &secrets, rounds: 80)
        try log.compactBlocking()
        try mixed(log, &ledger, &secrets, rounds: 30)
        try log.waitForWatermark()
        // The record of the erasure itself comes through.
        let left = Counter(writes + 1)
        plan.setWrite { _, _ in left.next() < 0 ? .fails(.ioFailure) : nil }
        #expect(throws: WALError.self) { try log.eraseBlocking(erased) }
        return try status(log).nextSequence - 1
    }

    /// No byte of new space is needed.
    @Test func aFullDiskDoesNotMatter() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let log = try open()
        try log.register(subscriber: "collector")
        try mixed(log, &ledger, &secrets, rounds: 40)
        try log.compactBlocking()
        plan.setCreate { _ in .noSpace }
        plan.setFreeSpace(0)
        #expect(throws: WALError.self) { while true { try mixed(log, &ledger, &secrets, rounds: 1) } }
        try log.eraseBlocking(erased)
        try secrets.expectNone(below: directory.path)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// What was set aside for its damage goes, too; others' readable bytes in it stay.
    @Test func quarantineIsNoHidingPlace() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        var options = options()
        options.segmentLimit = 0
        var log = try open(options)
        try log.register(subscriber: "collector")
        while log.liveFileCount < 4 { try mixed(log, &ledger, &secrets, rounds: 2) }
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).first)
        let hit = try #require(file.commits.dropFirst(3).first { $0.records.contains { $0.tenant == "alpha" } })
        file.zero(hit.body(hit.frames[0]))
        try file.save()
        log = try open(options)
        #expect(log.recoveryReport.hasLoss)
        _ = try deliver(log, to: "collector")
        try log.flushAcknowledgementsBlocking()
        let quarantine = directory.path + "/quarantine"
        try wait("the file is set aside") { try !FileManager.default.contentsOfDirectory(atPath: quarantine).isEmpty }
        #expect(try PayloadScan(secrets.payloads).places(below: quarantine).count == 1)
        let report = try log.eraseBlocking(erased)
        #expect(report.files.contains { $0.path.hasPrefix("quarantine/") && !$0.isRemoved })
        try secrets.expectNone(below: directory.path)
        let name = try #require(
            try FileManager.default.contentsOfDirectory(atPath: quarantine).first { $0 != "tenants" })
        let kept = try Data(contentsOf: URL(fileURLWithPath: quarantine + "/" + name))
        let other = try #require(ledger.records[RecordName("gamma", 1)])
        #expect(kept.range(of: Data(other.prefix(100))) != nil)
        try log.closeBlocking()
    }

    /// A write that fails twice is done again with what is known, so that what others have in its blocks stays.
    @Test func aWriteThatFailsTwiceHarmsNobody() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let log = try open()
        try log.register(subscriber: "collector")
        try mixed(log, &ledger, &secrets, rounds: 60)
        let failures = Counter(2)
        plan.setWrite { path, range in
            guard path.hasSuffix(".journal"), range.count >= 8192, failures.next() >= 0 else { return nil }
            return .failsHolding([0..<512])
        }
        try log.eraseBlocking(erased)
        plan.setWrite(nil)
        #expect(failures.next() < 0)
        try secrets.expectNone(below: directory.path)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// A file that says that it is somebody else's is named and left alone.
    @Test func anothersSegmentIsLeftAlone() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let log = try open()
        try mixed(log, &ledger, &secrets, rounds: 40)
        try log.compactBlocking()
        let alpha = try #require(segmentPaths.first { $0.contains("/alpha/") })
        let misplaced = directory.path + "/tenants/erased/" + (alpha as NSString).lastPathComponent + "x"
        try FileManager.default.copyItem(atPath: alpha, toPath: misplaced)
        let report = try log.eraseBlocking(erased)
        #expect(report.leftAlone == ["tenants/erased/" + (misplaced as NSString).lastPathComponent])
        #expect(FileManager.default.contentsEqual(atPath: alpha, andPath: misplaced))
        try secrets.expectNone(below: directory.path)
        try log.closeBlocking()
    }

    @Test func anUnknownTenantIsToldApart() async throws {
        let log = try open()
        await #expect {
            try await log.erase("nobody")
        } throws: { error in
            guard case .unknownTenant("nobody")? = error as? WALError else { return false }
            return true
        }
        try log.closeBlocking()
    }

    /// Twice, at the same time and after each other: each returns when nothing is left.
    @Test func erasingTwiceIsNoMatter() throws {
        var (ledger, secrets) = (Ledger(), Secrets())
        let log = try open()
        try mixed(log, &ledger, &secrets, rounds: 50)
        let failures = Shared<[String]>([])
        let threads = (0..<3).map { _ in
            let thread = Thread {
                do { try log.eraseBlocking(erased) } catch { failures.change { $0.append("\(error)") } }
            }
            thread.start()
            return thread
        }
        while threads.contains(where: { !$0.isFinished }) { Thread.sleep(forTimeInterval: 0.002) }
        #expect(failures.value == [])
        try secrets.expectNone(below: directory.path)
        let report = try log.eraseBlocking(erased)
        #expect(log.core.lock.withLock { log.core.erasureReports.isEmpty && log.core.erasureCallers.isEmpty })
        #expect(report.files == [] && report.undelivered == 0 && report.through == 200)
        try log.closeBlocking()
        try checkView(ledger)
    }
}
