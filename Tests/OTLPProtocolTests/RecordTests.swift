import Foundation
import OTLPProtocol
import SwiftProtobuf
import Testing
import WALFormat

@Suite struct RecordTests {
    @Test func itemKeepsItsSurroundings() throws {
        let bytes = try Samples.bytes("agent-spans.pb")
        let whole = try Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest(serializedBytes: bytes)
        let records = try Samples.parse(bytes)
        var expected: [[UInt8]] = []
        for resource in whole.resourceSpans {
            for scope in resource.scopeSpans {
                for span in scope.spans {
                    var single = Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest()
                    var owner = resource
                    owner.scopeSpans = [scope]
                    owner.scopeSpans[0].spans = [span]
                    single.resourceSpans = [owner]
                    expected.append(try single.serializedBytes())
                }
            }
        }
        #expect(records.map(\.payload) == expected)
        #expect(whole.resourceSpans.allSatisfy { !$0.schemaURL.isEmpty })
    }

    @Test func payloadsBehindEachOtherAreOneRequest() throws {
        let bytes = try Samples.bytes("agent-spans.pb")
        let spans = try Samples.spans(Samples.parse(bytes))
        #expect(try Samples.parse(bytes, granularity: .resource).flatMap(\.payload) == bytes)
        let whole = try Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest(serializedBytes: bytes)
        #expect(spans == whole.resourceSpans.flatMap { $0.scopeSpans.flatMap(\.spans) })
    }

    @Test func spanRecordNamesTimeAndIdentifier() throws {
        let record = try #require(Samples.parse(Samples.oneSpan).first)
        #expect(record.identifier == Samples.spanID)
        #expect(record.timestamp == 1_750_000_000_000_000_001)
        #expect(record.tenant == "acme")
        let resource = try #require(
            Samples.parse(Array(Samples.oneSpan.utf8), granularity: .resource).first)
        #expect(resource.identifier == Samples.spanID)
        let several = try Samples.parse(Samples.bytes("agent-spans.json"), granularity: .resource)
        #expect(several.allSatisfy { $0.identifier == nil && $0.timestamp > 0 })
    }

    @Test(arguments: [
        (#"{"stringValue":"acme"}"#, "acme"), (#"{"intValue":"42"}"#, "42"), (#"{"intValue":-7}"#, "-7"),
        (#"{"boolValue":true}"#, "true"), (#"{"stringValue":""}"#, nil), (#"{"doubleValue":1.5}"#, nil),
        (#"{}"#, nil), (#"{"arrayValue":{"values":[{"stringValue":"acme"}]}}"#, nil),
    ])
    func tenantIsTextOrNumberOrFlag(value: String, tenant: String?) throws {
        let text = Samples.json(trace: Samples.traceID, span: Samples.spanID, tenant: value)
        #expect(try Samples.parse(text).map(\.tenant) == [tenant])
    }

    @Test func tenantOfTheItemCountsIfTheResourceHasNone() throws {
        let records = try Samples.parse(Samples.bytes("agent-logs.json"))
        #expect(records.count { $0.tenant == "from-the-record" } == 6)
        #expect(records.count { $0.tenant?.hasPrefix("tenant-") == true } == 18)
        let resources = try Samples.parse(Samples.bytes("agent-logs.json"), granularity: .resource)
        #expect(resources.count { $0.tenant == nil } == 1)
    }

    @Test func logTimeFallsBackToObservedTime() throws {
        let text = """
            {"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","observedTimeUnixNano":"6"},\
            {"observedTimeUnixNano":"7"},{"severityNumber":9}]}]}]}
            """
        let records = try Samples.parse(text)
        #expect(records.map(\.timestamp) == [5, 7, 0])
        #expect(records.allSatisfy { $0.identifier == nil })
    }

    @Test(arguments: ["gauge", "sum", "histogram", "exponentialHistogram", "summary"])
    func metricTimeIsThatOfTheFirstPoint(kind: String) throws {
        let points = #"{"dataPoints":[{"timeUnixNano":"11"},{"timeUnixNano":"12"}]}"#
        let text = #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","\#(kind)":\#(points)}]}]}]}"#
        #expect(try Samples.parse(text).map(\.timestamp) == [11])
    }

    /// Field 500 at every level, as a future version of OTLP may add one.
    @Test(arguments: RecordGranularity.allCases)
    func unknownFieldsSurvive(granularity: RecordGranularity) throws {
        let unknown: [UInt8] = [0xA2, 0x1F, 3, 1, 2, 3]
        let span =
            Samples.field(0x0A, Array(repeating: 1, count: 16))
            + Samples.field(0x12, Array(repeating: 2, count: 8)) + unknown
        let scope =
            Samples.field(0x0A, Samples.field(0x0A, Array("scope".utf8)) + unknown)
            + Samples.field(0x12, span) + unknown
        let request = Samples.field(0x0A, Samples.field(0x0A, unknown) + Samples.field(0x12, scope) + unknown) + unknown
        let records = try Samples.parse(request, .protobuf, granularity: granularity)
        #expect(records.map(\.payload) == [request])
        #expect(records.map(\.identifier) == ["0202020202020202"])
    }

    @Test func fieldsInUnusualOrderKeepTheirMeaning() throws {
        let attribute =
            Samples.field(0x0A, Array("tenant.id".utf8))
            + Samples.field(0x12, Samples.field(0x0A, Array("late".utf8)))
        let span =
            Samples.field(0x12, Array(repeating: 2, count: 8))
            + Samples.field(0x0A, Array(repeating: 1, count: 16))
        let scope = Samples.field(0x12, span) + Samples.field(0x1A, Array("url".utf8))
        let request = Samples.field(
            0x0A, Samples.field(0x12, scope) + Samples.field(0x0A, Samples.field(0x0A, attribute)))
        let record = try #require(Samples.parse(request).first)
        #expect(record.tenant == "late")
        #expect(try Samples.spans([record]).count == 1)
        #expect(record.payload.count == request.count)
    }

    /// Such as scopes under the field number they had long ago.
    @Test func resourceOfUnknownContentIsKeptWhole() throws {
        let request = Samples.field(0x0A, Samples.field(0x0A, []) + [0xC2, 0x3E, 3, 1, 2, 3])
        #expect(try Samples.parse(request, .protobuf, signal: .traces).map(\.payload) == [request])
        let empty = Samples.field(0x0A, Samples.field(0x0A, []))
        #expect(try Samples.parse(empty, .protobuf, signal: .traces).isEmpty)
    }
}
