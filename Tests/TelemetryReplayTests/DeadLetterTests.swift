import Foundation
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// What a receiver refuses for good, and what becomes of it.
@Suite struct DeadLetterTests {
    let directory = TemporaryDirectory()

    private func log(records: Int = 100, tenants: Int = 2) async throws -> WriteAheadLog {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        for tenant in 0..<tenants {
            let batch = (1...records).map { numberedRecord($0 + 10_000 * tenant) }
            try await log.append(contentsOf: batch, tenant: try TenantName("t\(tenant)"))
        }
        return log
    }

    private func refusing(_ poison: Set<UInt64>, of tenant: TenantName = "t0") -> TestExporter {
        TestExporter { batch in
            batch.tenant == tenant && batch.records.contains { poison.contains($0.sequence) }
                ? .refused(reason: "HTTP 400: bad \"span\"\n") : await TestExporter.takes(batch)
        }
    }

    private func letters() throws -> [DeadLetter] {
        var letters: [DeadLetter] = []
        var records = try WriteAheadLogReader(at: directory.path + "/dead-letters").records()
        while let batch = try records.next() {
            letters += batch.records.compactMap { DeadLetter($0, of: batch.tenant) }
        }
        return letters
    }

    @Test func poisonRecordsStandAloneAndTheOthersArrive() async throws {
        let log = try await log()
        let exporter = refusing([1, 37, 38, 100])
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter).drain()
        #expect(summary.deadLetters == 4 && summary.deliveredRecords == 196 && !summary.isComplete)
        #expect(summary.givenUpRecords == 0)
        #expect(exporter.sequences("t0").sorted() == (1...100).filter { ![1, 37, 38, 100].contains($0) })
        #expect(log.tenants.allSatisfy { $0.acknowledgedThrough["s"] == 100 })
        // Halving finds each in so many requests, not in one for each record.
        #expect(exporter.batches.count < 60)
        try await log.close()
        let letters = try letters()
        #expect(letters.map(\.sequence).sorted() == [1, 37, 38, 100])
        for letter in letters {
            #expect(letter.tenant == "t0" && letter.subscriber == "s" && letter.attempts == 1)
            #expect(letter.reason == "HTTP 400: bad \"span\"\n" && letter.kind == .opaque)
            #expect(letter.payload == numberedRecord(Int(letter.sequence)).payload)
        }
    }

    @Test func redriveSendsEachOnceAndKeepsWhatIsRefusedAgain() async throws {
        let log = try await log()
        _ = try await Replayer(log: log, subscriber: "s", exporter: refusing([5, 6, 7])).drain()
        try await log.close()
        let again = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        let exporter = refusing([6])
        let summary = try await DeadLetterRedrive(log: again, exporter: exporter).run()
        #expect(summary.deliveredRecords == 2 && summary.deadLetters == 1)
        #expect(exporter.sequences("t0").sorted() == [5, 7])
        #expect(exporter.records("t0").allSatisfy { Array($0.payload) == numberedRecord(Int($0.sequence)).payload })
        let taking = TestExporter()
        let last = try await DeadLetterRedrive(log: again, exporter: taking).run()
        #expect(last.isComplete && taking.sequences("t0") == [6])
        let none = try await DeadLetterRedrive(log: again, exporter: taking).run()
        #expect(none.deliveredRecords == 0 && none.requests == 0)
        try await again.close()
        #expect(try letters().filter { $0.sequence == 6 }.map(\.attempts).max() == 2)
    }

    @Test func redriveOfOneSubscriberLeavesTheOthersLetters() async throws {
        let log = try await log()
        _ = try await Replayer(log: log, subscriber: "a", exporter: refusing([5])).drain()
        _ = try await Replayer(log: log, subscriber: "b", exporter: refusing([6])).drain()
        let exporter = TestExporter()
        let summary = try await DeadLetterRedrive(log: log, exporter: exporter, subscriber: "b").run()
        #expect(summary.deliveredRecords == 1 && exporter.sequences("t0") == [6])
        let rest = TestExporter()
        _ = try await DeadLetterRedrive(log: log, exporter: rest).run()
        #expect(rest.sequences("t0") == [5])
        try await log.close()
    }

    @Test func receiverThatRefusesEverythingIsNotGivenTheWholeLogToBury() async throws {
        let log = try await log(records: 500)
        var options = ReplayOptions()
        options.maximumBatchRecords = 50
        options.maximumRefusalsInARow = 8
        options.giveUpAfter = .milliseconds(400)
        options.initialBackoff = .milliseconds(50)
        let exporter = TestExporter { $0.tenant == "t0" ? .refused(reason: "no") : await TestExporter.takes($0) }
        let service = Task { try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).run() }
        await patiently { exporter.sequences("t1").count == 500 }
        try await Task.sleep(for: .milliseconds(500))
        service.cancel()
        try await service.value
        try await log.close()
        let count = try letters().count
        #expect(count >= 8 && count < 100, "\(count) were buried")
    }

    @Test func deniedIsNoFaultOfTheRecords() async throws {
        let log = try await log()
        var options = ReplayOptions()
        options.giveUpAfter = .seconds(60)
        let exporter = TestExporter { _ in .denied(reason: "HTTP 401") }
        let summary = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        #expect(summary.deadLetters == 0 && summary.givenUpRecords == 200)
        #expect(summary.problems.contains { $0.contains("t0") && $0.contains("401") })
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/dead-letters"))
        try await log.close()
    }

    @Test func recordThatIsNearlyAsLongAsAFileAllowsIsKept() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 8 << 20))
        let payload = [UInt8](repeating: 7, count: (2 << 20) - 500)
        try await log.append(TelemetryRecord(kind: .span, timestamp: 9, payload: payload), tenant: "t0")
        let summary = try await Replayer(log: log, subscriber: "s", exporter: refusing([1])).drain()
        #expect(summary.deadLetters == 1)
        try await log.close()
        let again = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 8 << 20))
        #expect(try await DeadLetterRedrive(log: again, exporter: refusing([1])).run().deadLetters == 1)
        try await again.close()
        let letter = try #require(try letters().last)
        #expect(letter.attempts == 2)
        #expect(letter.payload == payload && letter.kind == .span && letter.timestamp == 9)
    }

    /// What SPEC.md says of a letter, read without the project's own reader of it.
    @Test func letterIsALineOfJSONAndThePayload() async throws {
        let log = try await log()
        _ = try await Replayer(log: log, subscriber: "s", exporter: refusing([5])).drain()
        try await log.close()
        var records = try WriteAheadLogReader(at: directory.path + "/dead-letters").records(of: "t0")
        let record = try #require(try records.next()?.records.first { _ in true })
        let end = try #require(record.payload.firstIndex(of: 0x0A))
        let header = try #require(
            try JSONSerialization.jsonObject(with: Data(record.payload[..<end])) as? [String: Any])
        #expect(Set(header.keys) == ["subscriber", "sequence", "kind", "timestamp", "reason", "refused", "attempts"])
        #expect(header["subscriber"] as? String == "s" && header["kind"] as? String == "opaque")
        #expect(header["sequence"] as? Int == 5 && header["timestamp"] as? Int == 5 && header["attempts"] as? Int == 1)
        #expect(Array(record.payload[(end + 1)...]) == numberedRecord(5).payload && record.kind == .opaque)
    }

    /// A request was under way while its tenant was erased, and is refused then.
    @Test func noLetterIsWrittenBehindAnErasure() async throws {
        let log = try await log(tenants: 1)
        let isErased = Shared(false)
        let exporter = TestExporter { _ in
            if !isErased.value { _ = try? await log.erase("t0") }
            isErased.value = true
            return .refused(reason: "no")
        }
        var options = ReplayOptions()
        options.maximumRefusalsInARow = 1000
        _ = try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).drain()
        try await log.close()
        let scan = PayloadScan((1...100).map { numberedRecord($0).payload })
        #expect(try scan.places(below: directory.path).isEmpty)
    }

    @Test func erasureTakesDeadLettersAsWell() async throws {
        let log = try await log()
        _ = try await Replayer(log: log, subscriber: "s", exporter: refusing([5, 6])).drain()
        _ = try await Replayer(log: log, subscriber: "s2", exporter: refusing([8], of: "t1")).drain()
        let report = try await log.erase("t0")
        #expect(report.files.contains { $0.path.hasPrefix("dead-letters/") })
        try await log.close()
        let scan = PayloadScan([5, 6].map { numberedRecord($0).payload })
        #expect(try scan.places(below: directory.path).isEmpty)
        #expect(try letters().map(\.tenant) == ["t1"])
    }
}
