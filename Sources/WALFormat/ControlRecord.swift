/// What the engine itself writes between users' records: cursors, checkpoints, watermarks. They ride in control
/// frames, as records whose kind is one of the types below.
///
/// ```
/// 0x81 cursor         u64 acknowledged through, u16 subscriber length, u16 tenant length, u32 zero, both names
/// 0x82 checkpoint     u64 tenant states that follow, u64 cursors that follow, u64 subscribers that follow,
///                     u64 sequence floor: first sequence number of tenants that are not yet known
/// 0x83 tenant state   u64 next sequence number, u16 tenant length, 6 zero, name; then, where known, `BacklogSummary`
/// 0x84 watermark      u64 durable-through
/// 0x85 subscriber     u8 1: registered, 0: removed; u8 zero, u16 name length, u32 registration, name
/// 0x86 dropped        u64 dropped through, `DropTotal`, u8 cause, u8 zero, u16 tenant length, u32 zero, name
/// 0x87 erasure        u64 erased through, u64 time of the request, u8 1: complete, 0: begun; u8 zero,
///                     u16 tenant length, u32 zero, name
/// ```
public enum ControlRecord: Equatable, Sendable {
    /// A subscriber has all of a tenant's records up to and including `acknowledgedThrough`.
    case cursor(subscriber: TenantName, tenant: TenantName, acknowledgedThrough: UInt64)
    /// The whole state follows in this commit: what stood before is superseded.
    case checkpoint(tenants: UInt64, cursors: UInt64, subscribers: UInt64, sequenceFloor: UInt64)
    /// The number that the tenant's next record gets, and what of it waits, where that is known.
    case tenantState(tenant: TenantName, nextSequence: UInt64, backlog: BacklogSummary? = nil)
    /// Every commit up to this number is durable.
    case watermark(durableThrough: UInt64)
    /// A subscriber joins, and from then on holds data back from being reclaimed, or leaves. `registration`: a number drawn
    /// when it joined, the same in all journals of a log; 0: unknown.
    case subscriber(name: TenantName, isRegistered: Bool, registration: UInt32 = 0)
    /// Of a tenant the records up to and including `through` are given up, whoever lacks them; 0: none are.
    /// `total`: what was dropped for this cause since the log began.
    case dropped(tenant: TenantName, cause: DropCause, through: UInt64, total: DropTotal)
    /// Of a tenant the records up to and including `through` are erased, or, while that is not complete, about to be:
    /// nobody is shown them any more, and where they stand may be overwritten. `requested`: when, ns since 1970 (UTC).
    case erasure(tenant: TenantName, through: UInt64, requested: UInt64, isComplete: Bool)

    private var kind: UInt8 {
        switch self {
        case .cursor: 0x81
        case .checkpoint: 0x82
        case .tenantState: 0x83
        case .watermark: 0x84
        case .subscriber: 0x85
        case .dropped: 0x86
        case .erasure: 0x87
        }
    }

    /// Bytes of a `dropped` record's payload before the name.
    public static let droppedLength = 48

    /// Bytes of an `erasure` record's payload before the name.
    public static let erasureLength = 24

    /// Bytes of the encoded record, its header included.
    public var length: Int {
        switch self {
        case .cursor(let subscriber, let tenant, _):
            RecordHeader.length + 16 + subscriber.utf8.count + tenant.utf8.count
        case .checkpoint: RecordHeader.length + 32
        case .tenantState(let tenant, _, let backlog):
            RecordHeader.length + 16 + tenant.utf8.count + (backlog == nil ? 0 : BacklogSummary.length)
        case .watermark: RecordHeader.length + 8
        case .subscriber(let name, _, _): RecordHeader.length + 8 + name.utf8.count
        case .dropped(let tenant, _, _, _): RecordHeader.length + Self.droppedLength + tenant.utf8.count
        case .erasure(let tenant, _, _, _): RecordHeader.length + Self.erasureLength + tenant.utf8.count
        }
    }

