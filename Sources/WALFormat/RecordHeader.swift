/// The 16 bytes before each record's payload inside a frame's body.
///
/// ```
///  0  u32  payload length, bytes
///  4  u8   kind
///  5  3    zero
///  8  u64  timestamp, nanoseconds since 1970 (UTC)
/// 16       payload
/// ```
public struct RecordHeader: Equatable, Sendable {
    /// Bytes of an encoded header.
    public static let length = 16

    /// Payload bytes that follow, 0 to `FormatLimits.maximumPayloadLength`.
    public var payloadLength: Int
    /// The raw kind: a `RecordKind`, or a `ControlRecord` type in control frames.
    public var kind: UInt8
    /// Nanoseconds since 1970 (UTC).
    public var timestamp: UInt64

    @inlinable
    public init(payloadLength: Int, kind: UInt8, timestamp: UInt64) {
        self.payloadLength = payloadLength
        self.kind = kind
        self.timestamp = timestamp
    }

    /// Writes the header at an offset. Traps where the span is too short.
    @inlinable
    public func encode(into bytes: inout MutableRawSpan, at offset: Int) {
        bytes.store(littleEndian: UInt32(payloadLength), at: offset)
        bytes.store(littleEndian: UInt32(kind), at: offset + 4)
        bytes.store(littleEndian: timestamp, at: offset + 8)
    }

    /// Reads the header at an offset of a frame's raw body; the payload is known to lie inside the body.
    @inlinable
    public static func decode(_ body: RawSpan, at offset: Int) throws(FormatError) -> RecordHeader {
        guard offset >= 0, offset <= body.byteCount - length else {
            throw FormatError(.truncated, "record header at \(offset) runs past the frame's body")
        }
        let payloadLength = Int(body.littleEndian(UInt32.self, at: offset))
        let kind = body.littleEndian(UInt32.self, at: offset + 4)
        guard kind != 0, kind <= 0xFF else { throw FormatError(.field, "record at \(offset) has kind \(kind)") }
        guard payloadLength <= FormatLimits.maximumPayloadLength, payloadLength <= body.byteCount - offset - length
        else { throw FormatError(.field, "record at \(offset) has an impossible payload length \(payloadLength)") }
        return RecordHeader(
            payloadLength: payloadLength, kind: UInt8(kind), timestamp: body.littleEndian(at: offset + 8))
    }
}
