import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// A log that is opened with another `journalFileSize` than its files have, on a disk that has room for just those.
@Suite struct JournalFileSizeTests {
    let directory = TemporaryDirectory()

    /// A disk of so many bytes: files of `size` are made while there is room.
    private func plan(disk: Int, size: UInt64) -> FaultPlan {
        let plan = FaultPlan()
        plan.setCreate { [path = directory.path] _ in Self.used(path) + Int(size) <= disk ? nil : .noSpace }
        return plan
    }

    /// Sizes of the journal files.
    private static func sizes(_ path: String) -> [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path + "/journal")) ?? []
        return names.compactMap {
            (try? FileManager.default.attributesOfItem(atPath: path + "/journal/" + $0))?[.size] as? Int
        }
    }

    private static func used(_ path: String) -> Int { sizes(path).reduce(0, +) }

    private func open(disk: Int, size: UInt64) throws -> FaultyLog {
        var options = quietOptions(fileSize: size)
        options.journalLimit = 64 << 20
        return try openPatiently(at: directory.path, options: options, plan: plan(disk: disk, size: size))
    }

    /// Appends until the disk is full.
    private func fill(disk: Int, size: UInt64) throws -> Ledger {
        var ledger = Ledger()
        let log = try open(disk: disk, size: size)
        try log.register(subscriber: "collector")
        #expect {
            while true { try ledger.append(to: log, "alpha", length: 3000) }
        } throws: {
            if case WALError.journalFull = $0 { true } else { false }
        }
        try log.closeBlocking()
        #expect(Self.used(directory.path) == disk)
        return ledger
    }

    /// Acknowledges all records, so many at a time, each time durably where there is room: of the last spare there is
    /// none for what frees no file, and that waits for more, whatever the files' size. The last time there is.
    private func acknowledge(_ ledger: Ledger, to log: FaultyLog, step: UInt64) throws {
        let last = try #require(ledger.highest["alpha"])
        var through: UInt64 = 0
        while through < last {
            through = min(last, through + step)
            log.acknowledge(through: through, of: "alpha", subscriber: "collector")
            do { try log.core.flushAcknowledgements() } catch {
                guard case .journalFull = error, through < last else { throw error }
            }
        }
    }

    /// Appends where there is room within some seconds.
    private func appendPatiently(_ ledger: inout Ledger, to log: FaultyLog) throws {
        let deadline = endOfPatience()
        while true {
            do {
                try ledger.append(to: log, "alpha", length: 3000)
                return
            } catch WALError.journalFull where Date() < deadline { Thread.sleep(forTimeInterval: 0.002) }
        }
    }

    private func check(_ ledger: Ledger, delivered: UInt64) throws {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.findings.isEmpty, "\(view.report.findings)")
        checkRecords(ReadBack(view), ledger.records, delivered: ["alpha": delivered])
    }

    /// Acknowledgements that fill several files, none of which can be of the size asked for; first with the old size.
    @Test(arguments: [256 << 10, 512 << 10, 1 << 20, 16 << 20] as [UInt64])
    func acknowledgingNeedsNoFileOfTheNewSize(_ size: UInt64) throws {
        let disk = 8 * 256 << 10
        let ledger = try fill(disk: disk, size: 256 << 10)
        let log = try open(disk: disk, size: size)
        try acknowledge(ledger, to: log, step: 1)
        #expect(log.statistics.commits > 2 * 62, "acknowledgements fill more than one file")
        try log.closeBlocking()
        #expect(Self.used(directory.path) <= disk)
        try check(ledger, delivered: try #require(ledger.highest["alpha"]))
    }

    /// What was acknowledged makes room for files of the new size, and they take the old ones' place.
    @Test(arguments: [512 << 10, 384 << 10] as [UInt64], [1, 100, 10_000] as [UInt64])
    func largerFilesTakeThePlaceOfSmaller(_ size: UInt64, _ step: UInt64) throws {
        let disk = 16 * 256 << 10
        var ledger = try fill(disk: disk, size: 256 << 10)
        let delivered = try #require(ledger.highest["alpha"])
        let log = try open(disk: disk, size: size)
        // Nothing is delivered: nothing makes room.
        #expect(throws: WALError.self) { try ledger.append(to: log, "alpha", length: 3000) }
        try acknowledge(ledger, to: log, step: step)
        for _ in 0..<60 { try appendPatiently(&ledger, to: log) }
        // Others are removed by a thread of its own.
        try waitUntil { Self.sizes(directory.path).filter { $0 == 256 << 10 }.count <= 1 }
        try log.closeBlocking()
        try check(ledger, delivered: delivered)
    }

    /// The other way round: one old file has room for several new ones.
    @Test(arguments: [1, 100, 10_000] as [UInt64])
    func smallerFilesTakeThePlaceOfLarger(_ step: UInt64) throws {
        let disk = 4 << 20
        var ledger = try fill(disk: disk, size: 1 << 20)
        let delivered = try #require(ledger.highest["alpha"])
        let log = try open(disk: disk, size: 256 << 10)
        try acknowledge(ledger, to: log, step: step)
        // More than what one old file holds.
        for _ in 0..<100 { try appendPatiently(&ledger, to: log) }
        try waitUntil { Self.sizes(directory.path).filter { $0 == 1 << 20 }.count <= 1 }
        try log.closeBlocking()
        try check(ledger, delivered: delivered)
    }

    /// The journal's limit is kept, whatever the sizes.
    @Test func limitHoldsForAllSizes() throws {
        var ledger = try fill(disk: 8 * 256 << 10, size: 256 << 10)
        let delivered = try #require(ledger.highest["alpha"])
        var options = quietOptions(fileSize: 512 << 10)
        options.journalLimit = 2 << 20
        options.segmentLimit = 0
        let log = try openPatiently(at: directory.path, options: options)
        #expect {
            try ledger.append(to: log, "alpha", length: 3000)
        } throws: {
            if case WALError.journalFull = $0 { true } else { false }
        }
        try acknowledge(ledger, to: log, step: 50)
        var most = 0
        for _ in 0..<60 {
            try appendPatiently(&ledger, to: log)
            most = max(most, Self.used(directory.path))
            log.acknowledge(through: .max, of: "alpha", subscriber: "collector")
        }
        #expect(most <= 2 << 20)
        try log.core.flushAcknowledgements()
        try log.closeBlocking()
        try check(ledger, delivered: try #require(ledger.highest["alpha"]))
        #expect(delivered < ledger.highest["alpha"] ?? 0)
    }

    /// A write fails while the log is in a file of the old size: what was under way goes to another.
    @Test(arguments: [1, 2]) func failedWritesMoveOnWithinTheOldSize(_ failures: Int) throws {
        let disk = 8 * 256 << 10
        let ledger = try fill(disk: disk, size: 256 << 10)
        let delivered = try #require(ledger.highest["alpha"])
        var options = quietOptions(fileSize: 16 << 20)
        options.journalLimit = 64 << 20
        let plan = plan(disk: disk, size: 16 << 20)
        let log = try openPatiently(at: directory.path, options: options, plan: plan)
        let half = delivered / 2
        log.acknowledge(through: half, of: "alpha", subscriber: "collector")
        try log.core.flushAcknowledgements()
        plan.failNextWrites(failures)
        log.acknowledge(through: half + 1, of: "alpha", subscriber: "collector")
        if failures == 1 {
            try log.core.flushAcknowledgements()
            #expect(log.statistics.failedWrites == 1)
        } else {
            #expect { try log.core.flushAcknowledgements() } throws: {
                if case WALError.failed = $0 { true } else { false }
            }
        }
        try? log.closeBlocking()
        let again = try open(disk: disk, size: 16 << 20)
        try acknowledge(ledger, to: again, step: 20)
        try again.closeBlocking()
        try check(ledger, delivered: delivered)
    }
}
