import ArgumentParser
import Foundation
import OTLPProtocol
import SystemPackage
import TelemetryWAL
import WALFormat

extension OTLPInputFormat: ExpressibleByArgument {}
extension OTLPSignal: ExpressibleByArgument {}
extension RecordGranularity: ExpressibleByArgument {}

/// `walctl append`: telemetry from a file or standard input into the log.
struct AppendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "append", abstract: "Append telemetry from a file or standard input.",
        discussion: """
            Creates the log where there is none. Each record is durable before the next is read, or each batch with
            --batch. A record that is refused is reported and passed over; the command then ends with 1.

            EXAMPLES
              walctl append wal spans.json
              curl -s http://example/spans | walctl append wal - --format otlp-proto
              walctl append wal app.ndjson --format ndjson --tenant acme --batch 500
              walctl append wal spans.delimited --receipts
            """)

    @OptionGroup var root: RootArgument
    @Argument(help: "The file to read, - for standard input.")
    var file = "-"
    @Option(help: "How the input is written: auto, otlp-json, otlp-proto, otlp-delimited, ndjson.")
    var format: OTLPInputFormat = .automatic
    @Option(help: "What a protobuf input carries, where it does not tell: traces, logs, metrics.")
    var signal: OTLPSignal?
    @Option(help: "The tenant of all records.")
    var tenant: String?
    @Option(help: "The resource attribute, or NDJSON field, that names a record's tenant.")
    var tenantAttribute = "tenant.id"
    @Option(help: "One record per item (span, log record, metric), or per resource as it came.")
    var split: RecordGranularity = .item
    @Option(help: "Records of one tenant that become durable together, at most.")
    var batch = 1
    @Flag(help: "Print a JSON line for each durable record or batch: tenant, sequence numbers, ids, microseconds.")
    var receipts = false
    @OptionGroup var writer: WriterOptions

    func validate() throws {
        guard (1...100_000).contains(batch) else { throw ValidationError("--batch takes 1 to 100000") }
    }

    func run() async throws {
        let everyone = try tenant.map { try tenantName($0, option: "--tenant") }
        let input = try InputFile(path: file)
        let log = try writer.open(root.root)
        var appender = RecordAppender(
            log: log, tenant: everyone, tenantAttribute: tenantAttribute, batch: batch, receipts: receipts)
        var failure: CommandFailure?
        do throws(CommandFailure) { try appender.read(input, parser: parser) } catch { failure = error }
        do throws(WALError) { try log.closeBlocking() } catch {
            if failure == nil { failure = CommandFailure(error) }
        }
        appender.printSummary()
        if let failure { throw failure }
        if appender.refused > 0 { throw ExitStatus.findings }
    }

    private var parser: OTLPInputParser {
        OTLPInputParser(format: format, signal: signal, tenantAttribute: tenantAttribute, granularity: split)
    }
}

/// A file or standard input, read piece by piece.
struct InputFile {
    let name: String
    private let descriptor: FileDescriptor

    init(path: String) throws(CommandFailure) {
        name = path == "-" ? "standard input" : path
        if path == "-" {
            descriptor = .standardInput
            return
        }
        do { descriptor = try FileDescriptor.open(FilePath(path), .readOnly) } catch {
            throw CommandFailure("\(path): open: \(error)", .io)
        }
    }

    /// The next piece, empty at the end.
    func read(_ buffer: inout [UInt8]) throws(CommandFailure) -> Int {
        let descriptor = self.descriptor
        do { return try unsafe buffer.withUnsafeMutableBytes { unsafe try descriptor.read(into: $0) } } catch {
            throw CommandFailure("\(name): read: \(error)", .io)
        }
    }
}
