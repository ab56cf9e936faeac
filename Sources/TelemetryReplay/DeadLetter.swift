import FoundationEssentials
import TelemetryWAL
import WALFormat
import WALStorage

/// A record that a receiver refused for good, and what is known of that.
///
/// In the log of dead letters it is one opaque record: a line of JSON with these properties, a line feed, and the
/// payload as it was.
public struct DeadLetter: Sendable, Equatable {
    public var tenant: TenantName
    /// Whose receiver refused it.
    public var subscriber: TenantName
    /// The record's number in the log that it is of.
    public var sequence: UInt64
    public var kind: RecordKind
    /// Nanoseconds since 1970 (UTC); 0 where there is none.
    public var timestamp: UInt64
    public var payload: [UInt8]
    /// What the receiver said, its first 1,000 bytes.
    public var reason: String
    /// When that was, nanoseconds since 1970 (UTC), and the how manieth time.
    public var refused: UInt64
    public var attempts: Int

    /// The line in front of the payload.
    private struct Header: Codable {
        var subscriber: String
        var sequence: UInt64
        var kind: String
        var timestamp: UInt64
        var reason: String
        var refused: UInt64
        var attempts: Int
    }

    public init(
        tenant: TenantName, subscriber: TenantName, record: RecordBatch.Record, reason: String, refused: UInt64,
        attempts: Int = 1
    ) {
        (self.tenant, self.subscriber, self.refused, self.attempts) = (tenant, subscriber, refused, attempts)
        (sequence, kind, timestamp, payload) = (record.sequence, record.kind, record.timestamp, Array(record.payload))
        self.reason = String(decoding: reason.utf8.prefix(1000), as: UTF8.self)
    }

    /// A dead letter as the log of dead letters has it. Nil for a record that is none.
    public init?(_ record: RecordBatch.Record, of tenant: TenantName) {
        guard record.kind == .opaque, let end = record.payload.firstIndex(of: UInt8(ascii: "\n")),
            let header = try? JSONDecoder().decode(Header.self, from: Data(record.payload[..<end])),
            let kind = RecordKind.allCases.first(where: { $0.description == header.kind }),
            let subscriber = try? TenantName(header.subscriber)
        else { return nil }
        self.tenant = tenant
        self.subscriber = subscriber
        self.kind = kind
        (sequence, timestamp, reason) = (header.sequence, header.timestamp, header.reason)
        (refused, attempts) = (header.refused, header.attempts)
        payload = Array(record.payload[(end + 1)...])
    }

    /// The letter as a record.
    func encoded() throws -> TelemetryRecord {
        let header = Header(
            subscriber: subscriber.description, sequence: sequence, kind: kind.description, timestamp: timestamp,
            reason: reason, refused: refused, attempts: attempts)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Control characters are escaped, so that it is one line.
        let line = try encoder.encode(header)
        return TelemetryRecord(kind: .opaque, timestamp: refused, payload: Array(line) + [UInt8(ascii: "\n")] + payload)
    }

    /// The record that it is of.
    var record: RecordBatch.Record {
        RecordBatch.Record(sequence: sequence, kind: kind, timestamp: timestamp, payload: payload[...])
    }
}

/// Where records go that a receiver refuses for good.
public protocol DeadLetterStore: Sendable {
    /// Keeps a record, with why it was refused. Returns when it is durable. Throws why it could not be kept: then the record
    /// is sent again later.
    func store(_ letter: DeadLetter) async throws
}

/// Keeps dead letters in the log's own `dead-letters`.
struct LogDeadLetters<Storage: JournalStorage>: DeadLetterStore {
    let log: WriteAheadLogEngine<Storage>

    func store(_ letter: DeadLetter) async throws {
        // What was erased meanwhile must not come back here.
        if log.isErased(letter.tenant, through: letter.sequence) { return }
        let record = try letter.encoded()
        let letters = try await log.deadLetters.open(fitting: record.payload.count)
        try await letters.append(record, tenant: letter.tenant)
        if log.isErased(letter.tenant, through: letter.sequence) { _ = try await letters.erase(letter.tenant) }
    }
}
