import TelemetryWAL
import WALFormat

/// Records of one tenant and one kind, on their way to a receiver.
public struct ExportBatch: Sendable {
    public let tenant: TenantName
    public let kind: RecordKind
    /// The records, by ascending sequence number, one at least; there are gaps where records of other kinds stand.
    public let records: [RecordBatch.Record]
    /// Bytes of all payloads.
    public let payloadLength: Int

    public init(tenant: TenantName, kind: RecordKind, records: [RecordBatch.Record]) {
        self.tenant = tenant
        self.kind = kind
        self.records = records
        payloadLength = records.reduce(0) { $0 + $1.payload.count }
    }

    /// All payloads strung together: for spans, logs and metrics a complete OTLP export request, since protobuf
    /// merges repeated fields.
    public func concatenatedPayloads() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payloadLength)
        for record in records { bytes += record.payload }
        return bytes
    }
}

/// How an exporter's attempt ended.
public enum ExportResult: Sendable {
    /// The receiver has the batch. `rejected` items of it the receiver took note of and refused for good
    /// (OTLP's partial success); sending them again would not help.
    case delivered(rejected: Int, message: String?)
    /// The receiver can't take it now; the same batch may succeed later, not before `after` has passed, if given.
    case retry(reason: String, after: Duration?)
    /// The receiver will never take this batch: it is halved until the record that is to blame stands alone, and that one
    /// goes to the dead letters.
    case refused(reason: String)
    /// The receiver takes nothing of ours, whatever is in it: a wrong address or credential. Tried again rarely, until
    /// somebody has mended that.
    case denied(reason: String)
}

/// Something that delivers batches to a receiver.
///
/// `export` returns `.delivered` only when the receiver has answered for the batch: the log forgets what was
/// delivered. It may be called for several tenants at a time, and for one tenant as well, unless `deliversInOrder`. A
/// batch is exported again, whole or in parts, where it is not known to have been taken.
public protocol TelemetryExporter: Sendable {
    /// Where it delivers to, for messages.
    var destination: String { get }
    /// Whether a tenant's batches must come one after the other; false where it is not said.
    var deliversInOrder: Bool { get }
    /// Delivers a batch. Does not throw: what went wrong is part of the result.
    func export(_ batch: ExportBatch) async -> ExportResult
    /// Releases what it holds. Called once, when no export is under way.
    func shutdown() async
}

extension TelemetryExporter {
    public var deliversInOrder: Bool { false }
    public func shutdown() async {}
}
