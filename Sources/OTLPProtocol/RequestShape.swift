// The three signals differ in their items only. Around them, every export request is built alike: field 1 of the
// request is a resource with its scopes, field 2 of that a scope with its items, field 2 of that an item. In both,
// field 1 is the resource or scope itself and field 3 its schema URL. So one walk serves all three.

/// Where the parts of an export request lie in its bytes.
struct RequestShape {
    /// A message that wraps others: its own fields, and where the wrapped ones are.
    struct Envelope {
        /// The whole message without tag and length.
        var range: Range<Int>
        /// Fields that precede the wrapped messages in the order of field numbers, copied.
        var head: [UInt8] = []
        /// All other fields, unknown ones among them, copied.
        var tail: [UInt8] = []
        /// The wrapped messages without tag and length.
        var children: [Range<Int>] = []
        /// Whether a field that OTLP defines has another wire type than OTLP gives it.
        var isOdd = false
        /// Whether there is a field that OTLP does not define.
        var hasUnknownFields = false

        /// Reads `range` of `bytes`, in which the wrapped messages are field `number`.
        /// Each of those takes one from `budget`; the walk ends when that is used up.
        init(
            _ bytes: [UInt8], in range: Range<Int>, wrapping number: Int, budget: inout Int
        ) throws(WireReader.Malformed) {
            self.range = range
            var reader = WireReader(bytes, in: range)
            while let field = try reader.next() {
                if field.number == number, field.wireType == .lengthDelimited {
                    budget -= 1
                    guard budget >= 0 else { throw WireReader.Malformed() }
                    children.append(field.value)
                } else if field.number < number {
                    head += bytes[field.whole]
                } else {
                    tail += bytes[field.whole]
                }
                if field.number > RequestShape.highestEnvelopeField {
                    hasUnknownFields = true
                } else if field.wireType != .lengthDelimited {
                    isOdd = true
                }
            }
        }
    }

    private static let highestEnvelopeField = 3

    /// A part takes two bytes at least on the wire and a hundred in memory, so a message made of nothing else has to be
    /// refused. Real requests of the size that a parser may keep stay far below.
    private static let maximumParts = 4_000_000

    /// The request itself; its children are the resources.
    let request: Envelope
    /// One for each resource; the children are its scopes.
    let resources: [Envelope]
    /// One list for each resource, in it one for each scope; the children are the items.
    let scopes: [[Envelope]]

    /// Walks `range` of `bytes` down to the items, which it does not look into.
    init(_ bytes: [UInt8], in range: Range<Int>) throws(OTLPInputError) {
        var budget = Self.maximumParts
        request = try Self.envelope(bytes, range, wrapping: 1, budget: &budget)
        var resources: [Envelope] = []
        var scopes: [[Envelope]] = []
        for child in request.children {
            let resource = try Self.envelope(bytes, child, wrapping: 2, budget: &budget)
            var inner: [Envelope] = []
            for child in resource.children {
                inner.append(try Self.envelope(bytes, child, wrapping: 2, budget: &budget))
            }
            resources.append(resource)
            scopes.append(inner)
        }
        self.resources = resources
        self.scopes = scopes
    }

    private static func envelope(
        _ bytes: [UInt8], _ range: Range<Int>, wrapping number: Int, budget: inout Int
    ) throws(OTLPInputError) -> Envelope {
        do {
            return try Envelope(bytes, in: range, wrapping: number, budget: &budget)
        } catch {
            if budget < 0 {
                throw OTLPInputError(.tooLong, "an export request of more than \(maximumParts) parts")
            }
            throw OTLPInputError(.malformed, "an export request that is no valid protobuf")
        }
    }

    /// Whether this is certainly meant as a request: at least one resource, nothing unknown beside it, and all known
    /// fields of the right type.
    var isPlausible: Bool {
        !request.children.isEmpty && request.head.isEmpty && request.tail.isEmpty
            && !resources.contains(where: \.isOdd)
            && !scopes.contains { $0.contains(where: \.isOdd) }
    }

    /// All items of the request, in their order.
    var items: [Range<Int>] { scopes.flatMap { $0.flatMap(\.children) } }
}
