// Protobuf does not say which message it is. The items of the three signals can still be told apart by the wire types
// of their fields: a span starts with IDs of 16 and 8 bytes, a log record has its time where the others have an ID or a
// name, and a metric has its name first and one of five kinds of data. A guess would send telemetry to the wrong place,
// so an item counts only if it fits one signal and no other.

/// Tells which signal the items of a request belong to.
enum SignalDetector {
    /// Items that show nothing, such as empty ones, are passed over; after this many the search ends.
    private static let maximumItems = 64

    /// The signal of the first item that fits just one; nil if none does.
    static func signal(of items: [Range<Int>], in bytes: [UInt8]) -> OTLPSignal? {
        for item in items.prefix(maximumItems) {
            let candidates = signals(of: item, in: bytes)
            if candidates.count == 1 { return candidates[0] }
        }
        return nil
    }

    private static func signals(of item: Range<Int>, in bytes: [UInt8]) -> [OTLPSignal] {
        var candidates = OTLPSignal.allCases
        var evidence = Evidence()
        var reader = WireReader(bytes, in: item)
        do {
            while let field = try reader.next() {
                candidates.removeAll { signal in
                    guard let expected = wireType(of: field.number, in: signal) else { return false }
                    return expected != field.wireType
                }
                evidence.add(field)
            }
        } catch {
            return []
        }
        return candidates.filter(evidence.supports)
    }

    /// The fields without which an item is no sign of its signal.
    private struct Evidence {
        private var traceIDIsFull = false
        private var spanIDIsFull = false
        private var hasLogField = false
        private var hasName = false
        private var hasMetricData = false

        mutating func add(_ field: WireReader.Field) {
            switch (field.number, field.wireType) {
            case (1, .lengthDelimited):
                traceIDIsFull = field.value.count == 16
                hasName = true
            case (2, .lengthDelimited):
                spanIDIsFull = field.value.count == 8
            case (1, .fixed64), (11, .fixed64), (2, .varint):
                hasLogField = true
            case (5, .lengthDelimited), (7, .lengthDelimited), (9, .lengthDelimited), (10, .lengthDelimited),
                (11, .lengthDelimited):
                hasMetricData = true
            default:
                break
            }
        }

        func supports(_ signal: OTLPSignal) -> Bool {
            switch signal {
            case .traces: traceIDIsFull && spanIDIsFull
            case .logs: hasLogField
            case .metrics: hasName && hasMetricData
            }
        }
    }

    /// The wire type a field has in items of `signal`; nil for fields OTLP does not define there.
    private static func wireType(of number: Int, in signal: OTLPSignal) -> WireReader.WireType? {
        switch signal {
        case .traces:
            switch number {
            case 1...5, 9, 11, 13, 15: .lengthDelimited
            case 6, 10, 12, 14: .varint
            case 7, 8: .fixed64
            case 16: .fixed32
            default: nil
            }
        case .logs:
            switch number {
            case 3, 5, 6, 9, 10, 12: .lengthDelimited
            case 2, 7: .varint
            case 1, 11: .fixed64
            case 8: .fixed32
            default: nil
            }
        case .metrics:
            switch number {
            case 1, 2, 3, 5, 7, 9, 10, 11, 12: .lengthDelimited
            default: nil
            }
        }
    }
}
