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
