import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Views of a log whose files leave it while they are looked at.
@Suite struct OvertakenViewTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    enum Overwritten { case file, body }

    /// A file that has left the log may be overwritten under the header that it had, where a tenant is erased: that is no
    /// damage to who still looks for it, although files are removed while the log is asked.
    @Test(arguments: [Overwritten.file, .body]) func overwrittenFilesHaveLeft(_ part: Overwritten) throws {
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "reader")
        while log.liveFileCount < 3 { try fill(log, &ledger, batches: 1) }
        let looking = FaultPlan()
        let view = try WriteAheadLogReader(
            storage: FaultyStorage(at: directory.path, plan: looking), scope: .wholeJournal)
        let oldest = try #require(view.journalFiles.first)
        let path = directory.path + "/journal/" + oldest.name
        let start = oldest.header.commitsStart
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        var range = Int(start)..<before.count
        if part == .body {
            let payload = try #require(ledger.records[RecordName(Self.tenants[1], 1)])
            range = try #require(before.range(of: Data(payload)))
        }
        let overwritten = range
        // Another one that goes while the log is asked.
        let stray = directory.path + "/journal/0000ffff.journal"
        let step = Shared(0)
        let errors = Shared<[String]>([])
        let written = Shared(ledger)
        looking.setRead { file, range in
            if step.value == 1, file != path {
                step.change { $0 = 2 }
                try? FileManager.default.removeItem(atPath: stray)
            }
            guard file == path, range.upperBound > start, step.value == 0 else { return false }
            do {
                _ = try deliver(log, to: "reader")
                try log.flushAcknowledgementsBlocking()
                try wait("the files leave") { log.liveFileCount < 3 }
                // The next header says so.
                let count = log.liveFileCount
                while log.liveFileCount == count { try fill(log, &written.value, batches: 1) }
                let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
                try handle.seek(toOffset: UInt64(overwritten.lowerBound))
                try handle.write(contentsOf: Data(count: overwritten.count))
                try handle.synchronize()
                try handle.close()
                try Data(count: 256 << 10).write(to: URL(fileURLWithPath: stray))
            } catch { errors.change { $0.append("\(error)") } }
            step.change { $0 = 1 }
            return false
        }
        let read = ReadBack(view)
        #expect(step.value == 2 && errors.value.isEmpty, "\(errors.value)")
        let header = FileManager.default.contents(atPath: path)?.prefix(Int(start))
        #expect(header == before.prefix(Int(start)), "it has another life")
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        try log.closeBlocking()
    }
}
