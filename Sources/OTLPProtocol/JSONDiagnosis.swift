import Foundation
import SwiftProtobuf

/// Says what is wrong with a document that was refused. The decoder names no place, so the document is read once more
/// without a schema; that costs time in the case of failure only.
enum JSONDiagnosis {
    /// The error for a document that the decoder, or the conversion of its IDs, refused with `cause`.
    static func error(for cause: any Error, in document: [UInt8]) -> OTLPInputError {
        let root: Any
        do {
            root = try JSONSerialization.jsonObject(with: Data(document))
        } catch {
            return OTLPInputError(.malformed, "a JSON document that is not well-formed\(syntax(of: error))")
        }
        if let (path, text) = invalidIdentifier(in: root, path: "", depth: 0) {
            return OTLPInputError(.invalidIdentifier, "\(path) is \"\(text)\", which is no ID in hex")
        }
        if cause is JSONIdentifiers.Invalid {
            return OTLPInputError(.invalidIdentifier, "a trace or span ID that is no hex")
        }
        return OTLPInputError(.malformed, "a JSON document that is no export request: \(reason(of: cause))")
    }

    /// Deeper than the decoder follows, so that nothing it could have refused is missed.
    private static let maximumDepth = 128
    private static let longestQuote = 64

    private static let identifierLengths: [String: Int] = [
        "traceId": 16, "trace_id": 16, "spanId": 8, "span_id": 8, "parentSpanId": 8, "parent_span_id": 8,
    ]

    /// The first ID that the conversion would refuse. Attributes cannot be mistaken for one: their names are values in
    /// JSON, not keys.
    private static func invalidIdentifier(in value: Any, path: String, depth: Int) -> (path: String, text: String)? {
        guard depth < maximumDepth else { return nil }
        if let object = value as? [String: Any] {
            for (key, member) in object.sorted(by: { $0.key < $1.key }) {
                let path = path.isEmpty ? key : "\(path).\(key)"
                if let length = identifierLengths[key], let text = member as? String {
                    if !isIdentifier(text, length: length) { return (path, quoted(text)) }
                } else if let found = invalidIdentifier(in: member, path: path, depth: depth + 1) {
                    return found
                }
            }
        } else if let array = value as? [Any] {
            for (index, element) in array.enumerated() {
                if let found = invalidIdentifier(in: element, path: "\(path)[\(index)]", depth: depth + 1) {
                    return found
                }
            }
        }
        return nil
    }

    private static func isIdentifier(_ text: String, length: Int) -> Bool {
        if text.isEmpty { return true }
        if text.utf8.allSatisfy(Hexadecimal.isDigit) { return text.utf8.count == 2 * length }
        return Data(base64Encoded: text)?.count == length
    }

    /// Text of the input is shortened and made printable before it goes into a message of one line.
    private static func quoted(_ text: String) -> String {
        let shown = text.unicodeScalars.prefix(longestQuote).map { scalar in
            scalar.properties.generalCategory == .control ? "\u{FFFD}" : Character(scalar)
        }
        return String(shown) + (text.unicodeScalars.count > longestQuote ? "…" : "")
    }

    private static func syntax(of error: any Error) -> String {
        guard let text = (error as NSError).userInfo[NSDebugDescriptionErrorKey] as? String else { return "" }
        return ": \(quoted(text))"
    }

    private static func reason(of cause: any Error) -> String {
        guard let cause = cause as? JSONDecodingError else { return "its values do not decode" }
        return switch cause {
        case .malformedNumber, .leadingZero: "a number is malformed"
        case .numberRange: "a number is out of range"
        case .malformedBool: "a boolean is malformed"
        case .malformedString, .invalidUTF8: "a string or base64 value is malformed"
        case .conflictingOneOf: "a value has two types at once"
        case .messageDepthLimit: "it is nested too deeply"
        case .illegalNull: "there is null where a value has to be"
        case .truncated: "it ends in the middle of a value"
        default: "a value has another type than its field"
        }
    }
}
