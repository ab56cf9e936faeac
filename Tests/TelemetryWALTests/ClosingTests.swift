import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What a clean close leaves behind.
@Suite struct ClosingTests {
    private let directory = TemporaryDirectory()

    /// The mark of a clean close is the log's last commit, whatever others ask for while the rest of the close takes its
    /// time: here a damaged file is set aside, which takes as long as the device likes.
    @Test func nothingIsCommittedBehindTheMark() throws {
        let standard = try StandardLog(at: directory.path, files: 3)
        var file = standard.files[0]
        file.zero(file.commits[4].headers)
        try file.save()
        let plan = FaultPlan()
        var options = quietOptions()
        options.recoveryScope = .wholeJournal
        let log = try openPatiently(at: directory.path, options: options, plan: plan)
        #expect(log.recoveryReport.hasLoss)
        let (moves, mayGoOn) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        plan.setMove { _ in
            moves.signal()
            mayGoOn.wait()
        }
        for (tenant, highest) in standard.ledger.highest {
            log.acknowledge(through: highest, of: tenant, subscriber: "collector")
        }
        let closing = Thread { try? log.closeBlocking() }
        closing.start()
        moves.wait()
        try log.register(subscriber: "late")
        #expect {
            try log.flushAcknowledgementsBlocking()
        } throws: {
            guard case WALError.closed = $0 else { return false }
            return true
        }
        plan.setMove(nil)
        mayGoOn.signal()
        try waitUntil { closing.isFinished }
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.wasClosed)
        #expect(!view.subscribers.contains("late"), "it was told that it is not there")
    }
}
