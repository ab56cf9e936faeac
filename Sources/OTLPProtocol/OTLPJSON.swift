import Foundation
import SwiftProtobuf
import WALFormat

/// OTLP/JSON on both ways: export requests with IDs in hex, enumerations as integers and 64-bit integers as strings.
package enum OTLPJSON {
    /// Writes one record's payload as one line, without a line break in or after it.
    ///
    /// A span, log or metric payload becomes its export request as OTLP/JSON. An opaque payload stays as it is if it is
    /// a JSON object in UTF-8 on one line; any other becomes `{"opaque":"…"}` with the bytes in base64. Fields that
    /// OTLP/JSON cannot express, that is unknown ones, are left out, and an ID with an odd number of bytes is written
    /// in base64; to keep either, export as protobuf.
    ///
    /// Throws if the payload is no valid export request of its kind. Costs one decode and one encode of the payload.
    package static func line(kind: RecordKind, payload: some Collection<UInt8>) throws(OTLPInputError) -> String {
        let bytes = Array(payload)
        return switch OTLPSignal(kind: kind) {
        case .traces?: try encode(TraceRequest.self, bytes)
        case .logs?: try encode(LogsRequest.self, bytes)
        case .metrics?: try encode(MetricsRequest.self, bytes)
        case nil: opaqueLine(bytes)
        }
    }

    /// Reads one document of `signal` as a serialized request. Keys that OTLP does not know are passed over, as its
    /// specification asks. Throws with the place in the document if it is no such request.
    static func request(from document: [UInt8], signal: OTLPSignal) throws(OTLPInputError) -> [UInt8] {
        do {
            return switch signal {
            case .traces: try decode(TraceRequest.self, document)
            case .logs: try decode(LogsRequest.self, document)
            case .metrics: try decode(MetricsRequest.self, document)
            }
        } catch {
            throw JSONDiagnosis.error(for: error, in: document)
        }
    }

    private static func decode<Request: IdentifierHolder>(_: Request.Type, _ document: [UInt8]) throws -> [UInt8] {
        var options = JSONDecodingOptions()
        options.ignoreUnknownFields = true
        var request = try Request(jsonUTF8Bytes: document, options: options)
        try request.forEachIdentifier(JSONIdentifiers.fromJSON)
        return try request.serializedBytes()
    }

    private static func encode<Request: IdentifierHolder>(
        _: Request.Type, _ payload: [UInt8]
    ) throws(OTLPInputError) -> String {
        do {
            var request = try Request(serializedBytes: payload)
            request.forEachIdentifier(JSONIdentifiers.toJSON)
            var options = JSONEncodingOptions()
            options.alwaysPrintEnumsAsInts = true
            let json: [UInt8] = try request.jsonUTF8Bytes(options: options)
            return String(decoding: json, as: UTF8.self)
        } catch {
            throw OTLPInputError(.malformed, "a record whose payload is no valid export request of its kind")
        }
    }

    private static func opaqueLine(_ payload: [UInt8]) -> String {
        let isObject = payload.first { !JSONSpace.contains($0) } == UInt8(ascii: "{")
        if isObject, !payload.contains(where: { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }),
            let text = String(validating: payload, as: UTF8.self),
            (try? JSONSerialization.jsonObject(with: Data(payload))) is [String: Any]
        {
            return text
        }
        return "{\"opaque\":\"\(Data(payload).base64EncodedString())\"}"
    }
}
