// Cuts the input into units. The format, unless it was named, is settled on the first bytes; from then on one framing
// says where a unit ends: the end of a JSON document, of a line, of the length before a message, or of the input.

/// Holds what has arrived of the input and hands it out unit by unit.
struct UnitReader: Sendable {
    enum Unit {
        /// A JSON object and what its keys tell.
        case document([UInt8], signals: [OTLPSignal], hasKeys: Bool)
        /// A line without its end; never blank.
        case line([UInt8])
        /// A protobuf message without its length.
        case message([UInt8])
    }

    private enum Framing {
        case undecided
        /// JSON for certain, but the first document has not shown yet whether it is OTLP.
        case undecidedText(JSONDocumentScanner)
        case undecidedBinary(allowsBody: Bool)
        case documents(JSONDocumentScanner)
        case lines(LineScanner)
        case delimited(LengthPrefix)
        case body
    }

    /// Spaces that may precede the first document; they are looked at again with each piece of the input.
    private static let longestStart = 64 * 1024

    /// Where the unit starts that was handed out last, or that is at fault.
    private(set) var unitOffset: UInt64 = 0

    private let signal: OTLPSignal?
    private let maximumLength: Int
    private var framing: Framing
    private var buffer = InputBuffer()
    /// Text may start with a byte order mark, which is dropped.
    private var expectsMark: Bool
    /// How much the buffer has to hold before another look at its framing pays.
    private var nextDetection = 1
    /// Line or message the unit starts in, and the next one.
    private var unitNumber = 1
    private var nextNumber = 1

    init(format: OTLPInputFormat, signal: OTLPSignal?, maximumLength: Int) {
        self.signal = signal
        self.maximumLength = maximumLength
        expectsMark = format == .json || format == .ndjson
        framing =
            switch format {
            case .automatic: .undecided
            case .json: .documents(JSONDocumentScanner())
            case .protobuf: .body
            case .delimited: .undecidedBinary(allowsBody: false)
            case .ndjson: .lines(LineScanner())
            }
    }

    /// The unit in the terms of its format.
    var place: OTLPInputError.Place? {
        switch framing {
        case .documents, .lines, .undecidedText: .line(unitNumber)
        case .delimited: .message(unitNumber)
        case .undecided, .undecidedBinary, .body: nil
        }
    }

    mutating func append(_ bytes: some Collection<UInt8>) { buffer.append(bytes) }

    /// Frees what is left of the input.
    mutating func discard() { buffer = InputBuffer() }

    /// The next unit, or nil if it takes more input. At the end, nil means that nothing is left.
    mutating func next(isAtEnd: Bool) throws(OTLPInputError) -> Unit? {
        unitOffset = buffer.offset
        while true {
            switch framing {
            case .undecided:
                guard try decideEncoding(isAtEnd: isAtEnd) else { return nil }
            case .undecidedText(let scanner):
                guard try decideText(scanner, isAtEnd: isAtEnd) else { return nil }
            case .undecidedBinary(let allowsBody):
                guard try decideBinary(allowsBody: allowsBody, isAtEnd: isAtEnd) else { return nil }
            case .documents(let scanner):
                guard skipMark(isAtEnd: isAtEnd) else { return nil }
                return try nextDocument(scanner, isAtEnd: isAtEnd)
            case .lines(let scanner):
                guard skipMark(isAtEnd: isAtEnd) else { return nil }
                return try nextLine(scanner, isAtEnd: isAtEnd)
            case .delimited(let prefix):
                return try nextMessage(prefix, isAtEnd: isAtEnd)
            case .body:
                try check(length: buffer.count, of: "an export request")
                return isAtEnd && buffer.count > 0 ? .message(buffer.take(buffer.count)) : nil
            }
        }
    }

    private func check(length: Int, of what: String) throws(OTLPInputError) {
        guard length <= maximumLength else {
            throw OTLPInputError(.tooLong, "\(what) of more than \(maximumLength) bytes")
        }
    }
}

// MARK: - Settling the format; each returns false if it takes more input

extension UnitReader {
    private mutating func skipMark(isAtEnd: Bool) -> Bool {
        guard expectsMark else { return true }
        guard let length = TextSniffer.byteOrderMarkLength(buffer) ?? (isAtEnd ? 0 : nil) else { return false }
        buffer.skip(length)
        unitOffset = buffer.offset
        expectsMark = false
        return true
    }

    private mutating func decideEncoding(isAtEnd: Bool) throws(OTLPInputError) -> Bool {
        switch TextSniffer.look(at: buffer) {
        case .json:
            expectsMark = true
            framing = .undecidedText(JSONDocumentScanner())
        case .binary:
            framing = .undecidedBinary(allowsBody: true)
        case .undecided:
            guard buffer.count <= Self.longestStart else {
                throw OTLPInputError(.unknownFormat, "input that starts with nothing but spaces")
            }
            guard isAtEnd else { return false }
            // Only spaces, which make no record, or a document that stops at its start.
            expectsMark = true
            framing = .documents(JSONDocumentScanner())
        }
        return true
    }

