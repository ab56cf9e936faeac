import WALFormat

/// One of the three kinds of telemetry that OTLP carries, each with its own request message and HTTP path.
package enum OTLPSignal: String, CaseIterable, Sendable {
    case traces
    case logs
    case metrics

    /// The signal whose requests records of this kind hold; nil for opaque records, which are no OTLP.
    package init?(kind: RecordKind) {
        switch kind {
        case .span: self = .traces
        case .log: self = .logs
        case .metric: self = .metrics
        default: return nil
        }
    }

    /// The signal that is exported to this HTTP path, which has to be exact; nil for any other path.
    package init?(httpPath: String) {
        guard let signal = Self.allCases.first(where: { $0.httpPath == httpPath }) else { return nil }
        self = signal
    }

    /// The kind of the records that hold requests of this signal.
    package var kind: RecordKind {
        switch self {
        case .traces: .span
        case .logs: .log
        case .metrics: .metric
        }
    }

    /// The path of an OTLP/HTTP receiver that takes this signal.
    package var httpPath: String { "/v1/\(rawValue)" }

    /// The only field of the request, as OTLP/JSON spells it.
    var requestKey: String {
        switch self {
        case .traces: "resourceSpans"
        case .logs: "resourceLogs"
        case .metrics: "resourceMetrics"
        }
    }

    /// The same field with its name of the .proto file, which JSON readers of protobuf have to accept as well.
    var requestProtoKey: String {
        switch self {
        case .traces: "resource_spans"
        case .logs: "resource_logs"
        case .metrics: "resource_metrics"
        }
    }

    /// What one item is called in a message to the user.
    var itemName: String {
        switch self {
        case .traces: "span"
        case .logs: "log record"
        case .metrics: "metric"
        }
    }
}
