import Foundation
import OTLPProtocol
import SwiftProtobuf
import WALFormat

/// Sample files, short names and small requests for the tests.
enum Samples {
    /// The bytes of a file in Tests/Fixtures.
    static func bytes(_ name: String, file: String = #filePath) throws -> [UInt8] {
        let tests = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
        return [UInt8](try Data(contentsOf: tests.appendingPathComponent("Fixtures/\(name)")))
    }

    /// Parses `bytes` in pieces of `piece` bytes.
    static func parse(
        _ bytes: [UInt8], _ format: OTLPInputFormat = .automatic, signal: OTLPSignal? = nil,
        granularity: RecordGranularity = .item, piece: Int = 4096,
        maximum: Int = OTLPInputParser.defaultMaximumMessageLength
    ) throws(OTLPInputError) -> [OTLPRecord] {
        var parser = OTLPInputParser(
            format: format, signal: signal, tenantAttribute: "tenant.id", granularity: granularity,
            maximumMessageLength: maximum)
        var records: [OTLPRecord] = []
        var start = 0
        while start < bytes.count {
            let end = min(start + piece, bytes.count)
            records += try parser.append(bytes[start..<end])
            start = end
        }
        return records + (try parser.finish())
    }

    static func parse(_ text: String, _ format: OTLPInputFormat = .automatic) throws(OTLPInputError) -> [OTLPRecord] {
        try parse(Array(text.utf8), format)
    }

    /// The error that parsing ends with; nil if there is none.
    static func failure(of parse: () throws(OTLPInputError) -> [OTLPRecord]) -> OTLPInputError? {
        do throws(OTLPInputError) {
            _ = try parse()
            return nil
        } catch {
            return error
        }
    }

    /// All spans of requests, decoded as one, which shows that payloads can be put behind each other.
    static func spans(_ records: [OTLPRecord]) throws -> [Opentelemetry_Proto_Trace_V1_Span] {
        let request = try Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest(
            serializedBytes: records.flatMap(\.payload))
        return request.resourceSpans.flatMap { $0.scopeSpans.flatMap(\.spans) }
    }

    /// A request with one span whose IDs are given as JSON writes them.
    static func json(trace: String, span: String, tenant: String = "{\"stringValue\":\"acme\"}") -> String {
        """
        {"resourceSpans":[{"resource":{"attributes":[{"key":"tenant.id","value":\(tenant)}]},\
        "scopeSpans":[{"spans":[{"traceId":"\(trace)","spanId":"\(span)","name":"step",\
        "startTimeUnixNano":"1750000000000000001"}]}]}]}
        """
    }

    static let traceID = "5b8efff798038103d269b633813fc60c"
    static let spanID = "eee19b7ec3c1b174"

    /// One span's request as JSON on one line, without a line end.
    static let oneSpan = json(trace: traceID, span: spanID)

    /// A message behind its length.
    static func field(_ tag: UInt8, _ value: [UInt8]) -> [UInt8] { [tag] + varint(value.count) + value }

    static func varint(_ value: Int) -> [UInt8] {
        value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + varint(value >> 7)
    }

    /// A request around items that need not be valid.
    static func request(items: [[UInt8]], resource: [UInt8] = [], tail: [UInt8] = []) -> [UInt8] {
        let scope = items.flatMap { field(0x12, $0) }
        return field(0x0A, field(0x0A, resource) + field(0x12, scope) + tail)
    }
}
