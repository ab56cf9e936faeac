import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Records of some times are found by the indices of segments and the headers of frames.
@Suite struct TimeSeekTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    private typealias Found = [RecordName: UInt64]
    private static let minute: UInt64 = 60_000_000_000

    /// Nine minutes: three in a segment of each tenant, three in another, three in the journal. Every third record is of the
    /// minute before.
    private func fill(_ log: FaultyLog) throws -> Found {
        var appended: Found = [:]
        for minute in 2...10 as ClosedRange<UInt64> {
            for tenant in Self.tenants {
                let records = (0..<20).map { number in
                    TelemetryRecord(
                        kind: .span, timestamp: (number % 3 == 2 ? minute - 1 : minute) * Self.minute + UInt64(number),
                        payload: [UInt8](repeating: UInt8(number), count: 100 + number))
                }
                let receipt = try log.appendBlocking(contentsOf: records, tenant: tenant)
                for (sequence, record) in zip(receipt.sequences, records) {
                    appended[RecordName(tenant, sequence)] = record.timestamp
                }
            }
            if minute == 4 || minute == 7 { try log.compactBlocking() }
        }
        return appended
    }

    private func read(
        _ view: WriteAheadLogReader<FaultyStorage>, of tenant: TenantName? = nil, _ times: ClosedRange<UInt64>?
    ) -> (records: Found, errors: Int) {
        var (found, errors, last): (Found, Int, [TenantName: UInt64]) = ([:], 0, [:])
        var records = view.records(of: tenant, during: times)
        while errors < 50 {
            do throws(WALError) {
                guard let batch = try records.next() else { break }
                #expect(batch.count == Array(batch.records).count && batch.byteCount >= 116 * batch.count)
                for record in batch.records {
                    #expect(record.sequence > last[batch.tenant] ?? 0 && batch.sequences.contains(record.sequence))
                    #expect(batch.timestamps.contains(record.timestamp))
                    #expect(record.payload.allSatisfy { $0 == UInt8(record.timestamp % Self.minute) })
                    last[batch.tenant] = record.sequence
                    found[RecordName(batch.tenant, record.sequence)] = record.timestamp
                }
            } catch { errors += 1 }
        }
        return (found, errors)
    }

    /// Without hundreds of records in what is said of a failure.
    private func isSame(_ found: Found, _ wanted: Found) -> Bool { found == wanted }

    @Test func recordsOfSomeTimesAreGiven() throws {
        let log = try open()
        let appended = try fill(log)
        try log.closeBlocking()
        let view = try WriteAheadLogReader(storage: FaultyStorage(at: directory.path))
        #expect(!view.segments.isEmpty)
        let minutes: [ClosedRange<UInt64>] = [
            0...0, 0...1, 1...2, 3...3, 4...4, 3...8, 10...12, 9...9, 11...90, 0...90,
        ]
        for range in minutes {
            let times = range.lowerBound * Self.minute...range.upperBound * Self.minute + Self.minute - 1
            let wanted = appended.filter { times.contains($0.value) }
            #expect(isSame(read(view, times).records, wanted), "\(range)")
            let one = wanted.filter { $0.key.tenant == "beta/ü" }
            #expect(isSame(read(view, of: "beta/ü", times).records, one), "\(range)")
        }
        // Between the minutes: single records out of the middle of frames.
        let narrow = 5 * Self.minute + 3...5 * Self.minute + 10
        #expect(isSame(read(view, narrow).records, appended.filter { narrow.contains($0.value) }))
        #expect(isSame(read(view, nil).records, appended))
    }

    /// What is of other times is not read: damage there is not met.
    @Test func otherFramesAreNotRead() throws {
        let log = try open()
        let appended = try fill(log)
        try log.closeBlocking()
        let path = try #require(segmentPaths.first { $0.contains("alpha") })
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
        bytes[FormatLimits.defaultBlockSize + 300] ^= 1
        try Data(bytes).write(to: URL(filePath: path))
        let view = try WriteAheadLogReader(storage: FaultyStorage(at: directory.path))
        let late = 5 * Self.minute...90 * Self.minute
        let found = read(view, late)
        #expect(found.errors == 0 && isSame(found.records, appended.filter { late.contains($0.value) }))
        #expect(read(view, 2 * Self.minute...3 * Self.minute).errors == 1)
    }

    /// Numbers begin with 1; who asks for 0 gets all.
    @Test func numberZeroIsBeforeAll() throws {
        let log = try openPatiently(at: directory.path)
        for number in 1...3 { try log.appendBlocking(numberedRecord(number), tenant: "alpha") }
        try log.closeBlocking()
        var records = try WriteAheadLogReader(at: directory.path).records(of: "alpha", from: 0)
        var count = 0
        while let batch = try records.next() { count += batch.count }
        #expect(count == 3)
    }
}
