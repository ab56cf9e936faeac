import Foundation
import OTLPProtocol
import SwiftProtobuf
import Testing
import WALFormat

@Suite struct InputFormatTests {
    struct Sample: Sendable {
        var name: String
        var format: OTLPInputFormat
        var kind: RecordKind
        var items: Int
        var resources: Int
    }

    static let samples = [
        Sample(name: "agent-spans.json", format: .json, kind: .span, items: 41, resources: 4),
        Sample(name: "agent-spans.pb", format: .protobuf, kind: .span, items: 41, resources: 4),
        Sample(name: "agent-spans.delimited", format: .delimited, kind: .span, items: 1000, resources: 101),
        Sample(name: "agent-logs.json", format: .json, kind: .log, items: 24, resources: 4),
        Sample(name: "agent-logs.pb", format: .protobuf, kind: .log, items: 24, resources: 4),
        Sample(name: "agent-metrics.json", format: .json, kind: .metric, items: 15, resources: 3),
        Sample(name: "agent-metrics.pb", format: .protobuf, kind: .metric, items: 15, resources: 3),
        Sample(name: "lines.ndjson", format: .ndjson, kind: .opaque, items: 20, resources: 20),
    ]

    @Test(arguments: samples, [1, 97, 1 << 20])
    func namedAndDetectedFormatGiveTheSameRecords(sample: Sample, piece: Int) throws {
        let bytes = try Samples.bytes(sample.name)
        let named = try Samples.parse(bytes, sample.format, piece: piece)
        #expect(named.count == sample.items)
        #expect(named.allSatisfy { $0.kind == sample.kind })
        #expect(try Samples.parse(bytes, piece: piece) == named)
        #expect(try Samples.parse(bytes, granularity: .resource, piece: piece).count == sample.resources)
    }

    @Test func jsonAndProtobufGiveTheSamePayloads() throws {
        for name in ["agent-spans", "agent-logs", "agent-metrics"] {
            let json = try Samples.parse(Samples.bytes("\(name).json"))
            #expect(try Samples.parse(Samples.bytes("\(name).pb")) == json)
        }
    }

    @Test func delimitedSampleHoldsEverySpanOnce() throws {
        let records = try Samples.parse(Samples.bytes("agent-spans.delimited"))
        #expect(Set(records.map(\.identifier)).count == 1000)
        #expect(Set(records.map(\.tenant)).count == 40)
        #expect(try Samples.spans(records).count == 1000)
    }

    enum Prefix: CaseIterable {
        case littleEndian
        case bigEndian
        case varint

        func bytes(_ length: Int) -> [UInt8] {
            switch self {
            case .littleEndian: (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
            case .bigEndian: (0..<4).reversed().map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
            case .varint: Samples.varint(length)
            }
        }
    }

    /// The lengths are ones that look alike in several orders of bytes, or like the start of JSON.
    @Test(arguments: Prefix.allCases, [0x7B, 0x80, 0x0A7B, 256, 512, 65_536, 300, 5000])
    func everyLengthPrefixIsRecognised(prefix: Prefix, length: Int) throws {
        let first = try request(length: length)
        let second = try request(length: 200)
        let stream = [first, second, first].flatMap { prefix.bytes($0.count) + $0 }
        for format in [OTLPInputFormat.automatic, .delimited] {
            for piece in [1, 4096] {
                let records = try Samples.parse(stream, format, piece: piece)
                #expect(records.map(\.payload) == [first, second, first])
            }
        }
    }

    @Test func emptyRequestsInAStreamHoldNothing() throws {
        let request = try request(length: 100)
        let empty: [UInt8] = [0, 0, 0, 0]
        let stream = empty + Prefix.bigEndian.bytes(100) + request + empty + Prefix.bigEndian.bytes(100) + request
        #expect(try Samples.parse(stream).count == 2)
        #expect(try Samples.parse(empty + empty).isEmpty)
    }

