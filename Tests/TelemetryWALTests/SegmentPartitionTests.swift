import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Journal files' records, partitioned into tenants' segments.
@Suite struct SegmentPartitionTests {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    private var storage: FaultyStorage { FaultyStorage(at: directory.path, plan: plan) }

    private func partition(_ format: RootFormat, budget: Int) -> SegmentPartition<FaultyStorage> {
        SegmentPartition(storage: storage, format: format, budget: budget...budget)
    }

    /// A log of four tenants with 30 commits each of 10 kB, by turns.
    private func fourTenants() throws -> (view: WriteAheadLogReader<DirectStorage>, names: [TenantName]) {
        let names = try (0..<4).map { try TenantName("tenant-\($0)") }
        let log = try openPatiently(at: directory.path)
        for _ in 0..<30 {
            for name in names { try log.appendBlocking(numberedRecord(1, length: 10_000), tenant: name) }
        }
        try log.closeBlocking()
        return (try WriteAheadLogReader(at: directory.path), names)
    }

    /// Where many tenants share it, each gets as much as is worth a segment, up to a bound; what was taken for that is given
    /// back.
    @Test func theBudgetGrowsWithTheTenants() throws {
        let (view, names) = try fourTenants()
        func heldWhenFull(_ tenants: Int) throws -> Int {
            let partition = SegmentPartition(
                storage: storage, format: view.format, budget: 100_000...400_000)
            var iterators = names.prefix(tenants).map { view.records(of: $0) }
            while !partition.isFull {
                for index in iterators.indices {
                    guard let batch = try iterators[index].next() else { return -1 }
                    partition.add(batch, .init())
                }
            }
            let held = partition.byteCount
            _ = try partition.flush(created: 9)
            #expect(partition.byteCount == 0 && partition.keepsMemory)
            partition.releaseMemory()
            #expect(!partition.keepsMemory)
            try FileManager.default.removeItem(atPath: directory.path + "/tenants")
            return held
        }
        #expect((128 << 10...160_000).contains(try heldWhenFull(1)))
        #expect((256 << 10...300_000).contains(try heldWhenFull(2)))
        #expect((400_000...480_000).contains(try heldWhenFull(4)))
    }

    /// What waits of a file is bounded: more is written first, but not where much would become many segments of little,
    /// nor where something is lost, of which all is said at once.
    @Test func budgetHoldsAmidAFile() throws {
        let (view, names) = try fourTenants()
        func heldWhenExceeded(_ tenants: Int, _ budget: Int) throws -> Int {
            let partition = SegmentPartition(storage: storage, format: view.format, budget: budget...budget)
            var iterators = names.prefix(tenants).map { view.records(of: $0) }
            while !partition.exceedsBudget {
                for index in iterators.indices {
                    guard let batch = try iterators[index].next() else { return -1 }
                    partition.add(batch, .init())
                }
            }
            let held = partition.byteCount
            partition.noteDamage()
            #expect(!partition.exceedsBudget)
            return held
        }
        #expect((100_000..<120_000).contains(try heldWhenExceeded(1, 100_000)))
        // Two pieces a tenant at least.
        #expect((8 * RecordChunk.length..<9 * RecordChunk.length).contains(try heldWhenExceeded(4, 10_000)))
    }

