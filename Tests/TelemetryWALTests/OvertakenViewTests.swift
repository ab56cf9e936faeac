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

    /// A file that has left the log may be overwritten under the header that it had, where a tenant is erased: that is no
    /// damage to who still looks for it.
    @Test func overwrittenFilesHaveLeft() throws {
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
        let header = try #require(FileManager.default.contents(atPath: path)?.prefix(Int(start)))
        let isFirst = Shared(true)
        let errors = Shared<[String]>([])
        let written = Shared(ledger)
        looking.setRead { file, range in
            guard file == path, range.upperBound > start, isFirst.value else { return false }
            isFirst.change { $0 = false }
            do {
                _ = try deliver(log, to: "reader")
                try log.flushAcknowledgementsBlocking()
                try wait("the files leave") { log.liveFileCount < 3 }
                // The next header says so.
                let count = log.liveFileCount
                while log.liveFileCount == count { try fill(log, &written.value, batches: 1) }
                let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
                try handle.seek(toOffset: start)
                try handle.write(contentsOf: Data(count: Int(oldest.header.capacity - start)))
                try handle.synchronize()
                try handle.close()
            } catch { errors.change { $0.append("\(error)") } }
            return false
        }
        let read = ReadBack(view)
        #expect(!isFirst.value && errors.value.isEmpty, "\(errors.value)")
        #expect(FileManager.default.contents(atPath: path)?.prefix(Int(start)) == header, "it has another life")
        #expect(read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged) \(read.failures)")
        try log.closeBlocking()
    }
}
