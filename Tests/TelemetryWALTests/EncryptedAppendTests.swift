import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Which key a record gets, and how much longer it makes a commit.
@Suite(.timeLimit(.minutes(5))) struct EncryptedAppendTests: EncryptionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    let keys = SimulatedKeys()

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

    /// From the first encrypted record on nobody appends without keys, in whatever journal; a provider without a key for
    /// anybody ends that.
    @Test(arguments: [false, true]) func nothingIsAppendedWithoutKeys(inOwnJournal: Bool) async throws {
        func format() throws -> RootFormat {
            try [UInt8](Data(contentsOf: URL(filePath: directory.path + "/FORMAT"))).withRawSpan {
                try RootFormat.decode($0)
            }
        }
        var log = try open(encrypted())
        if inOwnJournal { try log.placeBlocking("alpha", .dedicated()) }
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        #expect(try !format().isEncrypted)
        keys.rotate("alpha")
        try log.appendBlocking(numberedRecord(2), tenant: "alpha")
        var expected = log.core.format
        expected.isEncrypted = true
        #expect(try format() == expected)
        try log.closeBlocking()
        log = try open()
        func isRefused(_ append: () async throws -> Void) async -> Bool {
            do { try await append() } catch {
                if case .keyUnavailable(_, nil, let reason)? = error as? WALError {
                    return reason.contains("without a key provider")
                }
            }
            return false
        }
        for tenant in ["alpha", "beta"] as [TenantName] {
            let log = log
            #expect(await isRefused { try log.appendBlocking(numberedRecord(3), tenant: tenant) })
            #expect(await isRefused { _ = try log.enqueue(numberedRecord(3), tenant: tenant) })
            #expect(await isRefused { try await log.append(numberedRecord(3), tenant: tenant) })
        }
        try log.closeBlocking()
        var options = options()
        options.keyProvider = SimulatedKeys()
        log = try open(options)
        #expect(try log.appendBlocking(numberedRecord(3), tenant: "alpha").sequence == 3)
        try log.closeBlocking()
    }

    /// `FORMAT` says it when the first encrypted commit is written, and not only then: a crash may come in between.
    @Test func theMarkComesFirst() throws {
        var options = encrypted()
        // The watermark is written by itself otherwise.
        options.idleMilliseconds = 3_600_000
        let log = try open(options)
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        keys.rotate("alpha")
        let marked = Shared<[Bool]>([])
        let path = directory.path + "/FORMAT"
        plan.setWrite { file, _ in
            guard file.hasSuffix(".journal") else { return nil }
            let bytes = FileManager.default.contents(atPath: path).map { [UInt8]($0) } ?? []
            let format = try? bytes.withRawSpan { try RootFormat.decode($0) }
            marked.change { $0.append(format?.isEncrypted ?? false) }
            return nil
        }
        try log.appendBlocking(numberedRecord(2), tenant: "alpha")
        plan.setWrite(nil)
        #expect(!marked.value.isEmpty && marked.value.allSatisfy { $0 }, "\(marked.value)")
        try log.closeBlocking()
    }

    /// That `FORMAT` cannot say it keeps no encrypted record from the log, which says it itself; so it does where `FORMAT` was
    /// made anew.
    @Test(arguments: [false, true]) func theMarkNeedNotBeWritten(isLost: Bool) throws {
        var log = try open(encrypted())
        keys.rotate("alpha")
        if !isLost { plan.setReplace { _ in .noSpace } }
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        plan.setReplace(nil)
        try log.closeBlocking()
        #expect(try identifiers(of: "alpha").journal.count == 1)
        if isLost { try FileManager.default.removeItem(atPath: directory.path + "/FORMAT") }
        log = try open()
        #expect {
            try log.appendBlocking(numberedRecord(2), tenant: "alpha")
        } throws: { error in
            if case .keyUnavailable("alpha", nil, _)? = error as? WALError { true } else { false }
        }
        try log.closeBlocking()
        log = try open(encrypted())
        #expect(!log.core.format.isEncrypted)
        try log.appendBlocking(numberedRecord(2), tenant: "alpha")
        try log.closeBlocking()
        log = try open(encrypted())
        #expect(log.core.format.isEncrypted)
        try log.closeBlocking()
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
}
