import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// However many read a log, it keeps few files open.
@Suite struct ReaderFilesTests {
    private let directory = TemporaryDirectory()

    /// Descriptors of this process that lead into the log.
    private var descriptors: Int {
        let root = URL(fileURLWithPath: directory.path).resolvingSymlinksInPath().path
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        return all.count { name in
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)")
            return target?.hasPrefix(root) ?? false
        }
    }

    /// Two hundred readers take turns, one batch each, in segments and in the journal; then each has all of its tenant's.
    @Test(arguments: [0, 1 << 30] as [UInt64]) func manyReadersKeepFewFilesOpen(_ compactionThreshold: UInt64) throws {
        var options = quietOptions(fileSize: 1 << 20)
        options.compactionThreshold = compactionThreshold
        options.descriptorLimit = 90
        let log = try openPatiently(at: directory.path, options: options)
        try log.register(subscriber: "collector")
        let tenants = try (0..<200).map { try TenantName("tenant-\($0)") }
        for round in 0..<4 {
            for tenant in tenants {
                let records = (0..<2).map { numberedRecord(2 * round + $0, length: 600) }
                try log.appendBlocking(contentsOf: records, tenant: tenant)
            }
        }
        if compactionThreshold == 0 { try log.compactBlocking() }
        var readers = tenants.map { log.records(of: $0, subscriber: "collector").makeBlockingIterator() }
        var counts = [Int](repeating: 0, count: tenants.count)
        var (most, left) = (0, Set(tenants.indices))
        while !left.isEmpty {
            for index in left.sorted() {
                guard let batch = try readers[index].next() else {
                    left.remove(index)
                    continue
                }
                #expect(batch.tenant == tenants[index] && batch.sequences.lowerBound == UInt64(counts[index] + 1))
                counts[index] += batch.count
            }
            most = max(most, descriptors)
        }
        #expect(counts.allSatisfy { $0 == 8 }, "\(counts)")
        #expect(most <= 90 && most > 10, "\(most)")
        // Who has come to the end keeps nothing open.
        #expect(descriptors < 40, "\(descriptors)")
        try log.closeBlocking()
    }

    /// More threads than there are places for guests read at a time; none is left out.
    @Test func threadsTakeTurns() throws {
        var options = quietOptions(fileSize: 1 << 20)
        options.descriptorLimit = ReaderFiles.leastLimit(spareFiles: options.spareFiles)
        let log = try openPatiently(at: directory.path, options: options)
        try log.register(subscriber: "collector")
        let tenants = try (0..<12).map { try TenantName("tenant-\($0)") }
        for round in 0..<30 {
            for tenant in tenants { try log.appendBlocking(numberedRecord(round, length: 600), tenant: tenant) }
        }
        let counts = Shared([TenantName: Int]())
        let threads = tenants.map { tenant in
            Thread {
                var reader = log.records(of: tenant, subscriber: "collector").makeBlockingIterator()
                while let batch = try? reader.next() { counts.change { $0[tenant, default: 0] += batch.count } }
            }
        }
        for thread in threads { thread.start() }
        try waitUntil { threads.allSatisfy(\.isFinished) }
        #expect(tenants.allSatisfy { counts.value[$0] == 30 }, "\(counts.value)")
        try log.closeBlocking()
    }

    /// A guest does not find the file that it was in, since everybody has it and it is being set aside: nothing is missing.
    @Test func aFileThatIsSetAsideIsNotMissed() throws {
        let standard = try StandardLog.damaged(at: directory.path)
        let plan = FaultPlan()
        var options = quietOptions()
        options.recoveryScope = .wholeJournal
        options.descriptorLimit = ReaderFiles.leastLimit(spareFiles: options.spareFiles)
        let log = try openPatiently(at: directory.path, options: options, plan: plan)
        var reader = log.records(subscriber: "collector").makeBlockingIterator()
        _ = try #require(try reader.next())
        let gate = Gate()
        plan.setMove { _ in _ = gate.admit() }
        standard.acknowledgeAll(log)
        try log.flushAcknowledgementsBlocking()
        gate.waitUntilHeld()
        #expect(throws: Never.self) { while try reader.next() != nil {} }
        plan.setMove(nil)
        gate.open()
        try log.closeBlocking()
    }

    @Test func placesAreGivenBack() throws {
        let files = ReaderFiles(limit: ReaderFiles.leastLimit(spareFiles: 2) + 3, spareFiles: 2)
        #expect(files.takePlace() && !files.takePlace())
        files.givePlaceBack()
        #expect(files.takePlace())
        #expect(try files.asGuest { () throws(WALError) in 7 } == 7)
        #expect(throws: WALError.self) { try files.asGuest { () throws(WALError) in throw .closed } }
        for _ in 0..<9 { _ = try? files.asGuest { () throws(WALError) in throw .closed } }
    }

    @Test func aLimitWithoutRoomIsRefused() {
        var options = quietOptions()
        options.descriptorLimit = 20
        #expect(throws: WALError.self) { try openPatiently(at: directory.path, options: options) }
    }
}
