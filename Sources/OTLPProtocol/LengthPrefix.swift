/// How the length before each message of a delimited stream is written.
enum LengthPrefix: CaseIterable, Sendable {
    case littleEndian
    case bigEndian
    case varint

    enum Reading: Equatable {
        /// A message of this length follows the prefix.
        case message(prefixLength: Int, length: Int)
        case incomplete
        /// No length, or one above the limit.
        case invalid
    }

    /// Reads the prefix at the start of `range`, refusing lengths above `maximum`.
    func read(_ bytes: [UInt8], in range: Range<Int>, maximum: Int) -> Reading {
        switch self {
        case .varint:
            switch Varint.read(bytes, in: range.prefix(Varint.length(of: maximum))) {
            case .value(let value, let length):
                return value <= UInt64(maximum) ? .message(prefixLength: length, length: Int(value)) : .invalid
            case .incomplete:
                return range.count < Varint.length(of: maximum) ? .incomplete : .invalid
            case .invalid:
                return .invalid
            }
        case .littleEndian, .bigEndian:
            guard range.count >= 4 else { return .incomplete }
            let prefix = bytes[range.prefix(4)]
            var length = 0
            if self == .littleEndian {
                for byte in prefix.reversed() { length = length << 8 | Int(byte) }
            } else {
                for byte in prefix { length = length << 8 | Int(byte) }
            }
            return length <= maximum ? .message(prefixLength: 4, length: length) : .invalid
        }
    }
}
