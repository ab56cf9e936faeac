/// The two encodings of OTLP over HTTP, named as in the header fields `Content-Type` and `Accept`.
package enum OTLPContentType: String, CaseIterable, Sendable {
    case protobuf = "application/x-protobuf"
    case json = "application/json"

    /// The encoding a header field names, whatever its case and parameters; nil for any other.
    package init?(headerValue: String) {
        let mediaType = headerValue.prefix { $0 != ";" && $0 != " " }.lowercased()
        guard let type = Self(rawValue: mediaType) else { return nil }
        self = type
    }
}
