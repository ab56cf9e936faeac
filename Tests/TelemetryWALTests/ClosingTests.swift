import Foundation
import Logging
import Synchronization
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What a clean close leaves behind.
@Suite struct ClosingTests {
    private let directory = TemporaryDirectory()

    /// A child of this process has the lock's open file description until its `exec`: that keeps nobody out.
    @Test func theLockIsFreeAlthoughAChildHasIt() throws {
        let log = try openPatiently(at: directory.path)
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap(Int32.init)
        let lock = try #require(
            open.first { number in
                let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")
                return target == directory.path + "/LOCK"
            })
        let copy = fcntl(lock, F_DUPFD_CLOEXEC, 0)
        defer { close(copy) }
        #expect(throws: WALError.self) { try FaultyLog.open(storage: FaultyStorage(at: directory.path)) }
        try log.closeBlocking()
        let again = try FaultyLog.open(storage: FaultyStorage(at: directory.path), options: quietOptions())
        try again.closeBlocking()
    }

    /// The mark of a clean close is the log's last commit, whatever others ask for while the rest of the close takes its
    /// time: here a damaged file is set aside, which takes as long as the device likes.
    @Test func nothingIsCommittedBehindTheMark() throws {
        let standard = try StandardLog.damaged(at: directory.path)
        let plan = FaultPlan()
        var options = quietOptions()
        options.recoveryScope = .wholeJournal
        let log = try openPatiently(at: directory.path, options: options, plan: plan)
        #expect(log.recoveryReport.hasLoss)
        let gate = Gate()
        plan.setMove { _ in _ = gate.admit() }
        standard.acknowledgeAll(log)
        let closing = Thread { try? log.closeBlocking() }
        closing.start()
        gate.waitUntilHeld()
        try log.register(subscriber: "late")
        #expect {
            try log.flushAcknowledgementsBlocking()
        } throws: {
            guard case WALError.closed = $0 else { return false }
            return true
        }
        plan.setMove(nil)
        gate.open()
        try waitUntil { closing.isFinished }
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.wasClosed)
        #expect(!view.subscribers.contains("late"), "it was told that it is not there")
    }

    /// Messages come from a thread of their own. A process may end behind its log, and with it what was not written yet.
    @Test func messagesAreWrittenBeforeTheLogIsClosed() throws {
        let plan = FaultPlan()
        let messages = Messages()
        var options = quietOptions()
        options.logger = Logger(label: "test") { _ in SlowLogHandler(messages: messages) }
        let log = try openPatiently(at: directory.path, options: options, plan: plan)
        plan.failNextWrites(1)
        try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        try log.closeBlocking()
        #expect(messages.all.contains { $0.contains("write failed") }, "\(messages.all)")
    }

    private final class Messages: Sendable {
        private let lock = Mutex<[String]>([])
        var all: [String] { lock.withLock { $0 } }
        func add(_ message: String) { lock.withLock { $0.append(message) } }
    }

    private struct SlowLogHandler: LogHandler {
        let messages: Messages
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            Thread.sleep(forTimeInterval: 0.1)
            messages.add(event.message.description)
        }
    }
}
