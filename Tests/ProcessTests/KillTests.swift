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
        var acknowledged: [TenantName: [UInt64: Int]] = [:]
        var cursors: [TenantName: UInt64] = [:]
        var generator = SystemRandomNumberGenerator()
        for round in 0..<25 {
            let lines = try killedWriter(
                root: root, firstNumber: round * 1_000_000, milliseconds: Int.random(in: 1...150, using: &generator))
            for line in lines {
                let words = line.split(separator: " ")
                if words[0] == "a" {
                    let tenant = try TenantName(words[1])
                    let sequence = try #require(UInt64(words[2]))
                    #expect(acknowledged[tenant]?[sequence] == nil, "a sequence number was given twice")
                    acknowledged[tenant, default: [:]][sequence] = Int(words[3])
                } else if words[0] == "c" {
                    let tenant = try TenantName(words[1])
                    cursors[tenant] = max(cursors[tenant] ?? 0, try #require(UInt64(words[2])))
                }
            }
            try check(root: root, acknowledged: acknowledged, cursors: cursors, round: round)
        }
        #expect(acknowledged.values.reduce(0) { $0 + $1.count } > 1000, "the writers hardly wrote")
        #expect(!cursors.isEmpty, "nothing was acknowledged by the subscriber")
    }

    /// Starts the writer, kills it so many milliseconds after it has opened the log, returns its whole lines.
    private func killedWriter(root: String, firstNumber: Int, milliseconds: Int) throws -> [Substring] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: builtProduct("CrashWriter"))
        process.arguments = [root, "\(firstNumber)"]
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
        // A line that the kill cut off was not acknowledged.
        return String(decoding: text, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            .filter { $0 != "o" }
    }

    private func check(
        root: String, acknowledged: [TenantName: [UInt64: Int]], cursors: [TenantName: UInt64], round: Int
    ) throws {
        let reader = try WriteAheadLogReader(at: root, opensBodies: true)
        #expect(reader.report.findings.isEmpty, "round \(round): a crash is no damage: \(reader.report.findings)")
        let found = try contents(of: root)
        for tenant in reader.tenants {
            let name = tenant.name
            let cursor = tenant.acknowledgedThrough["crash"] ?? 0
            #expect(cursor >= cursors[name] ?? 0, "round \(round): \(name)'s cursor went back")
            #expect(cursor < tenant.nextSequence)
            let held = found[name] ?? [:]
            for (sequence, number) in acknowledged[name] ?? [:] where sequence > cursor {
                let record = numberedRecord(number, length: 100 + number % 3000)
                #expect(held[sequence] == record.payload, "round \(round): \(name) \(sequence) is lost or altered")
            }
            let sequences = held.keys.sorted()
            if let first = sequences.first, let last = sequences.last {
                #expect(sequences.count == Int(last - first) + 1, "round \(round): \(name) has a hole")
                #expect(first <= cursor + 1, "round \(round): \(name) lacks its oldest records")
                #expect(last == tenant.nextSequence - 1)
            }
        }
        for name in acknowledged.keys { #expect(reader.tenants.contains { $0.name == name }) }
    }
}
