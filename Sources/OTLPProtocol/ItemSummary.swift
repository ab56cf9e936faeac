import Foundation
import SwiftProtobuf

/// What a record has to know of one item. Making it decodes the item in full and so also checks it.
struct ItemSummary {
    var timestamp: UInt64
    var identifier: String?
    /// The value of the tenant attribute of the item itself. Metrics have attributes on their data points only, which
    /// may well differ, so they have none.
    var tenant: String?

    /// Decodes an item of `signal`; throws what the decoder throws.
    init(_ bytes: [UInt8], signal: OTLPSignal, tenantAttribute: String) throws {
        let options = RequestSplitter.decodingOptions(depth: 3)
        switch signal {
        case .traces:
            let span = try Span(serializedBytes: bytes, options: options)
            timestamp = span.startTimeUnixNano
            identifier = span.spanID.isEmpty ? nil : Hexadecimal.text(of: span.spanID)
            tenant = TenantAttribute.value(of: tenantAttribute, in: span.attributes)
        case .logs:
            let record = try LogRecord(serializedBytes: bytes, options: options)
            timestamp = record.timeUnixNano != 0 ? record.timeUnixNano : record.observedTimeUnixNano
            tenant = TenantAttribute.value(of: tenantAttribute, in: record.attributes)
        case .metrics:
            timestamp = try Metric(serializedBytes: bytes, options: options).firstTime
        }
    }
}

extension Metric {
    /// The time of the first data point; 0 without one.
    fileprivate var firstTime: UInt64 {
        switch data {
        case .gauge(let gauge): gauge.dataPoints.first?.timeUnixNano ?? 0
        case .sum(let sum): sum.dataPoints.first?.timeUnixNano ?? 0
        case .histogram(let histogram): histogram.dataPoints.first?.timeUnixNano ?? 0
        case .exponentialHistogram(let histogram): histogram.dataPoints.first?.timeUnixNano ?? 0
        case .summary(let summary): summary.dataPoints.first?.timeUnixNano ?? 0
        case nil: 0
        }
    }
}
