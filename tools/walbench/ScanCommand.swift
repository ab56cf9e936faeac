import ArgumentParser
import Foundation
import TelemetryWAL

/// `walbench scan`: reads a log back, as replay does.
struct ScanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scan", abstract: "Read all records of a log back, in order.")

    @Option(help: "The log's directory.") var directory: String
    @Flag(help: "Leave out the time that opening takes.") var recordsOnly = false
    @OptionGroup var encryption: EncryptionOption

    struct Answer: Encodable {
        var driver = "telemetry-wal"
        var operation = "scan"
        var seconds: Double
        var openSeconds: Double
        var records, payloadBytes, diskBytes: UInt64
    }

    func run() throws {
        let start = now()
        let reader = try WriteAheadLogReader(at: directory, keyProvider: encryption.keyProvider)
        let opened = now()
        var batches = reader.records()
        var records: UInt64 = 0
        var bytes: UInt64 = 0
        while let batch = try batches.next() {
            records += UInt64(batch.count)
            bytes += UInt64(batch.byteCount - batch.count * 16)
        }
        let end = now()
        let disk = reader.journalFiles.reduce(UInt64(0)) { $0 + $1.endOffset }
        try printLine(
            Answer(
                seconds: Double(end - (recordsOnly ? opened : start)) / 1e9, openSeconds: Double(opened - start) / 1e9,
                records: records, payloadBytes: bytes, diskBytes: disk))
    }
}
