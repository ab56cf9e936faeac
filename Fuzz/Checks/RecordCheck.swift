import WALFormat

/// Takes bytes for a frame's body, a user's or a control frame's, that claims to hold as many records as the walk over
/// it finds.
func checkRecords(_ input: FuzzInput, isControl: Bool) throws(FuzzViolation) {
    try input.withCopy { (buffer) throws(FuzzViolation) in
        try checkRecords(Array(buffer), count: try walkedCount(buffer.bytes), isControl: isControl)
    }
}

/// Records that can be walked over from the start of a body.
func walkedCount(_ body: RawSpan) throws(FuzzViolation) -> Int {
    var (offset, count) = (0, 0)
    while offset < body.byteCount, let record = try? RecordHeader.decode(body, at: offset) {
        try require(record.payloadLength <= FormatLimits.maximumPayloadLength, "a payload's length is bounded")
        offset += RecordHeader.length + record.payloadLength
        try require(offset <= body.byteCount, "a record lies inside its body")
        count += 1
    }
    return count
}

/// A body either holds exactly the records announced, or is refused; control records come back when written again.
func checkRecords(_ body: [UInt8], count: Int, isControl: Bool) throws(FuzzViolation) {
    do { try CommitDecoder.checkRecords(in: body.span.bytes, count: count, isControl: isControl) } catch { return }
    try require(try walkedCount(body.span.bytes) == count, "a checked body holds the records announced")
    guard isControl, let records = try? ControlRecord.decodeAll(body.span.bytes, count: count) else { return }
    try require(records.count == count, "as many control records as announced")
    let length = records.reduce(0) { $0 + $1.length }
    try require(length <= body.count, "no control record is longer than what it was read from")
    var written = [UInt8](repeating: 0xEE, count: length)
    do {
        var span = written.mutableSpan
        var raw = span.mutableBytes
        var offset = 0
        for record in records {
            record.encode(into: &raw, at: offset, timestamp: 0)
            offset += record.length
        }
    }
    let again = try? ControlRecord.decodeAll(written.span.bytes, count: count)
    try require(again == records, "written control records come back")
}
