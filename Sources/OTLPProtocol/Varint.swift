/// Protobuf's integers of variable length: seven bits a byte, the lowest first, the top bit set on all but the last.
enum Varint {
    enum Reading: Equatable {
        case value(UInt64, length: Int)
        /// The bytes end before the integer does.
        case incomplete
        /// More than 64 bits.
        case invalid
    }

    /// Reads the integer at the start of `range`.
    static func read(_ bytes: [UInt8], in range: Range<Int>) -> Reading {
        var value: UInt64 = 0
        var length = 0
        for index in range {
            let byte = bytes[index]
            // The tenth byte has room for one bit only.
            if length == 9, byte > 1 { return .invalid }
            value |= UInt64(byte & 0x7F) << UInt64(7 * length)
            length += 1
            if byte < 0x80 { return .value(value, length: length) }
        }
        return .incomplete
    }

    /// How many bytes `value` takes.
    static func length(of value: Int) -> Int {
        var length = 1
        var rest = UInt64(value) >> 7
        while rest > 0 {
            length += 1
            rest >>= 7
        }
        return length
    }

    /// Appends `value`, which must not be negative.
    static func append(_ value: Int, to bytes: inout [UInt8]) {
        var rest = UInt64(value)
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}
