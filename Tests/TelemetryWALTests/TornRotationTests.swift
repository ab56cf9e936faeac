import Foundation
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

@Suite struct TornRotationTests {
    let directory = TemporaryDirectory()

    /// Power goes when a new file's header is on disk and its checkpoint is not, and every record was delivered: who
    /// subscribes, and how far, must come from the file before.
    @Test func headerWithoutCheckpointKeepsSubscribersAndNumbers() async throws {
        let options = smallOptions(fileSize: 256 << 10)
        let log = try await WriteAheadLog.open(at: directory.path, options: options)
        try log.register(subscriber: "collector")
        var newest = try WriteAheadLogReader(at: directory.path).journalFiles.last
        var number = 0
        while newest?.header.fileSequence ?? 0 < 4 {
            number += 1
            let receipt = try await log.append(numberedRecord(number, length: 20_000), tenant: "acme")
            log.acknowledge(through: receipt.sequence, of: "acme", subscriber: "collector")
            try await log.flushAcknowledgements()
            newest = try WriteAheadLogReader(at: directory.path).journalFiles.last
        }
        try await log.close()

        let torn = try #require(try WriteAheadLogReader(at: directory.path).journalFiles.last)
        let path = directory.appending("journal/" + torn.name)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let commits = Int(torn.header.commitsStart)..<bytes.count
        bytes.replaceSubrange(commits, with: Data(count: commits.count))
        try bytes.write(to: URL(fileURLWithPath: path))

        let again = try await WriteAheadLog.open(at: directory.path, options: options)
        #expect(again.subscribers == ["collector"])
        let acme = try #require(again.tenants.first { $0.name == "acme" })
        // The file that was torn held the last records only.
        #expect(acme.nextSequence > UInt64(number) - 20)
        #expect(acme.acknowledgedThrough["collector"] ?? 0 > UInt64(number) - 20)
        try await again.close()
    }
}
