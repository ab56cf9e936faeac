import WALFormat

/// One record to append to the log, taken from the input.
package struct OTLPRecord: Sendable, Equatable {
    /// What the payload is.
    package var kind: RecordKind

    /// The tenant the record belongs to; nil if the input names none, or names the empty string.
    package var tenant: String?

    /// Nanoseconds since 1970: start of the span, time of the log record (or, without one, when it was observed), or
    /// time of the first data point. 0 if the input has none.
    package var timestamp: UInt64

    /// A serialized export request with one resource, or the bytes of one line for an opaque record. Requests of one
    /// kind can be put behind each other: repeated protobuf fields add up, so the result is one valid request.
    package var payload: [UInt8]

    /// The span ID in lowercase hex if the record holds just one span, otherwise nil.
    package var identifier: String?

    /// Costs nothing beyond storing the values.
    package init(
        kind: RecordKind, tenant: String?, timestamp: UInt64, payload: [UInt8], identifier: String? = nil
    ) {
        self.kind = kind
        self.tenant = tenant
        self.timestamp = timestamp
        self.payload = payload
        self.identifier = identifier
    }
}
