import ArgumentParser
import Foundation
import OTLPProtocol
import TelemetryWAL
import WALFormat

/// `walctl cat`: records as OTLP/JSON lines.
struct CatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cat", abstract: "Print records as OTLP/JSON, one a line.",
        discussion: """
            Changes nothing, and works beside a living writer: it then shows what is durable. Opaque records that are
            JSON objects are printed as they are, others as {"opaque":"<base64>"}. Tenants whose records are encrypted, and
            whose key is not given, are left out from there on, and told of.

            EXAMPLES
              walctl cat wal --tenant acme
              walctl cat wal --tenant acme --from 100 --limit 10
              walctl cat wal --since 2026-11-28T09:00:00Z --until 2026-11-28T09:15:00Z
              walctl cat wal --since 15m
              walctl cat wal | jq .resourceSpans[0].scopeSpans[0].spans[0].name
            """)

    @OptionGroup var root: RootArgument
    @Option(help: "Only this tenant's records; all tenants' unless told.")
    var tenant: String?
    @Option(help: "Begin at this sequence number.")
    var from: UInt64 = 1
    @Option(
        help:
            "Only records whose own time is not before this one: 2026-11-28T09:30:00Z, 2026-11-28, or 15m, 2h, 7d ago.")
    var since: TimeArgument?
    @Option(help: "Only records whose own time is before this one.")
    var until: TimeArgument?
    @Option(help: "Stop after so many records.")
    var limit: Int?
    @OptionGroup var keys: KeyOptions

    /// The records' times that are asked for; nil: all.
    private var times: ClosedRange<UInt64>? {
        guard since != nil || until != nil else { return nil }
        return (since?.nanoseconds ?? 0)...((until?.nanoseconds ?? .max) - 1)
    }

    func validate() throws {
        guard until.map({ $0.nanoseconds > since?.nanoseconds ?? 0 }) ?? true else {
            throw ValidationError("--until is not behind --since: no time is between them")
        }
    }

    func run() throws {
        let name = try tenant.map { try tenantName($0, option: "--tenant") }
        let keyProvider = try keys.provider()
        let bar = ProgressBar("reading")
        let reader = try failing { () throws(WALError) in
            try WriteAheadLogReader(at: root.root, keyProvider: keyProvider) { bar.update($0, of: $1) }
        }
        bar.finish()
        if let name, !reader.tenants.contains(where: { $0.name == name }) {
            throw CommandFailure("\(root.root): tenant \(readable(name: name)) is unknown; see walctl tenants", .usage)
        }
        var records = reader.records(of: name, from: from, during: times)
        var left = limit ?? Int.max
        var findings = reader.hasLoss ? 1 : 0
        if reader.hasLoss { Terminal.complain("the log is damaged; run: walctl verify \(root.root)") }
        while left > 0 {
            let batch: RecordBatch?
            do throws(WALError) { batch = try records.next() } catch {
                switch error {
                case .damaged, .keyUnavailable, .keyForgotten, .journalUnavailable: break
                default: throw CommandFailure(error)
                }
                Terminal.complain("\(error)")
                findings += 1
                continue
            }
            guard let batch else { break }
            var text: [UInt8] = []
            for record in batch.records.prefix(left) {
                do throws(OTLPInputError) {
                    text += try OTLPJSON.line(kind: record.kind, payload: record.payload).utf8
                    text.append(UInt8(ascii: "\n"))
                } catch {
                    Terminal.complain(
                        "tenant \(readable(name: batch.tenant)), record \(record.sequence): not OTLP: \(error)")
                    findings += 1
                }
            }
            left -= min(left, batch.count)
            FileHandle.standardOutput.write(Data(text))
        }
        if findings > 0 { throw ExitStatus.findings }
    }
}
