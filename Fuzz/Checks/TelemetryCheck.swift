import OTLPProtocol
import WALFormat

// One input is a byte that chooses how it is read, and the telemetry:
//
//   bit 0        granularity: 0: a record an item, 1: a record a resource
//   bits 1 and 2 signal: not named, or which
//   bits 3 and 4 length of the pieces in which it arrives the second time
//   bit 5        longest message: 1: 256 bytes, 0: the default

/// What came of an input.
private struct Outcome: Equatable {
    var records: [OTLPRecord] = []
    var reason: OTLPInputError.Reason?
    var offset: UInt64?
    var place: OTLPInputError.Place?
}

private struct Reading {
    let granularity: RecordGranularity
    let signal: OTLPSignal?
    let pieceLength: Int
    let maximum: Int

    init(_ choice: UInt8) {
        granularity = choice & 1 == 0 ? .item : .resource
        let signals: [OTLPSignal?] = [nil, .traces, .logs, .metrics]
        signal = signals[Int(choice >> 1 & 3)]
        pieceLength = [1, 3, 61, 1024][Int(choice >> 3 & 3)]
        maximum = choice & 32 == 0 ? OTLPInputParser.defaultMaximumMessageLength : 256
    }

    static let tenantAttribute = "tenant.id"

    /// Reads input that arrives in pieces of so many bytes, as walctl does: records that precede a fault count.
    func outcome(of bytes: ArraySlice<UInt8>, format: OTLPInputFormat, pieceLength: Int) -> Outcome {
        var parser = OTLPInputParser(
            format: format, signal: signal, tenantAttribute: Self.tenantAttribute, granularity: granularity,
            maximumMessageLength: maximum)
        var outcome = Outcome()
        do throws(OTLPInputError) {
            var start = bytes.startIndex
            while start < bytes.endIndex {
                let end = min(start + pieceLength, bytes.endIndex)
                outcome.records += try parser.append(bytes[start..<end])
                start = end
            }
            outcome.records += try parser.finish()
        } catch {
            outcome.records += error.completedRecords
            outcome.reason = error.reason
            outcome.offset = error.offset
            outcome.place = error.place
        }
        return outcome
    }
}

/// Reads telemetry at once and in pieces, which must make no difference; each record stands for itself, and can be
/// written as JSON.
func checkTelemetry(_ bytes: [UInt8], _ format: OTLPInputFormat) throws(FuzzViolation) {
    let reading = Reading(bytes.first ?? 0)
    let input = bytes.dropFirst()
    let outcome = reading.outcome(of: input, format: format, pieceLength: max(1, input.count))
    let inPieces = reading.outcome(of: input, format: format, pieceLength: reading.pieceLength)
    try require(inPieces.records == outcome.records, "how input is cut up does not change its records")
    try require(inPieces.reason == outcome.reason, "nor what is wrong with it")
    if outcome.reason != nil {
        try require(inPieces.offset == outcome.offset && inPieces.place == outcome.place, "nor where that is")
        try require(outcome.offset.map { $0 <= UInt64(input.count) } ?? false, "a fault lies in the input")
    }
    if format == .ndjson { try checkLines(outcome, reading, input) }
    for record in outcome.records { try checkRecord(record, reading) }
}

/// A record's payload is a request of its own, from which the same record comes; it has a JSON form.
private func checkRecord(_ record: OTLPRecord, _ reading: Reading) throws(FuzzViolation) {
    guard let signal = OTLPSignal(kind: record.kind) else {
        try require(record.timestamp == 0 && record.identifier == nil, "an opaque record has a payload only")
        try checkLine(record.kind, record.payload)
        return
    }
    var parser = OTLPInputParser(
        format: .protobuf, signal: signal, tenantAttribute: Reading.tenantAttribute, granularity: reading.granularity)
    let again: [OTLPRecord]
    do throws(OTLPInputError) { again = try parser.append(record.payload) + parser.finish() } catch {
        throw FuzzViolation(description: "violated: a payload is a request: \(error)")
    }
    try require(again == [record], "a record's payload gives that record")
    try checkLine(record.kind, record.payload)
}

/// Opaque records are the lines of the input, without their ends and without blank ones.
private func checkLines(_ outcome: Outcome, _ reading: Reading, _ input: ArraySlice<UInt8>) throws(FuzzViolation) {
    if outcome.reason != nil {
        try require(
            outcome.reason == .tooLong && input.count > reading.maximum, "a line is refused for its length only")
        return
    }
    let start = input.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    var expected: [[UInt8]] = []
    for line in input.dropFirst(start).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true) {
        let kept = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        if !kept.allSatisfy({ [0x20, 0x09, 0x0A, 0x0D].contains($0) }) { expected.append(Array(kept)) }
    }
    try require(outcome.records.map(\.payload) == expected, "a line's record is the line")
    try require(outcome.records.allSatisfy { $0.kind == .opaque && $0.tenant != "" }, "lines are opaque records")
}