    private mutating func decideText(_ scanner: JSONDocumentScanner, isAtEnd: Bool) throws(OTLPInputError) -> Bool {
        guard skipMark(isAtEnd: isAtEnd) else { return false }
        var scanner = scanner
        let progress = scanner.scan(buffer)
        if !scanner.signals.isEmpty {
            framing = .documents(JSONDocumentScanner())
            return true
        }
        switch progress {
        case .complete(let length):
            try check(length: length, of: "a JSON document")
            framing = .lines(LineScanner())
            return true
        case .malformed:
            // Had it come in smaller pieces, it would have been too long before.
            try check(length: scanner.scanned, of: "a JSON document")
            throw OTLPInputError(.unknownFormat, "text that starts like a JSON object and is none")
        case .incomplete:
            guard !isAtEnd else { throw OTLPInputError(.truncated, "a JSON document that does not end") }
            try check(length: buffer.count, of: "a JSON document")
            framing = .undecidedText(scanner)
            return false
        }
    }

    private mutating func decideBinary(allowsBody: Bool, isAtEnd: Bool) throws(OTLPInputError) -> Bool {
        // An empty request is four zero bytes for either order of bytes, and so tells nothing.
        while buffer.bytes[buffer.range].prefix(4).elementsEqual([0, 0, 0, 0]) {
            buffer.skip(4)
            unitOffset = buffer.offset
            nextNumber += 1
        }
        guard buffer.count > 0, isAtEnd || buffer.count >= nextDetection else { return false }
        let detection = BinaryFraming.detect(
            buffer, isAtEnd: isAtEnd, allowsBody: allowsBody, signal: signal, maximum: maximumLength)
        switch detection {
        case .found(.delimited(let prefix)):
            framing = .delimited(prefix)
            return true
        case .found(.body):
            framing = .body
            return true
        case .needs(let count):
            // Looking again at each byte would cost the square of the length.
            nextDetection = min(2 * buffer.count, count)
            return false
        case .unknown where allowsBody:
            let isCompressed = buffer.bytes[buffer.range].starts(with: [0x1F, 0x8B])
            throw OTLPInputError(
                .unknownFormat,
                isCompressed
                    ? "input in gzip, which has to be unpacked first" : "input that is neither JSON nor OTLP")
        case .unknown:
            throw OTLPInputError(.malformed, "input that does not start with a length and an export request")
        }
    }
}

// MARK: - Reading units

extension UnitReader {
    private mutating func nextDocument(
        _ scanner: JSONDocumentScanner, isAtEnd: Bool
    ) throws(OTLPInputError) -> Unit? {
        var scanner = scanner
        if scanner.isAtStart {
            while buffer.count > 0, JSONSpace.contains(buffer.bytes[buffer.start]) {
                if buffer.bytes[buffer.start] == UInt8(ascii: "\n") { nextNumber += 1 }
                buffer.skip(1)
            }
        }
        unitOffset = buffer.offset
        unitNumber = nextNumber
        guard buffer.count > 0 else { return nil }
        switch scanner.scan(buffer) {
        case .complete(let length):
            try check(length: length, of: "a JSON document")
            nextNumber += scanner.lineBreaks
            framing = .documents(JSONDocumentScanner())
            return .document(buffer.take(length), signals: scanner.signals, hasKeys: scanner.hasKeys)
        case .malformed:
            try check(length: scanner.scanned, of: "a JSON document")
            throw OTLPInputError(.malformed, "something other than a JSON object, or one with unmatched brackets")
        case .incomplete:
            guard !isAtEnd else { throw OTLPInputError(.truncated, "a JSON document that does not end") }
            try check(length: buffer.count, of: "a JSON document")
            framing = .documents(scanner)
            return nil
        }
    }

    private mutating func nextLine(_ scanner: LineScanner, isAtEnd: Bool) throws(OTLPInputError) -> Unit? {
        var scanner = scanner
        while true {
            unitOffset = buffer.offset
            unitNumber = nextNumber
            let whole = scanner.scan(buffer)
            try check(length: whole ?? buffer.count, of: "a line")
            guard let length = whole ?? (isAtEnd && buffer.count > 0 ? buffer.count : nil) else {
                framing = .lines(scanner)
                return nil
            }
            var line = buffer.take(length)
            scanner = LineScanner()
            nextNumber += 1
            if line.last == UInt8(ascii: "\n") { line.removeLast() }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if !line.allSatisfy(JSONSpace.contains) {
                framing = .lines(scanner)
                return .line(line)
            }
        }
    }

    private mutating func nextMessage(_ prefix: LengthPrefix, isAtEnd: Bool) throws(OTLPInputError) -> Unit? {
        while true {
            unitOffset = buffer.offset
            unitNumber = nextNumber
            guard buffer.count > 0 else { return nil }
            switch prefix.read(buffer.bytes, in: buffer.range, maximum: maximumLength) {
            case .invalid:
                throw OTLPInputError(.tooLong, "a message whose length is given as more than \(maximumLength) bytes")
            case .message(let prefixLength, let length) where buffer.count - prefixLength >= length:
                buffer.skip(prefixLength)
                nextNumber += 1
                // An empty request is valid and holds nothing.
                if length > 0 { return .message(buffer.take(length)) }
            case .message, .incomplete:
                guard !isAtEnd else { throw OTLPInputError(.truncated, "a message that is cut off") }
                return nil
            }
        }
    }
}
