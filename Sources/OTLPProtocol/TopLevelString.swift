// Reads one string field of a JSON object without building the object, for opaque records, whose content is nobody's
// business here but for the tenant. The walk follows strings and depth only; a line that is not quite JSON may thus
// still show its tenant, which does no harm.

import Foundation

/// Looks up a field of the outermost object of a line.
struct TopLevelString {
    private let line: [UInt8]
    private var position = 0

    private init(_ line: [UInt8]) { self.line = line }

    /// The value of the first field named `name` in `line`, if `line` is one JSON object and the value is a string that
    /// is not empty. Costs one pass over the line at most.
    static func value(of name: String, in line: [UInt8]) -> String? {
        var walk = TopLevelString(line)
        return walk.value(of: name)
    }

    private mutating func value(of name: String) -> String? {
        skipSpace()
        guard take(UInt8(ascii: "{")) else { return nil }
        var found: String?
        var depth = 1
        var expectsKey = true
        while position < line.count {
            let byte = line[position]
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = string() else { return nil }
                if expectsKey, depth == 1, found == nil, isNamed(name, text) { found = memberString() }
                expectsKey = false
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if depth == 0 {
                    position += 1
                    skipSpace()
                    return position == line.count ? found : nil
                }
            case UInt8(ascii: ","):
                expectsKey = depth == 1
            default:
                break
            }
            position += 1
        }
        return nil
    }

    /// The string after the colon; nil if another value follows, which the walk then passes over.
    private mutating func memberString() -> String? {
        skipSpace()
        guard take(UInt8(ascii: ":")) else { return nil }
        skipSpace()
        guard position < line.count, line[position] == UInt8(ascii: "\""), let text = string(),
            let value = decoded(text)
        else { return nil }
        return value.isEmpty ? nil : value
    }

    /// Passes the string that starts here and returns the range between its quotes; nil if it does not end.
    private mutating func string() -> Range<Int>? {
        let start = position + 1
        var index = start
        while index < line.count {
            switch line[index] {
            case UInt8(ascii: "\\"):
                index += 2
            case UInt8(ascii: "\""):
                position = index + 1
                return start..<index
            default:
                index += 1
            }
        }
        return nil
    }

    private func isNamed(_ name: String, _ range: Range<Int>) -> Bool {
        let key = line[range]
        return key.contains(UInt8(ascii: "\\")) ? decoded(range) == name : key.elementsEqual(name.utf8)
    }

    private func decoded(_ range: Range<Int>) -> String? {
        let text = line[range]
        guard text.contains(UInt8(ascii: "\\")) else { return String(validating: text, as: UTF8.self) }
        // Escapes are rare enough to leave them to a real parser, with the quotes put back.
        let quoted = Data(line[range.lowerBound - 1..<range.upperBound + 1])
        return try? JSONSerialization.jsonObject(with: quoted, options: .fragmentsAllowed) as? String
    }

    private mutating func skipSpace() {
        while position < line.count, JSONSpace.contains(line[position]) { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < line.count, line[position] == byte else { return false }
        position += 1
        return true
    }
}
