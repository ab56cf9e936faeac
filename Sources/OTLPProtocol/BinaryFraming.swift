// Tells how the requests of a binary stream are separated, by looking at the first of them.
//
// A length prefix is believed if the bytes it spans are, field for field, an export request. Wrong candidates fall
// quickly: a request starts with byte 0x0A, and its first field has to end on the tag of the next one or on the end of
// the message. A little-endian length read as a big-endian one is mostly far above the limit. The candidates are tried
// in a fixed order and each is settled before the next, so the outcome does not depend on how the input was cut up.

/// How the requests of a binary stream are separated.
enum BinaryFraming: Equatable, Sendable {
    case delimited(LengthPrefix)
    /// One request, which ends with the input.
    case body

    enum Detection: Equatable {
        case found(BinaryFraming)
        /// Worth another try when the buffer holds this many bytes.
        case needs(Int)
        case unknown
    }

    private enum Verdict {
        case plausible
        case needs(Int)
        case impossible
    }

    /// Looks at the start of the buffer. `signal` is the one the user named; without it, the request has to show which
    /// one it is. Costs a walk over the fields of the first message.
    static func detect(
        _ buffer: InputBuffer, isAtEnd: Bool, allowsBody: Bool, signal: OTLPSignal?, maximum: Int
    ) -> Detection {
        for prefix in LengthPrefix.allCases {
            switch judge(prefix, buffer, signal: signal, maximum: maximum) {
            case .plausible: return .found(.delimited(prefix))
            case .needs(let count) where !isAtEnd: return .needs(count)
            case .needs, .impossible: continue
            }
        }
        guard allowsBody, buffer.count > 0, buffer.bytes[buffer.start] == RequestSplitter.repeatedTag else {
            return .unknown
        }
        return .found(.body)
    }

    private static func judge(
        _ prefix: LengthPrefix, _ buffer: InputBuffer, signal: OTLPSignal?, maximum: Int
    ) -> Verdict {
        let bytes = buffer.bytes
        switch prefix.read(bytes, in: buffer.range, maximum: maximum) {
        case .invalid:
            return .impossible
        case .incomplete:
            return .needs(buffer.count + 1)
        case .message(_, length: 0):
            return .impossible
        case .message(let prefixLength, let length):
            let start = buffer.start + prefixLength
            let end = start + length
            guard end <= bytes.count else {
                return startsLikeRequest(bytes, from: start, to: end) ? .needs(prefixLength + length) : .impossible
            }
            return isPlausible(bytes, start..<end, signal: signal) ? .plausible : .impossible
        }
    }

    /// Whether the part of a message that has arrived is a row of request fields. `end` is where the message would end.
    private static func startsLikeRequest(_ bytes: [UInt8], from start: Int, to end: Int) -> Bool {
        var position = start
        while position < bytes.count {
            guard bytes[position] == RequestSplitter.repeatedTag else { return false }
            switch Varint.read(bytes, in: position + 1..<bytes.count) {
            case .invalid:
                return false
            case .incomplete:
                return true
            case .value(let value, let length):
                position += 1 + length
                guard position <= end, value <= UInt64(end - position) else { return false }
                position += Int(value)
            }
        }
        return true
    }

    private static func isPlausible(_ bytes: [UInt8], _ range: Range<Int>, signal: OTLPSignal?) -> Bool {
        guard let shape = try? RequestShape(bytes, in: range), shape.isPlausible else { return false }
        if signal != nil || shape.items.isEmpty { return true }
        return SignalDetector.signal(of: shape.items, in: bytes) != nil
    }
}
