import WALFormat

/// One record to be appended.
public struct TelemetryRecord: Sendable, Equatable {
    /// What the payload is.
    public var kind: RecordKind
    /// Nanoseconds since 1970 (UTC); 0 where there is none.
    public var timestamp: UInt64
    /// For spans, logs and metrics an OTLP export request in protobuf with one `Resource…` element, so that payloads
    /// strung together are a request again; for opaque records anything. 0 bytes to 16 MiB.
    public var payload: [UInt8]

    public init(kind: RecordKind, timestamp: UInt64 = 0, payload: [UInt8]) {
        self.kind = kind
        self.timestamp = timestamp
        self.payload = payload
    }
}

/// The proof that a record is durable: where it stands in its tenant's sequence.
public struct Receipt: Sendable, Hashable {
    public let tenant: TenantName
    /// Position among the tenant's records, from 1 on, without gaps.
    public let sequence: UInt64
}

/// The proof that a batch is durable, all of it.
public struct BatchReceipt: Sendable, Hashable {
    public let tenant: TenantName
    /// Sequence numbers of the batch's records, in order.
    public let sequences: ClosedRange<UInt64>
}

/// A record that is on its way: durable once `durable(through:)` has returned for this ticket or a later one of the same
/// journal.
public struct Ticket: Sendable, Hashable {
    /// The group that the record is in.
    let group: UInt64
    /// The journal that the group goes to.
    let journal: UInt32
}
