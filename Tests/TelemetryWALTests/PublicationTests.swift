import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Segments of many tenants get their names some tenants at a time; in between the log goes on.
@Suite struct PublicationTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    /// More than get their names together.
    private let many = (0..<70).compactMap { try? TenantName("tenant-\($0)") }

    /// A record of each tenant.
    private func appendToAll(_ log: FaultyLog, _ ledger: inout Ledger) throws {
        for tenant in many { try ledger.append(to: log, tenant, count: 1, length: 2000) }
    }

    /// A log without commits for being idle: they would take room in its files, which decides what leaves the journal.
    private func openQuietly() throws -> FaultyLog {
        var options = options()
        options.idleMilliseconds = 3_600_000
        return try open(options)
    }

    /// Has something happen on the compactor's thread when some segments have their names and others do not.
    private func between(_ body: @escaping @Sendable () -> Void) {
        let left = Counter(65)
        plan.setCreate { name in
            if name.hasPrefix("tenants/"), left.next() == 0 { body() }
            return nil
        }
    }

    /// A reader that stood at the end finds what has come since, of one tenant and of all, although some of it is in
    /// segments and some of it is not.
    @Test func readersGoOnInBetween() throws {
        var ledger = Ledger()
        let log = try openQuietly()
        try log.register(subscriber: "reader")
        try appendToAll(log, &ledger)
        let one = Shared(log.records(of: many[0], subscriber: "reader").makeBlockingIterator())
        let all = Shared(log.records(subscriber: "reader").makeBlockingIterator())
        let found = Shared<[TenantName: [UInt64]]>([:])
        let errors = Shared<[String]>([])
        let readAll: @Sendable () -> Void = {
            do {
                while let batch = try all.value.next() {
                    found.change { $0[batch.tenant, default: []] += batch.records.map(\.sequence) }
                }
            } catch { errors.change { $0.append("\(error)") } }
        }
        let first = try one.value.next()
        let end = try one.value.next()
        #expect(first?.sequences == 1...1 && end == nil)
        readAll()
        #expect(found.value.count == many.count && found.value.allSatisfy { $1 == [1] })
        try appendToAll(log, &ledger)
        let next = Shared<ClosedRange<UInt64>?>(nil)
        let segments = Shared(0)
        between {
            segments.change { $0 = log.segmentCount }
            let batch = try? one.value.next()
            next.change { $0 = batch?.sequences }
            readAll()
        }
        try log.compactBlocking()
        plan.setCreate(nil)
        #expect(segments.value == 64 && log.segmentCount == many.count)
        #expect(next.value == 2...2)
        #expect(errors.value.isEmpty)
        #expect(found.value.count == many.count && found.value.allSatisfy { $1 == [1, 2] }, "\(found.value)")
        try log.closeBlocking()
        try checkView(ledger)
    }

    /// Who comes in between misses nothing that was there when it came.
    @Test func whoComesInBetweenMissesNothing() throws {
        var ledger = Ledger()
        let log = try openQuietly()
        try log.register(subscriber: "first")
        try appendToAll(log, &ledger)
        try appendToAll(log, &ledger)
        for tenant in many { log.acknowledge(through: 1, of: tenant, subscriber: "first") }
        try log.flushAcknowledgementsBlocking()
        let errors = Shared<[String]>([])
        between {
            do { try log.register(subscriber: "second") } catch { errors.change { $0.append("\(error)") } }
        }
        try log.compactBlocking()
        plan.setCreate(nil)
        #expect(errors.value.isEmpty)
        let (records, damages) = try deliver(log, to: "second", acknowledging: false)
        #expect(damages.isEmpty)
        // Segments that had their names left out what everybody had by then.
        let left = Set(many[..<64])
        check(records, ledger.records.filter { $0.key.sequence > 1 || !left.contains($0.key.tenant) })
        try log.closeBlocking()
    }

    /// A damaged file is settled only together with all that is to be said of it: its segments get their names all at
    /// once. What comes later does not.
    @Test func damageMovesAsAWhole() throws {
        var ledger = Ledger()
        let before = try openQuietly()
        try before.register(subscriber: "reader")
        try appendToAll(before, &ledger)
        try ledger.append(to: before, many[9], count: 1, length: 2000)
        try before.closeBlocking()
        try spoil(try #require(ledger.records[RecordName(many[9], 1)]))
        let log = try openQuietly()
        let left = Counter(65)
        plan.setCreate { $0.hasPrefix("tenants/") && left.next() <= 0 ? .ioFailure : nil }
        #expect(throws: WALError.self) { try log.compactBlocking() }
        #expect(log.segmentCount == 0)
        plan.setCreate(nil)
        try wait("all moves") { (try? log.compactBlocking()) != nil }
        #expect(log.segmentCount == many.count)
        try appendToAll(log, &ledger)
        let segments = Shared(0)
        between { segments.change { $0 = log.segmentCount } }
        try log.compactBlocking()
        plan.setCreate(nil)
        #expect(segments.value == many.count + 64)
        try log.closeBlocking()
    }

    /// Overwrites a payload where it stands in the journal.
    private func spoil(_ payload: [UInt8]) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.path + "/journal") {
            let url = URL(fileURLWithPath: directory.path + "/journal/" + name)
            guard let place = try Data(contentsOf: url).range(of: Data(payload)) else { continue }
            let handle = try FileHandle(forUpdating: url)
            try handle.seek(toOffset: UInt64(place.lowerBound))
            try handle.write(contentsOf: Data(count: payload.count))
            return try handle.close()
        }
        Issue.record("the payload is not there")
    }

    /// The compactor rests for others' sake, and not while somebody waits for it.
    @Test func nobodyWaitsForRests() throws {
        var ledger = Ledger()
        let log = try openQuietly()
        try appendToAll(log, &ledger)
        let mayRest = Shared<[Bool]>([])
        between { mayRest.change { $0.append(log.core.lock.withLock { log.core.mayRestFromCompaction }) } }
        try log.compactBlocking()
        plan.setCreate(nil)
        #expect(mayRest.value == [false])
        #expect(log.core.lock.withLock { log.core.mayRestFromCompaction })
        try log.closeBlocking()
    }

    /// A failure in between leaves each record in one place or the other, and what is left moves later.
    @Test func aFailureInBetweenCostsNothing() throws {
        var ledger = Ledger()
        let log = try openQuietly()
        try log.register(subscriber: "reader")
        try appendToAll(log, &ledger)
        let left = Counter(65)
        plan.setCreate { $0.hasPrefix("tenants/") && left.next() <= 0 ? .ioFailure : nil }
        #expect(throws: WALError.self) { try log.compactBlocking() }
        #expect(log.segmentCount == 64)
        check(try read(log).records, ledger.records)
        try checkView(ledger)
        plan.setCreate(nil)
        // An attempt of its own may have begun before.
        try wait("the rest moves") { (try? log.compactBlocking()) != nil }
        #expect(log.segmentCount == many.count)
        check(try read(log, acknowledging: true).records, ledger.records)
        try log.closeBlocking()
    }
}
