import Foundation
import OTLPProtocol
import SwiftProtobuf
import Testing
import WALFormat

@Suite struct OpaqueTests {
    @Test func linesAreKeptAsTheyAre() throws {
        let bytes = try Samples.bytes("lines.ndjson")
        let records = try Samples.parse(bytes)
        #expect(records.flatMap { $0.payload + [UInt8(ascii: "\n")] } == bytes)
        #expect(records.allSatisfy { $0.kind == .opaque && $0.timestamp == 0 && $0.identifier == nil })
        #expect(records.count { $0.tenant == nil } == 4)
        #expect(Set(records.compactMap(\.tenant)) == ["tenant-00", "tenant-01", "tenant-02"])
    }

    @Test func lineEndsAndBlankLinesAreDropped() throws {
        let records = try Samples.parse("\u{FEFF}a\r\n\n  \r\nb c\n\r\n{", .ndjson)
        #expect(records.map { String(decoding: $0.payload, as: UTF8.self) } == ["a", "b c", "{"])
    }

    @Test(arguments: [
        (#"{"tenant.id":"acme"}"#, "acme"),
        (#" { "x" : {"tenant.id":"inner"} , "tenant.id" : "outer" } "#, "outer"),
        (#"{"x":["tenant.id","a"],"y":"tenant.id","tenant.id":"z"}"#, "z"),
        (#"{"x":"\"},{\"tenant.id\":\"no\"","tenant.id":"yes"}"#, "yes"),
        (#"{"tenant\u002eid":"\u00e5\n"}"#, "å\n"),
        (#"{"tenant.id":7}"#, nil), (#"{"tenant.id":""}"#, nil), (#"{"tenant.id":null,"x":"acme"}"#, nil),
        (#"{"x":{"tenant.id":"inner"}}"#, nil), (#"["tenant.id","acme"]"#, nil), (#""tenant.id""#, nil),
        (#"{"tenant.id":"acme""#, nil), (#"{"tenant.id":"acme"} x"#, nil), (#"{"tenant.id":"ac"#, nil),
        (#"{"tenant.id":"a\"#, nil), (#"{"tenant.id""#, nil), ("tenant.id", nil),
    ])
    func tenantIsTheStringOfTheOutermostObject(line: String, tenant: String?) throws {
        #expect(try Samples.parse(line, .ndjson).map(\.tenant) == [tenant])
    }

    @Test func wrappedPayloadsAreLogRecords() throws {
        let request = try OTLPOpaqueLog.wrap(
            payloads: [Array("grüße".utf8), [0xFF, 0x00], []], tenantAttribute: "tenant.id", tenant: "acme",
            timestamp: 99)
        let records = try Samples.parse(request + request)
        #expect(records.map(\.tenant) == Array(repeating: "acme", count: 6))
        #expect(records.map(\.timestamp) == Array(repeating: 99, count: 6))
        let decoded = try Opentelemetry_Proto_Collector_Logs_V1_ExportLogsServiceRequest(serializedBytes: request)
        let bodies = decoded.resourceLogs[0].scopeLogs[0].logRecords.map(\.body.value)
        #expect(bodies == [.stringValue("grüße"), .bytesValue(Data([0xFF, 0])), .stringValue("")])
    }

    @Test func wrappedPayloadsWithoutTenantOrTime() throws {
        let request = try OTLPOpaqueLog.wrap(
            payloads: [Array("x".utf8)[...]], tenantAttribute: "tenant.id", tenant: nil, timestamp: 0)
        let records = try Samples.parse(request, .protobuf, signal: .logs)
        #expect(records.map(\.tenant) == [nil])
        #expect(records.map(\.timestamp) == [0])
    }
}
