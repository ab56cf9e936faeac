import SwiftProtobuf

/// What a receiver answers to an export request.
package enum OTLPResponse {
    /// What the receiver left out of a request it accepted, or a warning if it left out nothing (`rejected` is 0).
    ///
    /// Nil stands for full success: no such part, an empty one, or a body that cannot be read, since the status code
    /// said that the request was accepted and sending it once more would only make duplicates. Never fails; costs one
    /// decode of the body.
    package static func partialSuccess(
        signal: OTLPSignal, body: [UInt8], contentType: OTLPContentType
    ) -> (rejected: Int64, message: String)? {
        let rejected: Int64
        let message: String
        switch signal {
        case .traces:
            guard let part = decode(TraceResponse.self, body, contentType)?.partialSuccess else { return nil }
            (rejected, message) = (part.rejectedSpans, part.errorMessage)
        case .logs:
            guard let part = decode(LogsResponse.self, body, contentType)?.partialSuccess else { return nil }
            (rejected, message) = (part.rejectedLogRecords, part.errorMessage)
        case .metrics:
            guard let part = decode(MetricsResponse.self, body, contentType)?.partialSuccess else { return nil }
            (rejected, message) = (part.rejectedDataPoints, part.errorMessage)
        }
        return rejected == 0 && message.isEmpty ? nil : (rejected, message)
    }

    /// What a receiver says of a request that it refuses, at most so many bytes of it: the message of a `google.rpc.Status`,
    /// which OTLP asks for, or the body as text, on one line without control characters.
    package static func refusal(body: [UInt8], contentType: OTLPContentType?, limit: Int = 200) -> String {
        let text = (contentType == .protobuf ? statusMessage(body) : nil) ?? body[...]
        return String(decoding: text.prefix(limit), as: UTF8.self)
            .filter { !$0.unicodeScalars.contains { $0.properties.generalCategory == .control } }
    }

    /// The second field of a message, a string, that follows a number at most: `google.rpc.Status` has its code and message
    /// there. Nil where it is otherwise.
    private static func statusMessage(_ body: [UInt8]) -> ArraySlice<UInt8>? {
        var rest = body[...]
        func varint() -> UInt64? {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 63, by: 7) {
                guard let byte = rest.popFirst() else { return nil }
                value |= UInt64(byte & 0x7F) << shift
                if byte < 0x80 { return value }
            }
            return nil
        }
        if rest.first == 0x08 {
            rest.removeFirst()
            // A negative number has ten bytes.
            while let byte = rest.popFirst(), byte >= 0x80 {}
        }
        guard rest.popFirst() == 0x12, let length = varint(), length <= UInt64(rest.count) else { return nil }
        return rest.prefix(Int(length))
    }

    private static func decode<Response: Message>(
        _: Response.Type, _ body: [UInt8], _ contentType: OTLPContentType
    ) -> Response? {
        switch contentType {
        case .protobuf:
            return try? Response(serializedBytes: body)
        case .json:
            var options = JSONDecodingOptions()
            options.ignoreUnknownFields = true
            return try? Response(jsonUTF8Bytes: body, options: options)
        }
    }
}
