import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Logs whose tenants are encrypted, or some of them: with a cipher that hides nothing, but finds out who mixes up keys or
/// places. AES itself is tested in WALEncryptionTests.
@Suite(.timeLimit(.minutes(5))) struct EncryptionTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    let keys = SimulatedKeys()

    private func encrypted(_ compression: CompressionPolicy = .automatic) -> WriteAheadLogOptions {
        var options = options()
        options.keyProvider = keys
        options.compression = compression
        return options
    }

    /// What a subscriber gets, and what it is told besides.
    private func read(
        _ log: FaultyLog, by subscriber: TenantName = "reader", acknowledging: Bool = false
    ) throws -> (records: [RecordName: [UInt8]], errors: [WALError]) {
        var records: [RecordName: [UInt8]] = [:]
        var last: [TenantName: UInt64] = [:]
        var errors: [WALError] = []
        var walk = log.records(subscriber: subscriber).makeBlockingIterator()
        while errors.count < 500 {
            do throws(WALError) {
                guard let batch = try walk.next() else { break }
                for record in batch.records {
                    #expect(record.sequence > last[batch.tenant] ?? 0)
                    last[batch.tenant] = record.sequence
                    records[RecordName(batch.tenant, record.sequence)] = Array(record.payload)
                }
                if acknowledging { log.acknowledge(batch, subscriber: subscriber) }
            } catch { errors.append(error) }
        }
        return (records, errors)
    }

    private func view() throws -> WriteAheadLogReader<DirectStorage> {
        try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, opensBodies: true)
    }

    /// Identifiers of the keys that a tenant's frames name, in the journal and in segments.
    private func identifiers(of tenant: TenantName) throws -> (journal: Set<UInt64>, segments: Set<UInt64>) {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        var journal: Set<UInt64> = []
        for file in view.journalFiles {
            for commit in try view.commits(inFileNamed: file.name) {
                for frame in commit.frames where frame.header.tenant == tenant {
                    journal.insert(frame.header.keyIdentifier)
                }
            }
        }
        var segments: Set<UInt64> = []
        for status in view.segments(of: tenant) {
            let file = try SegmentFile(
                SegmentName.name(covering: status.covered), of: tenant, in: view.storage, format: view.format)
            for number in file.index.frames.indices {
                try file.withEncodedFrame(number) { bytes in
                    if let header = try? FrameHeader.decode(bytes, at: 0) { segments.insert(header.keyIdentifier) }
                }
            }
        }
        return (journal, segments)
    }

    private func rotateAll() { for tenant in Self.tenants { keys.rotate(tenant) } }

    @Test(arguments: CompressionPolicy.allCases) func plainBytesNeverReachTheDisk(compression: CompressionPolicy) throws
    {
        // One tenant in the open, so that the scan is seen to find what there is.
        let open: TenantName = "gamma"
        keys.rotate("alpha")
        keys.rotate("beta/ü")
        var ledger = Ledger()
        let log = try self.open(encrypted(compression))
        try log.register(subscriber: "reader")
        // Single records, small batches that are copied, and long ones that are not.
        for tenant in Self.tenants {
            for _ in 0..<20 { try ledger.append(to: log, tenant, count: 1, length: 300) }
            try ledger.append(to: log, tenant, count: 8, length: 900)
            try ledger.append(to: log, tenant, count: 40, length: 900)
        }
        while log.segmentCount < 12 {
            try fill(log, &ledger, batches: 20)
            try log.compactBlocking()
        }
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        let secret = PayloadScan(ledger.records.filter { $0.key.tenant != open }.map(\.value))
        #expect(try secret.places(below: directory.path).isEmpty)
        if compression == .never {
            let plain = PayloadScan(ledger.records.filter { $0.key.tenant == open }.map(\.value))
            #expect(try !plain.places(below: directory.path).isEmpty, "the scan finds nothing at all")
        }
        let again = try self.open(encrypted(compression))
        check(try read(again, acknowledging: true).records, ledger.records)
        try again.closeBlocking()
    }

    @Test func rotatedKeysGoOnReading() throws {
        rotateAll()
        let old = try #require(keys.currentIdentifier(of: "alpha"))
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        rotateAll()
        let new = try #require(keys.currentIdentifier(of: "alpha"))
        try fill(log, &ledger, batches: 10)
        check(try read(log).records, ledger.records)
        // Records keep the key under which they were appended, wherever they go.
        try log.compactBlocking()
        rotateAll()
        try fill(log, &ledger, batches: 10)
        let now = try #require(keys.currentIdentifier(of: "alpha"))
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        let found = try identifiers(of: "alpha")
        #expect(found.segments == [old, new])
        #expect(found.journal.contains(now))
        let again = try open(encrypted())
        check(try read(again).records, ledger.records)
        try again.closeBlocking()
    }

    @Test func missingKeyStopsItsTenantOnly() throws {
        keys.rotate("alpha")
        keys.rotate("gamma")
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        try fill(log, &ledger, batches: 10)
        keys.setFailing(true, "alpha")
        let found = try read(log, acknowledging: true)
        check(found.records, ledger.records.filter { $0.key.tenant != "alpha" })
        #expect(found.errors.count == 1)
        for error in found.errors {
            guard case .keyUnavailable("alpha", let sequences?, let reason) = error else {
                Issue.record("\(error)")
                continue
            }
            #expect(sequences.lowerBound == 1)
            #expect(reason.contains("the key service is away"))
        }
        // Appends of that tenant are refused whole, and others go on.
        #expect {
            try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        } throws: {
            guard case .keyUnavailable("alpha", nil, _)? = $0 as? WALError else { return false }
            return true
        }
        try ledger.append(to: log, "gamma")
        // Nothing is lost: with the key, it is there.
        keys.setFailing(false, "alpha")
        let behind = try read(log, acknowledging: true)
        #expect(behind.errors.isEmpty)
        check(found.records.merging(behind.records) { _, new in new }, ledger.records)
        try log.closeBlocking()
    }

    @Test func compactionWaitsForKeys() throws {
        rotateAll()
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        keys.setFailing(true, "alpha")
        #expect {
            try log.compactBlocking()
        } throws: {
            guard case .keyUnavailable("alpha", _, _)? = $0 as? WALError else { return false }
            return true
        }
        keys.setFailing(false, "alpha")
        try log.compactBlocking()
        #expect(log.segmentCount == 3)
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
    }

    @Test func forgottenKeyTakesItsRecordsAlone() throws {
        rotateAll()
        let forgotten = try #require(keys.currentIdentifier(of: "alpha"))
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 5)
        try log.compactBlocking()
        try fill(log, &ledger, batches: 5)
        let gone = ledger.names.filter { $0.tenant == "alpha" }
        keys.rotate("alpha")
        try fill(log, &ledger, batches: 5)
        keys.forget(forgotten)
        ledger.forget(gone)
        let found = try read(log)
        check(found.records, ledger.records)
        var told: UInt64 = 0
        for error in found.errors {
            guard case .keyForgotten("alpha", let sequences, forgotten) = error else {
                Issue.record("\(error)")
                continue
            }
            told += UInt64(sequences.count)
        }
        #expect(told == UInt64(gone.count))
        // What moves on moves without them, and that is no loss.
        let statistics = try log.compactBlocking()
        #expect(statistics.recordsForgotten == UInt64(gone.count / 2))
        #expect(statistics.recordsLost == 0)
        check(try read(log).records, ledger.records)
        try fill(log, &ledger, batches: 5)
        try log.compactBlocking()
        check(try read(log, acknowledging: true).records, ledger.records)
        try log.closeBlocking()
        let view = try view()
        #expect(!view.report.hasLoss)
        for segment in view.segments {
            let report = try view.report(on: segment, opensFrames: true)
            #expect(report?.isDamaged == false)
        }
    }

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

    /// On the disk the identifier 0 means that a frame is not encrypted: no key may have it.
    @Test func keyWithoutAnIdentifierIsRefused() throws {
        struct Nameless: KeyProvider {
            let key = SimulatedKey(identifier: 0, secret: 5)
            func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { key }
            func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup { .found(key) }
        }
        var options = encrypted()
        options.keyProvider = Nameless()
        let log = try open(options)
        #expect {
            try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        } throws: {
            guard case .keyUnavailable("alpha", nil, _)? = $0 as? WALError else { return false }
            return true
        }
        try log.closeBlocking()
        #expect(try view().report.records == 0)
    }

    /// Records that wait for one commit and were appended under two keys: who forgets one of them loses no other.
    @Test func keysDoNotMixWithinACommit() throws {
        let first = keys.rotate("alpha")
        // The first one's commit is held, so that the next ones share one.
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        var options = encrypted()
        options.commitsUnderWay = 1
        options.idleMilliseconds = 3_600_000
        let log = try open(options)
        let held = try log.enqueue(numberedRecord(1), tenant: "alpha")
        gate.waitUntilHeld()
        _ = try log.enqueue(numberedRecord(2), tenant: "alpha")
        keys.rotate("alpha")
        let last = try log.enqueue(numberedRecord(3), tenant: "alpha")
        gate.open()
        try log.durableBlocking(through: held)
        try log.durableBlocking(through: last)
        keys.forget(first)
        let found = try read(log)
        #expect(found.records.keys.map(\.sequence) == [3])
        try log.closeBlocking()
    }

    /// An append that waits for room is encrypted with what its tenant has when it gets some.
    @Test(arguments: [true, false]) func keyIsAskedForAgainBehindAWait(suspends: Bool) async throws {
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        var options = encrypted()
        options.journalFileSize = 4 << 20
        options.journalLimit = 64 << 20
        options.stagingLimit = 1 << 20
        options.commitsUnderWay = 1
        let log = try open(options)
        // In the open, until nothing more finds room.
        var last: UInt64 = 0
        do {
            while last < 10_000 {
                _ = try log.enqueue(numberedRecord(1, length: 4500), tenant: "alpha")
                last += 1
            }
        } catch {
            guard case .stagingFull = error else { throw error }
        }
        gate.waitUntilHeld()
        let refusals = log.statistics.backPressure
        let waiting = Task {
            let record = numberedRecord(9, length: 4500)
            if suspends { return try await log.append(record, tenant: "alpha").sequence }
            return try await withCheckedThrowingContinuation { continuation in
                Thread.detachNewThread {
                    continuation.resume(with: Result { try log.appendBlocking(record, tenant: "alpha").sequence })
                }
            }
        }
        let deadline = endOfPatience()
        while log.statistics.backPressure == refusals {
            try #require(Date() < deadline)
            try await Task.sleep(for: .milliseconds(2))
        }
        let identifier = keys.rotate("alpha")
        gate.open()
        let sequence = try await waiting.value
        #expect(sequence == last + 1)
        try log.closeBlocking()
        #expect(try identifiers(of: "alpha").journal == [0, identifier])
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

    private struct OtherSecrets: KeyProvider {
        func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { nil }
        func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
            .found(SimulatedKey(identifier: identifier, secret: 7))
        }
    }

    /// Each frame grows by what encryption adds: admission has to know, or a commit passes its file's end.
    @Test func boundsCountWhatEncryptionAdds() throws {
        #expect(encrypted().sealOverhead == FrameSeal.overhead)
        let group = StagedGroup(sealOverhead: encrypted().sealOverhead)
        let key = SimulatedKey(identifier: 1, secret: 1)
        for number in 0..<400 {
            let frame = group.beginFrame(
                StagedFrame(
                    tenantIndex: number, tenant: try TenantName("t\(number)"), key: key, firstSequence: 1,
                    body: StagingBuffer(capacity: 64)))
            let payload = [UInt8](repeating: 1, count: 1 + number % 40)
            payload.withRawSpan { group.append(toFrame: frame, kind: .opaque, timestamp: 1, payload: $0) }
            group.count(records: 1, length: RecordHeader.length + payload.count)
        }
        let lengths = CommitAssembler.Lengths(group, ControlFrames([], timestamp: 0), blockSize: 4096)
        var generator = SystemRandomNumberGenerator()
        let log = RootFormat(logIdentifier: LogIdentifier(using: &generator), blockSize: 4096, created: 0)
        let buffer = AlignedBuffer(capacity: lengths.bound + (256 << 10), alignment: 4096)
        var encoder = CommitEncoder(
            at: 0, of: log, frameHeadersLength: lengths.frameHeaders, rawLengths: lengths.raw, compresses: false)
        let commit = try buffer.withMutableBytes { (bytes: inout MutableRawSpan) throws(FormatError) in
            for index in 0..<group.frameCount {
                try group.frames[index].encode(
                    with: &encoder, into: &bytes, compressor: LZ4FrameCompressor(), compresses: false,
                    logIdentifier: log.logIdentifier, epoch: 1)
            }
            return encoder.finish(
                CommitPlacement(
                    epoch: 1, fileSequence: 1, offset: 8192, commitNumber: 1, durableThrough: 0, recordsBefore: 0,
                    previousChecksum: 0), timestamp: 1, flags: [], into: &bytes)
        }
        #expect(commit.commitLength <= lengths.bound)
        #expect(commit.commitLength <= group.worstLength(blockSize: 4096))
        #expect(commit.commitLength > lengths.bound - 400 * FrameSeal.overhead, "the test is too easy to pass")
    }

    /// The same on a disk.
    @Test func manyShortFramesFitWhereTheyWereAdmitted() throws {
        var options = encrypted(.never)
        options.journalLimit = 64 << 20
        options.segmentLimit = 0
        options.commitsUnderWay = 1
        let log = try open(options)
        try log.register(subscriber: "reader")
        let tenants = (0..<400).map { number -> TenantName in
            let name = try! TenantName("t\(number)")
            keys.rotate(name)
            return name
        }
        var ledger = Ledger()
        // Some fifteen times a group comes close to a file's end.
        for round in 0..<60 {
            var last: Ticket?
            for (index, tenant) in tenants.enumerated() {
                let record = numberedRecord(round * tenants.count + index, length: 1 + index % 60)
                while true {
                    do throws(WALError) {
                        last = try log.enqueue(record, tenant: tenant)
                        break
                    } catch {
                        guard case .journalFull = error else { throw error }
                        Thread.sleep(forTimeInterval: 0.001)
                    }
                }
                ledger.note(RecordName(tenant, UInt64(round + 1)), record.payload)
            }
            if let last { try log.durableBlocking(through: last) }
        }
        try log.closeBlocking()
        let read = ReadBack(
            try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, keyProvider: keys))
        check(read.records, ledger.records)
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
