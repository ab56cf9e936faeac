import ArgumentParser
import FileExporter
import Foundation
import OTLPExporter
import TelemetryReplay

/// Where records are sent: the options of the commands that deliver.
struct DestinationOptions: ParsableArguments {
    @Option(help: "Where to: otlp-http://HOST:PORT, otlp-https://HOST:PORT, file:DIRECTORY, or - for standard output.")
    var to: String
    @Option(name: .customLong("header"), help: "A header for each request, as NAME=VALUE; may be repeated.")
    var headers: [String] = []
    @Option(help: "Seconds that a request may take.")
    var requestTimeout = 10
    @Flag(help: "Send without gzip.")
    var uncompressed = false

    func validate() throws {
        guard (1...3600).contains(requestTimeout) else { throw ValidationError("--request-timeout takes 1 to 3600") }
    }

    var isStandardOutput: Bool { to == "-" }

    /// The exporter for it. Throws a usage failure where it names none.
    func exporter() throws(CommandFailure) -> any TelemetryExporter {
        if isStandardOutput { return StandardOutputExporter() }
        if to.hasPrefix("file:"), to.count > 5 { return FileExporter(directory: String(to.dropFirst(5))) }
        guard let endpoint = httpEndpoint else {
            throw CommandFailure(
                "--to \(to): give otlp-http://HOST:PORT, otlp-https://HOST:PORT, file:DIRECTORY or -", .usage)
        }
        var options = OTLPExporterOptions(endpoint: endpoint)
        options.compresses = !uncompressed
        options.timeoutSeconds = Int64(requestTimeout)
        for header in headers {
            guard let separator = header.firstIndex(of: "="), separator != header.startIndex else {
                throw CommandFailure("--header \(header): give NAME=VALUE", .usage)
            }
            options.headers.append((String(header[..<separator]), String(header[header.index(after: separator)...])))
        }
        return OTLPExporter(options: options)
    }

    private var httpEndpoint: String? {
        for scheme in ["http", "https"] where to.hasPrefix("otlp-\(scheme)://") {
            let endpoint = String(to.dropFirst("otlp-".count))
            guard let url = URL(string: endpoint), url.host() != nil, (1...65535).contains(url.port ?? 1) else {
                return nil
            }
            return endpoint
        }
        return nil
    }
}
