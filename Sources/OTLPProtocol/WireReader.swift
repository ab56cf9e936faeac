// Protobuf's wire format, one field at a time, without a schema.
//
// Splitting a request into records needs only to know where its items begin and end. Reading the fields by hand and
// copying their bytes keeps every item exactly as it was sent, whatever order, encoding or unknown fields its sender
// chose, which no decode and encode again can promise.

/// Reads the fields of one message in turn. Every length is checked against the bytes there are.
struct WireReader {
    /// The wire types that proto3 messages use, and groups, which may still appear among unknown fields.
    enum WireType: UInt8 {
        case varint = 0
        case fixed64 = 1
        case lengthDelimited = 2
        case startGroup = 3
        case endGroup = 4
        case fixed32 = 5
    }

    struct Field {
        var number: Int
        var wireType: WireType
        /// Tag, length and value.
        var whole: Range<Int>
        /// The value alone.
        var value: Range<Int>
    }

    /// The bytes are no protobuf, or end in the middle of a field.
    struct Malformed: Error {}

    /// Groups nest; the bound keeps a hostile message from using up the stack.
    private static let maximumGroupDepth = 32

    private let bytes: [UInt8]
    private var position: Int
    private let end: Int

    /// Reads `range` of `bytes`, which are shared, not copied.
    init(_ bytes: [UInt8], in range: Range<Int>) {
        self.bytes = bytes
        position = range.lowerBound
        end = range.upperBound
    }

    /// The next field, or nil at the end.
    mutating func next() throws(Malformed) -> Field? {
        guard position < end else { return nil }
        let field = try readField(groupDepth: 0)
        guard field.wireType != .endGroup else { throw Malformed() }
        return field
    }

    private mutating func readField(groupDepth: Int) throws(Malformed) -> Field {
        let start = position
        let tag = try varint()
        guard let wireType = WireType(rawValue: UInt8(tag & 7)), (8...0xFFFF_FFFF).contains(tag) else {
            throw Malformed()
        }
        let number = Int(tag >> 3)
        let valueStart: Int
        switch wireType {
        case .varint:
            valueStart = position
            _ = try varint()
        case .fixed64:
            valueStart = position
            try skip(8)
        case .fixed32:
            valueStart = position
            try skip(4)
        case .lengthDelimited:
            let length = try varint()
            valueStart = position
            try skip(length)
        case .startGroup:
            valueStart = position
            try skipGroup(number: number, depth: groupDepth + 1)
        case .endGroup:
            valueStart = position
        }
        return Field(number: number, wireType: wireType, whole: start..<position, value: valueStart..<position)
    }

    private mutating func skipGroup(number: Int, depth: Int) throws(Malformed) {
        guard depth <= Self.maximumGroupDepth else { throw Malformed() }
        while true {
            guard position < end else { throw Malformed() }
            let field = try readField(groupDepth: depth)
            if field.wireType == .endGroup {
                guard field.number == number else { throw Malformed() }
                return
            }
        }
    }

    private mutating func skip(_ count: UInt64) throws(Malformed) {
        guard count <= UInt64(end - position) else { throw Malformed() }
        position += Int(count)
    }

    private mutating func varint() throws(Malformed) -> UInt64 {
        guard case .value(let value, let length) = Varint.read(bytes, in: position..<end) else { throw Malformed() }
        position += length
        return value
    }
}
