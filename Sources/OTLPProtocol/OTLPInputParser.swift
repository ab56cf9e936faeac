// Turns a stream of telemetry into records while it arrives.
//
// The parser is pushed: whoever reads the input hands on each piece and gets the records that are complete by then, so
// memory holds one message and no more, and a slow source needs no thread of its own. The input is cut into units, each
// a JSON document, a line or a protobuf message, and each unit becomes records at once or fails as a whole.

import WALFormat

/// Reads OTLP or NDJSON from a stream of bytes.
///
/// NDJSON lines become opaque records as they are, without their line end; blank lines are passed over. An error ends
/// the parser: every later call throws it again, without records.
package struct OTLPInputParser: Sendable {
    /// 256 MiB, far above what receivers of OTLP take.
    package static let defaultMaximumMessageLength = 256 * 1024 * 1024

    /// Records of one request may take this many times the longest message.
    private static let recordExpansion = 4

    private let namedSignal: OTLPSignal?
    private let splitter: RequestSplitter
    private var reader: UnitReader
    /// The signal of the last request that showed one; others of the stream are taken to be of the same.
    private var lastSignal: OTLPSignal?
    private var failure: OTLPInputError?

    /// Costs nothing until bytes arrive.
    ///
    /// - Parameters:
    ///   - format: how the input is written; `automatic` settles it on the first bytes.
    ///   - signal: what the input carries; nil has each request show it. JSON names it, protobuf mostly gives it away.
    ///   - tenantAttribute: the attribute, or for NDJSON the field, whose value is the tenant.
    ///   - granularity: what becomes one record.
    ///   - maximumMessageLength: longest document, line or message that is accepted, in bytes; at least 1.
    package init(
        format: OTLPInputFormat, signal: OTLPSignal?, tenantAttribute: String, granularity: RecordGranularity,
        maximumMessageLength: Int = OTLPInputParser.defaultMaximumMessageLength
    ) {
        // Protobuf itself ends at 2 GiB.
        let maximum = min(max(maximumMessageLength, 1), Int(Int32.max))
        namedSignal = signal
        splitter = RequestSplitter(
            tenantAttribute: tenantAttribute, granularity: granularity, maximumTotal: maximum * Self.recordExpansion)
        reader = UnitReader(format: format, signal: signal, maximumLength: maximum)
    }

    /// Takes the next piece of the input, of any length, and returns the records that it completes.
    ///
    /// Throws on the first unit that cannot be read; the records of the same call that precede it are in the error.
    /// Costs one pass over the bytes and what decoding the units costs.
    package mutating func append(_ bytes: some Collection<UInt8>) throws(OTLPInputError) -> [OTLPRecord] {
        if let failure { throw failure }
        reader.append(bytes)
        return try drain(isAtEnd: false)
    }

    /// Ends the input and returns the records that were waiting for that. Throws if the input ends in the middle of a
    /// unit, otherwise as `append` does. Nothing may be appended after this.
    package mutating func finish() throws(OTLPInputError) -> [OTLPRecord] {
        if let failure { throw failure }
        return try drain(isAtEnd: true)
    }

    private mutating func drain(isAtEnd: Bool) throws(OTLPInputError) -> [OTLPRecord] {
        var records: [OTLPRecord] = []
        do throws(OTLPInputError) {
            while let unit = try reader.next(isAtEnd: isAtEnd) {
                records += try self.records(of: unit)
            }
        } catch {
            var located = error.located(offset: reader.unitOffset, place: reader.place)
            failure = located
            reader.discard()
            located.completedRecords = records
            throw located
        }
        return records
    }

    private mutating func records(of unit: UnitReader.Unit) throws(OTLPInputError) -> [OTLPRecord] {
        switch unit {
        case .line(let line):
            let tenant = TopLevelString.value(of: splitter.tenantAttribute, in: line)
            return [OTLPRecord(kind: .opaque, tenant: tenant, timestamp: 0, payload: line)]
        case .message(let message):
            let (records, signal) = try splitter.records(of: message, signal: namedSignal, fallback: lastSignal)
            lastSignal = signal ?? lastSignal
            return records
        case .document(let document, let signals, let hasKeys):
            try check(signals, hasKeys: hasKeys)
            var records: [OTLPRecord] = []
            for signal in signals {
                let request = try OTLPJSON.request(from: document, signal: signal)
                records += try splitter.records(of: request, signal: signal).records
            }
            return records
        }
    }

    /// Refuses documents of which a part would be passed over in silence.
    private func check(_ signals: [OTLPSignal], hasKeys: Bool) throws(OTLPInputError) {
        if signals.isEmpty, hasKeys {
            let keys = OTLPSignal.allCases.map(\.requestKey).joined(separator: ", ")
            throw OTLPInputError(.malformed, "a JSON document with none of the keys \(keys)")
        }
        if let namedSignal, let other = signals.first(where: { $0 != namedSignal }) {
            throw OTLPInputError(
                .malformed, "a JSON document with \(other.requestKey) where only \(namedSignal.rawValue) are expected")
        }
    }
}
