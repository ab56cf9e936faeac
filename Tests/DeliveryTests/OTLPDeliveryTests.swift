import Foundation
import OTLPExporter
import OTLPProtocol
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// From the log to a real OTLP receiver, decoded there by the official protobuf classes.
@Suite(.enabled(if: Receiver.python != nil, "WAL_TEST_PYTHON is not set; run tools/test"))
struct OTLPDeliveryTests {
    let directory = TemporaryDirectory()

    /// A log that holds a fixture's records.
    private func log(holding fixture: String) async throws -> WriteAheadLog {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 8 << 20))
        var parser = OTLPInputParser(format: .automatic, signal: nil, tenantAttribute: "tenant.id", granularity: .item)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: projectFolder + "/Tests/Fixtures/" + fixture))
        for record in try parser.append(bytes) + parser.finish() {
            try await log.append(
                TelemetryRecord(kind: record.kind, timestamp: record.timestamp, payload: record.payload),
                tenant: TenantName(record.tenant ?? "none"))
        }
        try await log.append(numberedRecord(0, kind: .opaque), tenant: "opaque")
        return log
    }

    private func replay(
        _ log: WriteAheadLog, to receiver: Receiver, _ change: (inout ReplayOptions) -> Void = { _ in }
    ) async throws -> ReplaySummary {
        var options = ReplayOptions()
        options.initialBackoff = .milliseconds(5)
        options.giveUpAfter = .seconds(600)
        change(&options)
        var exporterOptions = OTLPExporterOptions(endpoint: receiver.endpoint)
        // A receiver that counts a request and is held up before it answers must not be asked again.
        exporterOptions.timeoutSeconds = 600
        let exporter = OTLPExporter(options: exporterOptions)
        let summary = try await Replayer(log: log, subscriber: "collector", exporter: exporter, options: options)
            .drain()
        await exporter.shutdown()
        return summary
    }

    @Test func everySpanArrivesOnceAndByteForByte() async throws {
        let log = try await log(holding: "agent-spans.delimited")
        let receiver = try Receiver()
        let summary = try await replay(log, to: receiver) { $0.maximumBatchRecords = 7 }
        #expect(summary.isComplete && summary.deliveredRecords == 1001 && summary.deliveredTenants == 41)
        let counts = try receiver.counts()
        #expect(counts.unique == 1000 && counts.duplicates == 0 && counts.tenants == 41)
        #expect(counts.logs == 1, "the opaque record comes as a log record")
        // A second replay has nothing to deliver.
        #expect(try await replay(log, to: receiver).deliveredRecords == 0)
        try await log.close()

        // The same spans, sent to another receiver straight from the sample.
        let direct = try Receiver()
        let script = """
            import struct, sys, urllib.request
            data = open(sys.argv[1], "rb").read()
            while data:
                length, = struct.unpack("<I", data[:4])
                body, data = data[4:4 + length], data[4 + length:]
                urllib.request.urlopen(urllib.request.Request(
                    sys.argv[2] + "/v1/traces", body, {"Content-Type": "application/x-protobuf"}))
            """
        let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"
        #expect(try run(Receiver.python!, ["-c", script, sample, direct.endpoint]).status == 0)
        func bytes(_ receiver: Receiver) throws -> [String: String] {
            Dictionary(try receiver.spans().map { ($0.spanIdentifier, $0.tenant + $0.sha256) }) { $1 }
        }
        #expect(try bytes(receiver) == bytes(direct))
    }

    @Test(arguments: [("agent-logs.pb", "logs"), ("agent-metrics.pb", "metrics")])
    func otherSignalsGoToTheirPaths(fixture: String, signal: String) async throws {
        let log = try await log(holding: fixture)
        let receiver = try Receiver()
        let summary = try await replay(log, to: receiver)
        #expect(summary.isComplete)
        let counts = try receiver.counts()
        #expect(counts.unique == 0)
        #expect(signal == "logs" ? counts.logs == summary.deliveredRecords : counts.metrics > 0)
        try await log.close()
    }

    @Test func unavailableReceiverIsTriedAgain() async throws {
        let log = try await log(holding: "agent-spans.pb")
        let receiver = try Receiver("--fail-first", "6", "--fail-status", "503")
        let summary = try await replay(log, to: receiver)
        #expect(summary.isComplete && summary.retries >= 6)
        #expect(try receiver.counts().duplicates == 0)
        try await log.close()
    }

    @Test func retryAfterIsHonoured() async throws {
        let log = try await log(holding: "agent-spans.pb")
        let receiver = try Receiver("--fail-first", "1", "--fail-status", "429", "--retry-after", "1")
        let start = ContinuousClock.now
        #expect(try await replay(log, to: receiver).isComplete)
        #expect(ContinuousClock.now - start >= .seconds(1))
        try await log.close()
    }

    @Test func refusedTenantGoesToTheDeadLettersAlone() async throws {
        let log = try await log(holding: "agent-spans.delimited")
        let receiver = try Receiver("--refuse-tenant", "tenant-03")
        let summary = try await replay(log, to: receiver) { $0.maximumRefusalsInARow = 1000 }
        #expect(!summary.isComplete && summary.deadLetters > 0)
        #expect(summary.problems.contains { $0.contains("tenant-03") && $0.contains("400") })
        #expect(try receiver.counts().tenants == 40)
        let status = try #require(log.tenants.first { $0.name == "tenant-03" })
        #expect(status.acknowledgedThrough["collector"] == status.nextSequence - 1)
        #expect(summary.deadLetters == Int(status.nextSequence) - 1)
        // Its records come when the receiver has changed its mind.
        let other = try Receiver()
        let exporter = OTLPExporter(options: OTLPExporterOptions(endpoint: other.endpoint))
        let redriven = try await DeadLetterRedrive(log: log, exporter: exporter).run()
        await exporter.shutdown()
        #expect(redriven.isComplete && redriven.deliveredRecords == summary.deadLetters)
        #expect(try other.counts().unique == summary.deadLetters)
        try await log.close()
    }

    /// One that refuses everything of a tenant is not given all of it to bury.
    @Test func refusedTenantIsGivenUpAndKeepsItsRecords() async throws {
        let log = try await log(holding: "agent-spans.delimited")
        let receiver = try Receiver("--refuse-tenant", "tenant-03")
        let summary = try await replay(log, to: receiver) {
            $0.maximumRefusalsInARow = 3
            $0.giveUpAfter = .milliseconds(100)
        }
        #expect(summary.givenUpRecords > 0 && summary.deadLetters >= 3)
        let status = try #require(log.tenants.first { $0.name == "tenant-03" })
        let other = try Receiver()
        // What was not buried comes when it has changed its mind.
        let delivered = try await replay(log, to: other).deliveredRecords
        #expect(delivered > 0 && delivered + summary.deadLetters >= Int(status.nextSequence) - 1)
        try await log.close()
    }

    @Test func partialSuccessIsCountedAndNotRepeated() async throws {
        let log = try await log(holding: "agent-spans.pb")
        let receiver = try Receiver("--partial-reject", "1")
        let summary = try await replay(log, to: receiver)
        #expect(summary.isComplete && summary.rejectedItems > 0)
        #expect(try await replay(log, to: receiver).deliveredRecords == 0)
        try await log.close()
    }

    @Test(.timeLimit(.minutes(60))) func silentReceiverDoesNotHoldTheReplayerForEver() async throws {
        let script = """
            import socket, time
            server = socket.create_server(("127.0.0.1", 0))
            print(server.getsockname()[1], flush=True)
            while True:
                client, _ = server.accept()
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\n")
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Receiver.python!)
        process.arguments = ["-c", script]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let port = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        var options = OTLPExporterOptions(endpoint: "http://127.0.0.1:\(port)")
        options.timeoutSeconds = 1
        let exporter = OTLPExporter(options: options)
        let record = RecordBatch.Record.sample
        // It returns: for ever is what it was before. How soon is not asked, since other tests keep the machine busy.
        _ = await exporter.export(ExportBatch(tenant: "acme", kind: .opaque, records: [record]))
        await exporter.shutdown()
    }

    @Test func deadLettersAreListedAndRedrivenByCommand() throws {
        let root = directory.appending("wal")
        let walctl = builtProduct("walctl")
        let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"
        #expect(try run(walctl, ["append", root, sample]).status == 0)
        let receiver = try Receiver("--refuse-tenant", "tenant-03")
        func to(_ receiver: Receiver) -> String {
            receiver.endpoint.replacingOccurrences(of: "http://", with: "otlp-http://")
        }
        func lines(_ arguments: String...) throws -> (count: Int, status: Int32) {
            let outcome = try run(walctl, arguments)
            let lines = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]]
            return (lines?.count ?? -1, outcome.status)
        }
        // What would be sent: a line for each tenant, and no lock is needed for it.
        #expect(try lines("replay", root, "--to", to(receiver), "--dry-run", "--format", "json") == (40, 0))
        #expect(try lines("dead-letters", root, "--format", "json") == (0, 0))
        let replayed = try run(walctl, ["replay", root, "--to", to(receiver), "--give-up-after", "0.1"])
        #expect(replayed.status == 1, "\(replayed.output)")
        let letters = try lines("dead-letters", root, "--format", "json")
        #expect(letters.count >= 16 && letters.status == 1)
        #expect(try run(walctl, ["verify", root]).status == 0, "they are no damage")
        #expect(try run(walctl, ["dead-letters", root, "--tenant", "tenant-04"]).status == 0)
        // The rest of the tenant's, and its dead letters.
        let other = try Receiver()
        #expect(try run(walctl, ["replay", root, "--to", to(other)]).status == 0)
        #expect(try run(walctl, ["redrive", root, "--to", to(other), "--format", "json"]).status == 0)
        #expect(try lines("dead-letters", root, "--format", "json") == (0, 0))
        #expect(try other.counts().unique + receiver.counts().unique == 1000)
        // Again from a number on, of one tenant, past all cursors.
        let third = try Receiver()
        let again = ["replay", root, "--to", to(third), "--from-sequence", "3", "--tenant", "tenant-03"]
        #expect(try run(walctl, again).status == 0)
        #expect(try third.counts().tenants == 1)
    }

    @Test func followingReplayEndsInOrderWhenItIsAskedTo() throws {
        let root = directory.appending("wal")
        let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"
        #expect(try run(builtProduct("walctl"), ["append", root, sample]).status == 0)
        let receiver = try Receiver()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: builtProduct("walctl"))
        process.arguments = [
            "replay", root, "--to", receiver.endpoint.replacingOccurrences(of: "http://", with: "otlp-http://"),
            "--follow",
        ]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        try waitUntil { try receiver.counts().unique == 1000 }
        process.terminate()
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 0)
        let view = try WriteAheadLogReader(at: root)
        #expect(view.tenants.allSatisfy { $0.acknowledgedThrough["default"] == $0.nextSequence - 1 })
    }

    /// The replayer dies with requests under way: what was delivered and not yet acknowledged comes twice, and no more.
    @Test func killedReplayGoesOnWithFewDuplicates() throws {
        let root = directory.appending("wal")
        let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"
        #expect(try run(builtProduct("walctl"), ["append", root, sample]).status == 0)
        let receiver = try Receiver("--delay-ms", "20")
        let to = receiver.endpoint.replacingOccurrences(of: "http://", with: "otlp-http://")
        let arguments = ["replay", root, "--to", to, "--batch-records", "10"]
        var mostRepeated = 0
        for _ in 0..<3 {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: builtProduct("walctl"))
            process.arguments = arguments
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            usleep(250_000)
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            // The four requests under way, and those whose acknowledgement was not durable yet.
            let durable = try WriteAheadLogReader(at: root).tenants
                .reduce(0) { $0 + Int($1.acknowledgedThrough.values.max() ?? 0) }
            mostRepeated += 4 * 10 + max(0, try receiver.counts().unique - durable)
        }
        #expect(try run(builtProduct("walctl"), arguments).status == 0)
        let counts = try receiver.counts()
        #expect(counts.unique == 1000)
        #expect(counts.duplicates <= mostRepeated, "\(counts.duplicates) duplicates, at most \(mostRepeated) wanted")
    }
}

extension RecordBatch.Record {
    /// Some record, for exporters that are tried without a log.
    static var sample: RecordBatch.Record {
        let directory = TemporaryDirectory()
        let log = try! WriteAheadLog.openBlocking(at: directory.path, options: smallOptions())
        _ = try! log.appendBlocking(numberedRecord(1), tenant: "acme")
        try! log.closeBlocking()
        var records = try! WriteAheadLogReader(at: directory.path).records()
        return try! records.next()!.records.first { _ in true }!
    }
}