    /// Bodies whose first bytes could be a line feed and a brace, or a length.
    @Test(arguments: [0x7B, 125, 300, 20_000, 70_000])
    func bareProtobufIsRecognised(length: Int) throws {
        let body = try request(length: length)
        #expect(try Samples.parse(body, piece: 1).map(\.payload) == [body])
    }

    @Test func severalDocumentsOnOneLineOrMany() throws {
        let pretty = Samples.oneSpan.replacingOccurrences(of: ",", with: ",\n  ")
        for text in [
            "\(Samples.oneSpan)\n\(Samples.oneSpan)\n", Samples.oneSpan + Samples.oneSpan,
            "\u{FEFF}\n \(pretty)\r\n\r\n\(pretty)",
        ] {
            #expect(try Samples.parse(text).map(\.identifier) == [Samples.spanID, Samples.spanID])
            #expect(try Samples.parse(text, .json).count == 2)
        }
    }

    @Test func recordsComeOutAsSoonAsTheyAreComplete() throws {
        var parser = OTLPInputParser(
            format: .automatic, signal: nil, tenantAttribute: "tenant.id", granularity: .item)
        #expect(try parser.append(Samples.oneSpan.utf8.dropLast()).isEmpty)
        #expect(try parser.append("}".utf8).count == 1)
        #expect(try parser.append("\n\(Samples.oneSpan)".utf8).count == 1)
        #expect(try parser.finish().isEmpty)

        parser = OTLPInputParser(format: .automatic, signal: nil, tenantAttribute: "tenant.id", granularity: .item)
        let message = try request(length: 150)
        #expect(try parser.append(Prefix.littleEndian.bytes(150) + message).count == 1)
        #expect(try parser.append(Prefix.littleEndian.bytes(150) + message.dropLast()).isEmpty)
        #expect(try parser.append(message.suffix(1)).count == 1)
    }

    @Test(arguments: OTLPInputFormat.allCases)
    func noInputGivesNoRecords(format: OTLPInputFormat) throws {
        #expect(try Samples.parse("", format).isEmpty)
    }

    @Test(arguments: [OTLPInputFormat.automatic, .json, .ndjson])
    func spaceGivesNoRecords(format: OTLPInputFormat) throws {
        #expect(try Samples.parse(" \n\r\n\t", format).isEmpty)
    }

    @Test func snakeCaseKeysAreAccepted() throws {
        let text = """
            {"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"\(Samples.traceID)",\
            "span_id":"\(Samples.spanID)","start_time_unix_nano":7}]}]}]}
            """
        let records = try Samples.parse(text)
        #expect(records.map(\.identifier) == [Samples.spanID])
        #expect(records.map(\.timestamp) == [7])
    }

    @Test func mixedSignalsInOneStreamOfDocuments() throws {
        let log = #"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5"}]}]}]}"#
        let metric = #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m"}]}]}]}"#
        let records = try Samples.parse("\(log)\n\(Samples.oneSpan)\n\(metric)\n{}\n")
        #expect(records.map(\.kind) == [.log, .span, .metric])
    }

    /// A request of just this length, with one span of a name that fills it.
    private func request(length: Int) throws -> [UInt8] {
        // Lengths at which an inner length grows by a byte are met with a second field.
        for state in ["", "s"] {
            for nameLength in max(0, length - 80)..<length {
                let bytes = try request(nameLength: nameLength, state: state)
                if bytes.count == length { return bytes }
            }
        }
        throw NoSuchRequest()
    }

    private struct NoSuchRequest: Error {}

    private func request(nameLength: Int, state: String) throws -> [UInt8] {
        var span = Opentelemetry_Proto_Trace_V1_Span()
        span.traceID = Data(repeating: 7, count: 16)
        span.spanID = Data(repeating: 9, count: 8)
        span.startTimeUnixNano = 1_750_000_000_000_000_000
        span.name = String(repeating: "n", count: nameLength)
        span.traceState = state
        var request = Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest()
        request.resourceSpans = [.with { $0.scopeSpans = [.with { $0.spans = [span] }] }]
        return try request.serializedBytes()
    }
}
