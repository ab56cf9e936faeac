// Finds where a JSON document ends, without parsing it.
//
// Strings and brackets are tracked over the bytes as they come; the document ends with the bracket that closes the
// first. That one rule covers a pretty-printed document, JSON lines and documents behind each other. On the way the
// scanner notes which of OTLP's keys the outermost object has, which tells the signal. Whether all else in the document
// is valid is left to the decoder.

/// Scans one document; the state is kept between calls, so that each byte is looked at once.
struct JSONDocumentScanner: Sendable {
    enum Progress: Equatable {
        case incomplete
        /// The document takes this many bytes from the start of the buffer.
        case complete(length: Int)
        /// What starts here is no object, or has brackets that do not match.
        case malformed
    }

    /// Signals whose key the outermost object has, in the order of appearance.
    private(set) var signals: [OTLPSignal] = []

    /// Whether the outermost object has any key at all.
    private(set) var hasKeys = false

    /// Line breaks within what was scanned.
    private(set) var lineBreaks = 0

    /// No key that matters is longer.
    private static let longestKey = 32

    /// Far deeper than the decoder follows.
    private static let maximumDepth = 1000

    /// Whether nothing was scanned yet.
    var isAtStart: Bool { scanned == 0 }

    /// Bytes that were looked at.
    private(set) var scanned = 0
    /// The brackets that have to come, the next one last.
    private var closers: [UInt8] = []
    private var isInString = false
    private var isEscaped = false
    private var expectsKey = false
    private var key: [UInt8] = []

    /// Continues to the end of the document or of the buffer.
    mutating func scan(_ buffer: InputBuffer) -> Progress {
        let bytes = buffer.bytes
        var index = buffer.start + scanned
        let end = bytes.count
        defer { scanned = index - buffer.start }
        while index < end {
            let byte = bytes[index]
            index += 1
            if isInString {
                scanString(byte)
                continue
            }
            switch byte {
            case UInt8(ascii: "\""):
                guard !closers.isEmpty else { return .malformed }
                isInString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                let isObject = byte == UInt8(ascii: "{")
                guard isObject || !closers.isEmpty, closers.count < Self.maximumDepth else { return .malformed }
                closers.append(isObject ? UInt8(ascii: "}") : UInt8(ascii: "]"))
                expectsKey = closers.count == 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard closers.popLast() == byte else { return .malformed }
                if closers.isEmpty { return .complete(length: index - buffer.start) }
            case UInt8(ascii: ","):
                expectsKey = closers.count == 1
            case UInt8(ascii: "\n"):
                lineBreaks += 1
            default:
                guard !closers.isEmpty || JSONSpace.contains(byte) else { return .malformed }
            }
        }
        return .incomplete
    }

    private mutating func scanString(_ byte: UInt8) {
        if isEscaped {
            isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
            isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
            isInString = false
            if expectsKey { endKey() }
            return
        } else if byte == UInt8(ascii: "\n") {
            lineBreaks += 1
        }
        if expectsKey, key.count <= Self.longestKey { key.append(byte) }
    }

    private mutating func endKey() {
        expectsKey = false
        hasKeys = true
        for signal in OTLPSignal.allCases
        where key.elementsEqual(signal.requestKey.utf8) || key.elementsEqual(signal.requestProtoKey.utf8) {
            if !signals.contains(signal) { signals.append(signal) }
        }
        key.removeAll(keepingCapacity: true)
    }
}
