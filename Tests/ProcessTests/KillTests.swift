import Foundation
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// A real process is killed by SIGKILL at random moments, again and again on the same log.
@Suite struct KillTests {
    @Test func everyAcknowledgedRecordSurvivesTwentyFiveKills() throws {
        let directory = TemporaryDirectory()
        let root = directory.appending("wal")
        var ledger = CrashLedger()
        var generator = SystemRandomNumberGenerator()
        // A machine that is busy may want more for the writers to come to something.
        let deadline = endOfPatience()
        var round = 0
        while round < 25 || (Date() < deadline && (ledger.recordCount <= 1000 || ledger.cursors.isEmpty)) {
            try ledger.take(
                try killedWriter(
                    root: root, firstNumber: round * 1_000_000,
                    milliseconds: Int.random(in: 1...150, using: &generator)))
            let verdict = try ledger.check(root)
            #expect(verdict.problems.isEmpty, "round \(round): \(verdict.problems.prefix(5))")
            round += 1
        }
        #expect(ledger.recordCount > 1000, "the writers hardly wrote")
        #expect(!ledger.cursors.isEmpty, "nothing was acknowledged by the subscriber")
    }

    /// Starts the writer, kills it so many milliseconds after it has opened the log, returns what it printed.
    private func killedWriter(root: String, firstNumber: Int, milliseconds: Int) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: builtProduct("CrashWriter"))
        process.arguments = ["write", root, "\(firstNumber)", "--path", writePathUnderTest.rawValue]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var text = Data()
        while !text.starts(with: Data("o\n".utf8)) {
            let piece = pipe.fileHandleForReading.availableData
            try #require(!piece.isEmpty, "the writer ended by itself")
            text += piece
        }
        let killer = Thread {
            usleep(UInt32(milliseconds) * 1000)
            kill(process.processIdentifier, SIGKILL)
        }
        killer.start()
        while case let piece = pipe.fileHandleForReading.availableData, !piece.isEmpty { text += piece }
        process.waitUntilExit()
        #expect(process.terminationStatus == SIGKILL)
        return String(decoding: text, as: UTF8.self)
    }
}
