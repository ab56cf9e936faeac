import Foundation
import OTLPProtocol
import WALFormat

/// Bytes that may stand in the log, as an exporter meets them: the first byte is the kind, what follows the payload.
func checkExport(_ bytes: [UInt8]) throws(FuzzViolation) {
    let kinds = RecordKind.allCases
    let kind = kinds[Int(bytes.first ?? 0) % kinds.count]
    let payload = Array(bytes.dropFirst())
    if let line = try? OTLPJSON.line(kind: kind, payload: payload) {
        try checkLine(line)
        try checkJSONComesBack(line, kind)
    } else {
        try require(kind != .opaque, "an opaque payload can always be written")
    }
    let tenant = String(decoding: payload.prefix(8), as: UTF8.self)
    let records: [OTLPRecord]
    do throws(OTLPInputError) {
        let request = try OTLPOpaqueLog.wrap(
            payloads: [payload, payload], tenantAttribute: "tenant.id", tenant: tenant, timestamp: 7)
        var parser = OTLPInputParser(
            format: .protobuf, signal: .logs, tenantAttribute: "tenant.id", granularity: .item)
        records = try parser.append(request) + parser.finish()
    } catch { throw FuzzViolation(description: "violated: any payload can be wrapped: \(error)") }
    try require(records.count == 2, "as many log records as payloads")
    try require(
        records.allSatisfy { $0.tenant == (tenant.isEmpty ? nil : tenant) && $0.timestamp == 7 },
        "a wrapped payload keeps tenant and time")
}

/// A payload that was accepted can be written as one line of JSON.
func checkLine(_ kind: RecordKind, _ payload: [UInt8]) throws(FuzzViolation) {
    let line: String
    do throws(OTLPInputError) { line = try OTLPJSON.line(kind: kind, payload: payload) } catch {
        throw FuzzViolation(description: "violated: a record has a JSON form: \(error)")
    }
    try checkLine(line)
}

private func checkLine(_ line: String) throws(FuzzViolation) {
    try require(!line.utf8.contains { $0 == 0x0A || $0 == 0x0D }, "a line has no line break")
    let value = try? JSONSerialization.jsonObject(with: Data(line.utf8))
    try require(value is [String: Any], "a line is a JSON object: \(line.prefix(200))")
}

/// A request's JSON is read again and written as the same JSON, unless it has IDs that are none.
private func checkJSONComesBack(_ line: String, _ kind: RecordKind) throws(FuzzViolation) {
    guard let signal = OTLPSignal(kind: kind) else { return }
    var parser = OTLPInputParser(
        format: .json, signal: signal, tenantAttribute: "tenant.id", granularity: .resource)
    let records: [OTLPRecord]
    do throws(OTLPInputError) { records = try parser.append(line.utf8) + parser.finish() } catch {
        try require(
            error.reason == .invalidIdentifier, "JSON that was written is read again: \(error) in \(line.prefix(200))")
        return
    }
    // Payloads strung together are the request.
    let request = records.flatMap(\.payload)
    guard let again = try? OTLPJSON.line(kind: kind, payload: request) else {
        throw FuzzViolation(description: "violated: what was read from JSON can be written")
    }
    try require(again == line, "JSON comes back: \(line.prefix(200)) became \(again.prefix(200))")
}

/// What a receiver answers: the first byte gives signal and encoding, and whether the bytes are the header field.
func checkResponse(_ bytes: [UInt8]) throws(FuzzViolation) {
    let choice = bytes.first ?? 0
    let body = Array(bytes.dropFirst())
    if choice & 8 != 0 {
        let type = OTLPContentType(headerValue: String(decoding: body, as: UTF8.self))
        if let type { try require(body.count >= type.rawValue.utf8.count, "an encoding is named whole") }
        return
    }
    let signal = OTLPSignal.allCases[Int(choice & 3) % OTLPSignal.allCases.count]
    let answer = OTLPResponse.partialSuccess(
        signal: signal, body: body, contentType: choice & 4 == 0 ? .protobuf : .json)
    guard let answer else { return }
    try require(answer.rejected != 0 || !answer.message.isEmpty, "full success is nil")
    try require(answer.message.utf8.count <= 3 * body.count, "a message comes from the body")
}
