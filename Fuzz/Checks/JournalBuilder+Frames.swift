import TelemetryWAL
import WALFormat

/// Frames before they are encoded: a header, and the records as they are.
extension JournalBuilder {
    func controlFrame(_ records: [ControlRecord]) -> (FrameHeader, [UInt8]) {
        var body = [UInt8](repeating: 0, count: records.reduce(0) { $0 + $1.length })
        body.withMutableRawSpan { (span: inout MutableRawSpan) in
            var offset = 0
            for record in records {
                record.encode(into: &span, at: offset, timestamp: 2)
                offset += record.length
            }
        }
        return (frameHeader(nil, .control, 0, count: records.count), body)
    }

    func userFrame(
        _ tenant: TenantName, _ first: UInt64, count: Int, length: Int, _ kind: RecordKind
    ) -> (FrameHeader, [UInt8]) {
        if marksRecords { return markedFrame(tenant, first, count: count, length: length, kind) }
        var body = [UInt8](repeating: UInt8(truncatingIfNeeded: first), count: count * (RecordHeader.length + length))
        body.withMutableRawSpan { (span: inout MutableRawSpan) in
            for number in 0..<count {
                RecordHeader(payloadLength: length, kind: kind.rawValue, timestamp: 3)
                    .encode(into: &span, at: number * (RecordHeader.length + length))
            }
        }
        return (frameHeader(tenant, RecordKindSet(kind), first, count: count), body)
    }

    /// The same with records that differ from each other and from anybody else's.
    private func markedFrame(
        _ tenant: TenantName, _ first: UInt64, count: Int, length: Int, _ kind: RecordKind
    ) -> (FrameHeader, [UInt8]) {
        let sequences = first...first + UInt64(count) - 1
        var body: [UInt8] = []
        for sequence in sequences {
            let start = body.count
            body += [UInt8](repeating: 0, count: RecordHeader.length)
            body.withMutableRawSpan { (span: inout MutableRawSpan) in
                RecordHeader(payloadLength: length, kind: kind.rawValue, timestamp: RecordMark.time(sequence))
                    .encode(into: &span, at: start)
            }
            body += RecordMark(of: tenant, sequence).payload(length: length)
        }
        let times = sequences.map(RecordMark.time)
        let header = frameHeader(
            tenant, RecordKindSet(kind), first, count: count, times: (times.min() ?? 0)...(times.max() ?? 0))
        return (header, body)
    }

    private func frameHeader(
        _ tenant: TenantName?, _ kinds: RecordKindSet, _ first: UInt64, count: Int, times: ClosedRange<UInt64> = 2...3
    ) -> FrameHeader {
        FrameHeader(
            tenant: tenant, kinds: kinds, codec: .raw, firstSequence: first, recordCount: count, storedLength: 0,
            rawLength: 0, bodyChecksum: 0, lowestTimestamp: times.lowerBound, highestTimestamp: times.upperBound,
            // Some of the first tenant's are encrypted, now and then with a key that is not to be had, or forgotten.
            keyIdentifier: tenant == Self.tenants[0] && count % 2 == 0 ? 1 + first % 16 : 0)
    }
}
