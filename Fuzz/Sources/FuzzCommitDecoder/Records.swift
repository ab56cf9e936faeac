import WALFormat

/// Takes bytes for a control frame's body that claims to hold as many records as the walk over it finds.
func checkControlRecords(_ input: Input) {
    input.withCopy { checkRecords(Array($0), count: walkedCount($0.bytes), isControl: true) }
}

/// The same for a user's frame.
func checkRecords(_ input: Input) {
    input.withCopy { checkRecords(Array($0), count: walkedCount($0.bytes), isControl: false) }
}

/// Records that can be walked over from the start of a body.
private func walkedCount(_ body: RawSpan) -> Int {
    var (offset, count) = (0, 0)
    while offset < body.byteCount, let record = try? RecordHeader.decode(body, at: offset) {
        require(record.payloadLength <= FormatLimits.maximumPayloadLength, "a payload's length is bounded")
        offset += RecordHeader.length + record.payloadLength
        require(offset <= body.byteCount, "a record lies inside its body")
        count += 1
    }
    return count
}

/// A body either holds exactly the records announced, or is refused; control records come back when written again.
func checkRecords(_ body: [UInt8], count: Int, isControl: Bool) {
    do { try CommitDecoder.checkRecords(in: body.span.bytes, count: count, isControl: isControl) } catch { return }
    require(walkedCount(body.span.bytes) == count, "a checked body holds the records announced")
    guard isControl, let records = try? ControlRecord.decodeAll(body.span.bytes, count: count) else { return }
    require(records.count == count, "as many control records as announced")
    let length = records.reduce(0) { $0 + $1.length }
    require(length <= body.count, "no control record is longer than what it was read from")
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
    require(again == records, "written control records come back")
}