    /// Adds all that a log holds; flushes whenever the budget is reached, and at the end.
    private func compact(
        _ partition: SegmentPartition<FaultyStorage>, _ view: WriteAheadLogReader<DirectStorage>,
        _ bounds: (TenantName) -> SegmentPartition<FaultyStorage>.Bounds = { _ in .init() }
    ) throws -> [SegmentPartition<FaultyStorage>.Published] {
        if view.report.hasLoss { partition.noteDamage() }
        var published: [SegmentPartition<FaultyStorage>.Published] = []
        var records = view.records()
        while true {
            do throws(WALError) {
                guard let batch = try records.next() else { break }
                partition.add(batch, bounds(batch.tenant))
            } catch { guard case .damaged = error else { throw error } }
            if partition.isFull { published += try #require(try partition.flush(created: 9)) }
        }
        return try published + #require(try partition.flush(created: 9))
    }

    /// What the segments hold and miss.
    private func read(
        _ published: [SegmentPartition<FaultyStorage>.Published], _ format: RootFormat
    ) throws -> (records: [RecordName: [UInt8]], lost: Set<RecordName>) {
        var records: [RecordName: [UInt8]] = [:]
        var lost: Set<RecordName> = []
        for segment in published {
            let name = SegmentName.name(covering: segment.covered)
            let file = try SegmentFile(name, of: segment.tenant, in: storage, format: format)
            #expect(file.fault == nil)
            for number in file.index.frames.indices {
                for record in try file.batch(ofFrame: number).records {
                    let name = RecordName(segment.tenant, record.sequence)
                    #expect(records[name] == nil, "\(name) is there twice")
                    records[name] = Array(record.payload)
                }
            }
            for range in file.index.lostRanges {
                for sequence in range.sequences { lost.insert(RecordName(segment.tenant, sequence)) }
            }
        }
        return (records, lost)
    }

    /// What is to be erased and what is not come into different segments.
    @Test func aSegmentEndsWhereAnErasureDoes() throws {
        let log = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let partition = partition(view.format, budget: 1 << 30)
        var records = view.records()
        var ends: [UInt64] = []
        while let batch = try records.next() {
            partition.add(batch, .init())
            if batch.tenant == "beta" { ends.append(batch.sequences.upperBound) }
        }
        let cut = ends[ends.count / 2]
        let published = try #require(try partition.flush(created: 9, cuts: { $0 == "beta" ? [cut] : [] }))
        let last = try #require(ends.last)
        #expect(published.filter { $0.tenant == "beta" }.map(\.covered) == [1...cut, cut + 1...last])
        #expect(published.count == 4)
        let (found, _) = try read(published, view.format)
        #expect(found == log.ledger.records)
    }

    /// So do numbers that are lost, which no commit keeps apart.
    @Test func whatIsLostEndsWhereAnErasureDoes() throws {
        let log = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let partition = partition(view.format, budget: 1 << 30)
        var records = view.records()
        while let batch = try records.next() { partition.add(batch, .init()) }
        let last = try #require(log.ledger.highest["beta"])
        partition.lose([last + 1...last + 20], of: "beta", .init())
        let published = try #require(
            try partition.flush(created: 9, cuts: { $0 == "beta" ? [last + 9, last + 7] : [] }))
        #expect(
            published.filter { $0.tenant == "beta" }.map(\.covered) == [
                1...last + 7, last + 8...last + 9, last + 10...last + 20,
            ])
        let (found, lost) = try read(published, view.format)
        #expect(found == log.ledger.records)
        #expect(lost == Set((last + 1...last + 20).map { RecordName("beta", $0) }))
    }

    /// Whatever the budget: all records, each once, in segments that follow each other.
    @Test(arguments: [1, 20_000, 1 << 30]) func everythingGoesToItsTenant(budget: Int) throws {
        let log = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let published = try compact(partition(view.format, budget: budget), view)
        let (records, lost) = try read(published, view.format)
        #expect(records == log.ledger.records && lost.isEmpty)
        for tenant in StandardLog.tenants {
            var next: UInt64 = 1
            for segment in published where segment.tenant == tenant {
                #expect(segment.covered.lowerBound == next)
                next = segment.covered.upperBound + 1
            }
            #expect(next == log.ledger.highest[tenant]! + 1)
        }
        if budget == 1 << 30 { #expect(published.count == StandardLog.tenants.count) }
    }

    /// What everybody has is left out, from the middle of a batch on, too.
    @Test func deliveredRecordsAreLeftOut() throws {
        var ledger = Ledger()
        let log = try openPatiently(at: directory.path)
        for _ in 0..<4 { try ledger.append(to: log, "alpha", length: 50) }
        let batch = (0..<6).map { numberedRecord(500 + $0) }
        let receipt = try log.appendBlocking(contentsOf: batch, tenant: "alpha")
        for (offset, record) in batch.enumerated() {
            ledger.note(RecordName("alpha", receipt.sequences.lowerBound + UInt64(offset)), record.payload)
        }
        try ledger.append(to: log, "beta")
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path)
        let published = try compact(partition(view.format, budget: 1 << 20), view) {
            .init(acknowledged: $0 == "alpha" ? 19 : 4)
        }
        #expect(published.map(\.tenant) == ["alpha"] && published[0].covered == 20...22)
        #expect(published[0].recordCount == 3)
        #expect(try read(published, view.format).records == ledger.records.filter { $0.key.sequence >= 20 })
    }

    /// A loss in the journal is a lost range in the segment.
    @Test func lossesAreTold() throws {
        let log = try StandardLog(at: directory.path)
        var file = log.files[1]
        let hit = file.commits[3]
        file.zero(hit.range)
        try file.save()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        let (records, lost) = try read(try compact(partition(view.format, budget: 1 << 20), view), view.format)
        #expect(lost == Set(hit.records))
        #expect(records == log.ledger.records.filter { !lost.contains($0.key) })
    }

    /// Nothing is taken out of memory before the segments have their names: another attempt writes the same.
    @Test func failedFlushMayBeRepeated() throws {
        let log = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let partition = partition(view.format, budget: 1 << 30)
        var records = view.records()
        while let batch = try records.next() { partition.add(batch, .init()) }
        let left = Counter(2)
        plan.setCreate { _ in left.next() >= 0 ? nil : .noSpace }
        #expect(throws: StorageError.self) { _ = try partition.flush(created: 9) }
        let tenants = try FileManager.default.subpathsOfDirectory(atPath: directory.path + "/tenants")
        #expect(!tenants.contains { $0.hasSuffix(".segment") || $0.hasSuffix(".tmp") }, "\(tenants)")
        plan.setCreate(nil)
        #expect(try read(#require(try partition.flush(created: 9)), view.format).records == log.ledger.records)
        #expect(try partition.flush(created: 9)?.isEmpty == true)
    }

    /// Asked to stop, it leaves nothing behind, and goes on when asked again.
    @Test func interruptedFlush() throws {
        let log = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let partition = partition(view.format, budget: 1 << 30)
        var records = view.records()
        while let batch = try records.next() { partition.add(batch, .init()) }
        var asked = 0
        let published = try partition.flush(
            created: 9,
            while: { _ in
                asked += 1
                return asked < 3
            })
        #expect(published == nil)
        let left = try FileManager.default.subpathsOfDirectory(atPath: directory.path + "/tenants")
        #expect(!left.contains { $0.hasSuffix(".segment") || $0.hasSuffix(".tmp") }, "\(left)")
        #expect(try read(#require(try partition.flush(created: 9)), view.format).records == log.ledger.records)
    }

    /// Segments cover a tenant's numbers without a gap, whatever was acknowledged, and what a damaged file lacks at its
    /// end is lost, too.
    @Test func coveredNumbersHaveNoGap() throws {
        _ = try StandardLog(at: directory.path)
        let view = try WriteAheadLogReader(at: directory.path)
        let partition = partition(view.format, budget: 1 << 30)
        var records = view.records(of: "alpha", from: 5)
        while let batch = try records.next(), batch.sequences.lowerBound < 20 {
            partition.add(batch, .init(acknowledged: 6, covered: 3))
        }
        partition.finish("alpha", through: 40, .init(acknowledged: 6, covered: 3))
        partition.finish("beta", through: 7, .init(acknowledged: 7, covered: 3))
        let published = try #require(try partition.flush(created: 9))
        #expect(published.map(\.covered) == [4...40])
        let (found, lost) = try read(published, view.format)
        #expect(found.keys.map(\.sequence).min() == 7)
        #expect(lost.count + found.count == 34)
    }
}
