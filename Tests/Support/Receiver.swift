import Foundation
import FoundationNetworking

/// The project's OTLP receiver, built on the official `opentelemetry-proto`, as a process of its own on a free port.
public final class Receiver {
    /// Where Python with `opentelemetry-proto` is; set by tools/test.
    public static let python = ProcessInfo.processInfo.environment["WAL_TEST_PYTHON"]

    public struct Counts: Decodable {
        public var requests: Int
        public var refused: Int
        public var unique: Int
        public var total: Int
        public var duplicates: Int
        public var tenants: Int
        public var logs: Int
        public var metrics: Int
    }

    /// A span as it arrived.
    public struct Span: Decodable {
        public var spanIdentifier: String
        public var tenant: String
        public var sha256: String

        private enum CodingKeys: String, CodingKey {
            case spanIdentifier = "span_id"
            case tenant, sha256
        }
    }

    public let endpoint: String
    private let process = Process()
    private let folder = TemporaryDirectory()

    public init(_ options: String...) throws {
        process.executableURL = URL(fileURLWithPath: Self.python!)
        process.arguments =
            [projectFolder + "/tools/otlp-receiver.py", "--port", "0", "--record", folder.appending("record")] + options
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        var line = Data()
        while !line.contains(UInt8(ascii: "\n")) {
            let piece = pipe.fileHandleForReading.availableData
            guard !piece.isEmpty else { fatalError("the receiver ended by itself") }
            line += piece
        }
        let address = String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace).last!
        endpoint = "http://\(address)"
    }

    deinit {
        // Not SIGTERM: a child that was started from a thread with blocked signals has it blocked as well.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    public func counts() throws -> Counts {
        let data = try Data(contentsOf: URL(string: endpoint + "/")!)
        return try JSONDecoder().decode(Counts.self, from: data)
    }

    public func spans() throws -> [Span] {
        try String(contentsOfFile: folder.appending("record"), encoding: .utf8).split(separator: "\n")
            .map { try JSONDecoder().decode(Span.self, from: Data($0.utf8)) }
    }
}
