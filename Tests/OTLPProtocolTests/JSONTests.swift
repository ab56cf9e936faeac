import Foundation
import OTLPProtocol
import SwiftProtobuf
import Testing
import WALFormat

@Suite struct JSONTests {
    @Test(arguments: ["agent-spans", "agent-logs", "agent-metrics"])
    func lineEqualsTheOfficialJSON(name: String) throws {
        let record = try Samples.parse(Samples.bytes("\(name).pb"), granularity: .resource)
        let lines = try record.map { try OTLPJSON.line(kind: $0.kind, payload: $0.payload) }
        #expect(lines.allSatisfy { !$0.contains("\n") })
        let official = try JSONSerialization.jsonObject(with: Data(Samples.bytes("\(name).json")))
        let object = try #require(official as? [String: [Any]])
        let (key, resources) = try #require(object.first)
        #expect(lines.count == resources.count)
        for (line, resource) in zip(lines, resources) {
            let ours = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? NSDictionary)
            #expect(ours == [key: [resource]] as NSDictionary)
        }
    }

    @Test(arguments: ["agent-spans.pb", "agent-logs.pb", "agent-metrics.pb"])
    func linesReadBackGiveTheSameRecords(name: String) throws {
        let records = try Samples.parse(Samples.bytes(name))
        let text = try records.map { try OTLPJSON.line(kind: $0.kind, payload: $0.payload) + "\n" }.joined()
        #expect(try Samples.parse(text) == records)
    }

    @Test func identifiersInEitherCaseAndInBase64() throws {
        let base64 = Data((0..<16).map { UInt8($0 * 17) }).base64EncodedString()
        for (trace, span, expected) in [
            (Samples.traceID, Samples.spanID, Samples.spanID),
            (Samples.traceID.uppercased(), Samples.spanID.uppercased(), Samples.spanID),
            (base64, "7uGbfsPBsXQ=", Samples.spanID),
        ] {
            let records = try Samples.parse(Samples.json(trace: trace, span: span))
            #expect(records.map(\.identifier) == [expected])
            let line = try OTLPJSON.line(kind: .span, payload: records[0].payload)
            #expect(line.contains("\"spanId\":\"\(expected)\""))
        }
    }

    @Test func identifiersEverywhereAreConverted() throws {
        let exemplars = """
            {"dataPoints":[{"exemplars":[{"traceId":"\(Samples.traceID)","spanId":"\(Samples.spanID)","asInt":"1"}]}]}
            """
        var texts = ["gauge", "sum", "histogram", "exponentialHistogram"].map { kind in
            "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"m\",\"\(kind)\":\(exemplars)}]}]}]}"
        }
        texts.append(
            """
            {"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"\(Samples.traceID)",\
            "spanId":"\(Samples.spanID)"}]}]}]}
            """)
        texts.append(
            """
            {"resourceSpans":[{"scopeSpans":[{"spans":[{"parentSpanId":"\(Samples.spanID)","links":[\
            {"traceId":"\(Samples.traceID)","spanId":"\(Samples.spanID)"}]}]}]}]}
            """)
        let bytes = Array<UInt8>([0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f])
        for text in texts {
            let record = try #require(Samples.parse(text).first)
            #expect(record.payload.indices.contains { record.payload[$0...].starts(with: bytes) })
            let line = try OTLPJSON.line(kind: record.kind, payload: record.payload)
            #expect(line.contains("\"traceId\":\"\(Samples.traceID)\""))
            #expect(line.contains("\"\(text.contains("parent") ? "parentSpanId" : "spanId")\":\"\(Samples.spanID)\""))
        }
    }

    /// Too short, too long, no hex, 16 bytes in base64 that might as well be 22 hex digits, and no base64 either.
    @Test(arguments: [
        "5b8efff798038103d269b633813fc6", "5b8efff798038103d269b633813fc60c00", "zz8efff798038103d269b633813fc60c",
        "5b8efff798038103d269b6", "!", "eee19b7ec3c1b174",
    ])
    func otherIdentifiersAreRefusedByName(trace: String) {
        let failure = Samples.failure { () throws(OTLPInputError) in
            try Samples.parse(Samples.json(trace: trace, span: Samples.spanID))
        }
        #expect(failure?.reason == .invalidIdentifier)
        let path = "resourceSpans[0].scopeSpans[0].spans[0].traceId"
        #expect(failure?.description.contains("\(path) is \"\(trace)\"") == true, "\(String(describing: failure))")
    }

    @Test func emptyAndMissingIdentifiersStayEmpty() throws {
        let records = try Samples.parse(Samples.json(trace: "", span: ""))
        #expect(records.map(\.identifier) == [nil])
        #expect(try Samples.spans(records).map(\.traceID.isEmpty) == [true])
    }

    @Test func enumerationsAreIntegersAndLongIntegersStrings() throws {
        let text = """
            {"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3,"startTimeUnixNano":"18446744073709551615",\
            "status":{"code":2},"attributes":[{"key":"n","value":{"intValue":"-9223372036854775808"}}]}]}]}]}
            """
        let record = try #require(Samples.parse(text).first)
        #expect(record.timestamp == .max)
        let line = try OTLPJSON.line(kind: .span, payload: record.payload)
        for part in [
            "\"kind\":3", "\"code\":2", "\"startTimeUnixNano\":\"18446744073709551615\"",
            "\"intValue\":\"-9223372036854775808\"",
        ] {
            #expect(line.contains(part))
        }
    }

    @Test func unknownKeysArePassedOver() throws {
        let text = Samples.oneSpan.replacingOccurrences(of: "\"name\"", with: "\"new\":{\"deep\":[1,{}]},\"name\"")
        #expect(try Samples.parse(text) == Samples.parse(Samples.oneSpan))
    }

    @Test(arguments: [
        (#"{"a":1}"#, #"{"a":1}"#), (#" {"a":"ü"}"#, #" {"a":"ü"}"#), ("plain", #"{"opaque":"cGxhaW4="}"#),
        ("[1]", #"{"opaque":"WzFd"}"#), ("{\"a\":\n1}", #"{"opaque":"eyJhIjoKMX0="}"#), ("{a", #"{"opaque":"e2E="}"#),
        ("", #"{"opaque":""}"#),
    ])
    func opaqueLines(payload: String, line: String) throws {
        #expect(try OTLPJSON.line(kind: .opaque, payload: Array(payload.utf8)) == line)
    }

    @Test func opaqueBytesThatAreNoTextAreWrittenInBase64() throws {
        let payload: [UInt8] = [UInt8(ascii: "{"), 0xFF, UInt8(ascii: "}")]
        #expect(try OTLPJSON.line(kind: .opaque, payload: payload[...]) == #"{"opaque":"e/99"}"#)
    }

    @Test func payloadsOfAnotherKindAreRefused() {
        #expect(throws: OTLPInputError.self) { try OTLPJSON.line(kind: .span, payload: [0x0A, 5, 1] as [UInt8]) }
    }

    /// Protobuf input is not judged by its IDs, so any length may come to be written.
    @Test func identifiersOfOddLengthStayBase64() throws {
        let request = Samples.request(items: [Samples.field(0x0A, [1, 2, 3]) + Samples.field(0x12, [1, 2])])
        let line = try OTLPJSON.line(kind: .span, payload: request)
        #expect(line.contains(#""traceId":"AQID""#))
        #expect(line.contains(#""spanId":"0102""#))
    }
}