    /// Writes the record, header included, at an offset.
    public func encode(into bytes: inout MutableRawSpan, at base: Int, timestamp: UInt64) {
        bytes.zero(base..<base + length)
        RecordHeader(payloadLength: length - RecordHeader.length, kind: kind, timestamp: timestamp)
            .encode(into: &bytes, at: base)
        let payload = base + RecordHeader.length
        switch self {
        case .cursor(let subscriber, let tenant, let acknowledgedThrough):
            bytes.store(littleEndian: acknowledgedThrough, at: payload)
            bytes.store(littleEndian: UInt16(subscriber.utf8.count), at: payload + 8)
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: payload + 10)
            bytes.store(subscriber.utf8, at: payload + 16)
            bytes.store(tenant.utf8, at: payload + 16 + subscriber.utf8.count)
        case .checkpoint(let tenants, let cursors, let subscribers, let sequenceFloor):
            bytes.store(littleEndian: sequenceFloor, at: payload + 24)
            bytes.store(littleEndian: tenants, at: payload)
            bytes.store(littleEndian: cursors, at: payload + 8)
            bytes.store(littleEndian: subscribers, at: payload + 16)
        case .tenantState(let tenant, let nextSequence, let backlog):
            bytes.store(littleEndian: nextSequence, at: payload)
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: payload + 8)
            bytes.store(tenant.utf8, at: payload + 16)
            backlog?.encode(into: &bytes, at: payload + 16 + tenant.utf8.count)
        case .watermark(let durableThrough):
            bytes.store(littleEndian: durableThrough, at: payload)
        case .subscriber(let name, let isRegistered, let registration):
            bytes.store(littleEndian: UInt8(isRegistered ? 1 : 0), at: payload)
            bytes.store(littleEndian: UInt16(name.utf8.count), at: payload + 2)
            bytes.store(littleEndian: registration, at: payload + 4)
            bytes.store(name.utf8, at: payload + 8)
        case .dropped(let tenant, let cause, let through, let total):
            bytes.store(littleEndian: through, at: payload)
            total.encode(into: &bytes, at: payload + 8)
            bytes.store(littleEndian: cause.rawValue, at: payload + 40)
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: payload + 42)
            bytes.store(tenant.utf8, at: payload + Self.droppedLength)
        case .erasure(let tenant, let through, let requested, let isComplete):
            bytes.store(littleEndian: through, at: payload)
            bytes.store(littleEndian: requested, at: payload + 8)
            bytes.store(littleEndian: UInt8(isComplete ? 1 : 0), at: payload + 16)
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: payload + 18)
            bytes.store(tenant.utf8, at: payload + Self.erasureLength)
        }
    }

    /// All control records of a control frame's raw body. Throws `FormatError` for an unknown type: a newer writer's
    /// control record may change what the log means.
    public static func decodeAll(_ body: RawSpan, count: Int) throws(FormatError) -> [ControlRecord] {
        try CommitDecoder.checkRecords(in: body, count: count, isControl: true)
        var records: [ControlRecord] = []
        records.reserveCapacity(count)
        var offset = 0
        for _ in 0..<count {
            let header = try RecordHeader.decode(body, at: offset)
            let payload = offset + RecordHeader.length
            offset = payload + header.payloadLength
            records.append(try decode(kind: header.kind, body.extracting(payload..<offset)))
        }
        return records
    }

    private static func decode(kind: UInt8, _ payload: RawSpan) throws(FormatError) -> ControlRecord {
        func require(_ length: Int) throws(FormatError) {
            if payload.byteCount < length {
                throw FormatError(.truncated, "control record of type \(kind) has \(payload.byteCount) bytes")
            }
        }
        func name(at offset: Int, length: Int) throws(FormatError) -> TenantName {
            try require(offset + length)
            do { return try TenantName(utf8: payload.array(offset..<offset + length)) } catch {
                throw FormatError(.field, "control record of type \(kind): \(error)")
            }
        }
        func number(at offset: Int) throws(FormatError) -> UInt64 {
            let value: UInt64 = payload.littleEndian(at: offset)
            guard value <= FormatLimits.maximumNumber else {
                throw FormatError(.field, "control record of type \(kind) has a number out of bounds")
            }
            return value
        }
        switch kind {
        case 0x81:
            try require(16)
            let subscriberLength = Int(payload.littleEndian(UInt16.self, at: 8))
            let tenantLength = Int(payload.littleEndian(UInt16.self, at: 10))
            return .cursor(
                subscriber: try name(at: 16, length: subscriberLength),
                tenant: try name(at: 16 + subscriberLength, length: tenantLength),
                acknowledgedThrough: try number(at: 0))
        case 0x82:
            try require(32)
            return .checkpoint(
                tenants: payload.littleEndian(at: 0), cursors: payload.littleEndian(at: 8),
                subscribers: payload.littleEndian(at: 16), sequenceFloor: try number(at: 24))
        case 0x83:
            try require(16)
            let nameLength = Int(payload.littleEndian(UInt16.self, at: 8))
            let tenant = try name(at: 16, length: nameLength)
            return .tenantState(
                tenant: tenant, nextSequence: try number(at: 0),
                backlog: BacklogSummary.decode(payload, at: 16 + nameLength))
        case 0x84:
            try require(8)
            return .watermark(durableThrough: try number(at: 0))
        case 0x85:
            try require(8)
            return .subscriber(
                name: try name(at: 8, length: Int(payload.littleEndian(UInt16.self, at: 2))),
                isRegistered: payload.littleEndian(UInt8.self, at: 0) == 1,
                registration: payload.littleEndian(UInt32.self, at: 4))
        case 0x86:
            try require(droppedLength)
            let code = payload.littleEndian(UInt8.self, at: 40)
            guard let cause = DropCause(rawValue: code) else {
                throw FormatError(.version, "records were dropped for the unknown cause \(code)")
            }
            let total = try DropTotal.decode(payload, at: 8)
            return .dropped(
                tenant: try name(at: droppedLength, length: Int(payload.littleEndian(UInt16.self, at: 42))),
                cause: cause, through: try number(at: 0), total: total)
        case 0x87:
            try require(erasureLength)
            return .erasure(
                tenant: try name(at: erasureLength, length: Int(payload.littleEndian(UInt16.self, at: 18))),
                through: try number(at: 0), requested: payload.littleEndian(at: 8),
                isComplete: payload.littleEndian(UInt8.self, at: 16) == 1)
        default:
            throw FormatError(.version, "control record of unknown type \(kind)")
        }
    }
}
