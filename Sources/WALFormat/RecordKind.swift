/// What a record's payload is. Zero is never a kind, so that zeroed bytes are never a record.
public enum RecordKind: UInt8, Sendable, CaseIterable, Hashable, CustomStringConvertible {
    /// An OTLP `ExportTraceServiceRequest` fragment (its `ResourceSpans`).
    case span = 1
    /// An OTLP `ExportLogsServiceRequest` fragment.
    case log = 2
    /// An OTLP `ExportMetricsServiceRequest` fragment.
    case metric = 3
    /// Bytes that mean something to their owner only.
    case opaque = 4

    public var description: String {
        switch self {
        case .span: "span"
        case .log: "log"
        case .metric: "metric"
        case .opaque: "opaque"
        }
    }
}

/// The set of kinds that a frame holds, as its header stores it: one bit a kind, so that a reader can pass over
/// frames without opening them.
public struct RecordKindSet: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The set of one kind.
    @inlinable
    public init(_ kind: RecordKind) { rawValue = 1 << (kind.rawValue - 1) }

    /// The engine's own records: cursors, checkpoints, watermarks. Never together with others.
    public static let control = RecordKindSet(rawValue: 0x80)
    /// Every kind that users append.
    public static let user = RecordKindSet(rawValue: 0x0F)

    /// The kinds in the set, in order of their numbers.
    public var kinds: [RecordKind] { RecordKind.allCases.filter { contains(RecordKindSet($0)) } }
}
