/// How many bytes of a tenant the log has taken, and which of them wait: what a tenant state says beside its number, so
/// that budgets hold from one opening to the next.
///
/// ```
///  0  u64  appended length: of all records ever, with their headers, uncompressed, bytes
///  8  u64  released through: every subscriber had the records through this number, or they were dropped
/// 16  u64  released length: of the records through that number, bytes
/// 24  u64  when the first record behind it was received, ns; 0: there is none
/// ```
public struct BacklogSummary: Equatable, Sendable {
    /// Bytes that it takes.
    public static let length = 32

    public var appendedLength: UInt64
    public var releasedThrough: UInt64
    public var releasedLength: UInt64
    public var oldestReceived: UInt64

    public init(appendedLength: UInt64, releasedThrough: UInt64, releasedLength: UInt64, oldestReceived: UInt64) {
        self.appendedLength = appendedLength
        self.releasedThrough = releasedThrough
        self.releasedLength = releasedLength
        self.oldestReceived = oldestReceived
    }

    func encode(into bytes: inout MutableRawSpan, at base: Int) {
        bytes.store(littleEndian: appendedLength, at: base)
        bytes.store(littleEndian: releasedThrough, at: base + 8)
        bytes.store(littleEndian: releasedLength, at: base + 16)
        bytes.store(littleEndian: oldestReceived, at: base + 24)
    }

    /// Nil where a record ends before it, as those do of writers that did not count bytes, and where it cannot be right:
    /// it is no reason not to believe the rest of a checkpoint.
    static func decode(_ payload: RawSpan, at base: Int) -> BacklogSummary? {
        guard payload.byteCount >= base + length else { return nil }
        let summary = BacklogSummary(
            appendedLength: payload.littleEndian(at: base), releasedThrough: payload.littleEndian(at: base + 8),
            releasedLength: payload.littleEndian(at: base + 16), oldestReceived: payload.littleEndian(at: base + 24))
        guard summary.appendedLength <= FormatLimits.maximumNumber,
            summary.releasedThrough <= FormatLimits.maximumNumber, summary.releasedLength <= summary.appendedLength
        else { return nil }
        return summary
    }
}
