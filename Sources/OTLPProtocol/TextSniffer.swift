/// Tells JSON from protobuf by the first bytes.
///
/// A space or a brace is not enough: a line feed is also the tag of a request's field, and `{` may be a length of 123.
/// But in JSON, what follows the brace is another brace or a quote and then no control character, and in protobuf it is
/// not: there, a quote could only be the length of a message, and the tag of its first field is below 0x20.
enum TextSniffer {
    enum Finding: Equatable {
        /// A JSON object, after this many bytes of byte order mark.
        case json(markLength: Int)
        case binary
        /// Only spaces so far, or a brace with nothing behind it.
        case undecided
    }

    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

    /// The length of the byte order mark the buffer starts with, or nil if more bytes are needed to tell.
    static func byteOrderMarkLength(_ buffer: InputBuffer) -> Int? {
        let start = buffer.bytes[buffer.range].prefix(byteOrderMark.count)
        guard byteOrderMark.starts(with: start) else { return 0 }
        return start.count == byteOrderMark.count ? byteOrderMark.count : nil
    }

    /// Looks at the start of the buffer.
    static func look(at buffer: InputBuffer) -> Finding {
        guard let markLength = byteOrderMarkLength(buffer) else { return .undecided }
        var rest = buffer.bytes[buffer.range].dropFirst(markLength).drop(while: JSONSpace.contains)
        guard let first = rest.popFirst() else { return .undecided }
        guard first == UInt8(ascii: "{") else { return .binary }
        rest = rest.drop(while: JSONSpace.contains)
        guard let second = rest.popFirst() else { return .undecided }
        if second == UInt8(ascii: "}") { return .json(markLength: markLength) }
        guard second == UInt8(ascii: "\"") else { return .binary }
        guard let third = rest.popFirst() else { return .undecided }
        return third >= 0x20 ? .json(markLength: markLength) : .binary
    }
}
