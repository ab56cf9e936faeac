// Trace and span IDs in JSON.
//
// OTLP/JSON writes IDs in hex, while protobuf's JSON mapping, which the decoder follows, has base64 for all bytes. Hex
// digits are base64 digits too, and 32 or 16 of them are a whole number of groups of four: so the decoder reads an ID
// without complaint, only into other bytes, 24 or 12 of them, whose base64 is the hex text. Writing those bytes as
// base64 again gives the text back, and the text gives the ID. The same backwards makes an encoder that only knows
// base64 write hex. No text needs to be searched and replaced, and nothing is lost on the way.

import Foundation
import SwiftProtobuf

/// Changes the IDs of a request between their true bytes and those that stand for hex in protobuf's JSON mapping.
enum JSONIdentifiers {
    /// An ID is neither 32 or 16 hex digits nor unmistakably base64.
    struct Invalid: Error {}

    /// After the decoder: from the bytes that hex was read as to the true ones.
    ///
    /// Base64 is against the OTLP specification but what protobuf libraries write by default. It is accepted where it
    /// cannot be anything else: if it decodes to 16 or 8 bytes and its text has a character that is no hex digit. A hex
    /// text that lost some of its digits never passes.
    static func fromJSON(_ identifier: inout Data, length: Int) throws(Invalid) {
        if identifier.isEmpty { return }
        let text = identifier.base64EncodedData()
        if identifier.count == length * 3 / 2 {
            guard let bytes = Hexadecimal.bytes(of: text) else { throw Invalid() }
            identifier = Data(bytes)
        } else {
            // Of the last character, only some bits were read, so it may have come back as another.
            let isHexLike = text.prefix { $0 != UInt8(ascii: "=") }.dropLast().allSatisfy(Hexadecimal.isDigit)
            guard identifier.count == length, !isHexLike else { throw Invalid() }
        }
    }

    /// Before the encoder: from the true bytes to those whose base64 is their lowercase hex. An ID with an odd number
    /// of bytes, which no valid sender makes, has no such bytes and is left to be written as base64.
    static func toJSON(_ identifier: inout Data, length: Int) {
        guard identifier.count.isMultiple(of: 2), let standIn = Data(base64Encoded: Hexadecimal.text(of: identifier))
        else { return }
        identifier = standIn
    }
}

/// A request whose IDs can be visited.
protocol IdentifierHolder: Message {
    /// Calls `body` on each ID with the length it should have in bytes.
    mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure)
}

private let traceIDLength = 16
private let spanIDLength = 8

extension TraceRequest: IdentifierHolder {
    mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        for resource in resourceSpans.indices {
            for scope in resourceSpans[resource].scopeSpans.indices {
                for span in resourceSpans[resource].scopeSpans[scope].spans.indices {
                    try resourceSpans[resource].scopeSpans[scope].spans[span].forEachIdentifier(body)
                }
            }
        }
    }
}

extension Span {
    fileprivate mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        try body(&traceID, traceIDLength)
        try body(&spanID, spanIDLength)
        try body(&parentSpanID, spanIDLength)
        for link in links.indices {
            try body(&links[link].traceID, traceIDLength)
            try body(&links[link].spanID, spanIDLength)
        }
    }
}

extension LogsRequest: IdentifierHolder {
    mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        for resource in resourceLogs.indices {
            for scope in resourceLogs[resource].scopeLogs.indices {
                for record in resourceLogs[resource].scopeLogs[scope].logRecords.indices {
                    try body(
                        &resourceLogs[resource].scopeLogs[scope].logRecords[record].traceID, traceIDLength)
                    try body(
                        &resourceLogs[resource].scopeLogs[scope].logRecords[record].spanID, spanIDLength)
                }
            }
        }
    }
}

extension MetricsRequest: IdentifierHolder {
    mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        for resource in resourceMetrics.indices {
            for scope in resourceMetrics[resource].scopeMetrics.indices {
                for metric in resourceMetrics[resource].scopeMetrics[scope].metrics.indices {
                    try resourceMetrics[resource].scopeMetrics[scope].metrics[metric].forEachIdentifier(body)
                }
            }
        }
    }
}

extension Metric {
    /// IDs occur in the exemplars of data points; summaries have none.
    fileprivate mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        switch data {
        case .gauge:
            for point in gauge.dataPoints.indices { try gauge.dataPoints[point].exemplars.forEachIdentifier(body) }
        case .sum:
            for point in sum.dataPoints.indices { try sum.dataPoints[point].exemplars.forEachIdentifier(body) }
        case .histogram:
            for point in histogram.dataPoints.indices {
                try histogram.dataPoints[point].exemplars.forEachIdentifier(body)
            }
        case .exponentialHistogram:
            for point in exponentialHistogram.dataPoints.indices {
                try exponentialHistogram.dataPoints[point].exemplars.forEachIdentifier(body)
            }
        case .summary, nil:
            break
        }
    }
}

extension [Exemplar] {
    fileprivate mutating func forEachIdentifier<Failure: Error>(
        _ body: (inout Data, Int) throws(Failure) -> Void
    ) throws(Failure) {
        for index in indices {
            try body(&self[index].traceID, traceIDLength)
            try body(&self[index].spanID, spanIDLength)
        }
    }
}
