/// A journal's encrypted frame as a tenant segment takes it over when its key is not to be had: the body stays as it is,
/// bound to the life of the journal file that it was written in, and that life's epoch goes with it, behind the body.
/// So whoever has the key later reads it, and nobody else's records wait for the key meanwhile.
///
/// ```
/// header    the journal's, with 1 in byte 58, a stored length that is 8 longer, and both checksums anew
/// body      the journal's
///  0  u64   epoch of the commit that the body was encrypted for
/// ```
public struct CarriedFrame: Sendable {
    /// Bytes behind the body.
    static let epochLength = 8

    public let tenant: TenantName
    /// What a segment's index says of it; the offset is not known yet.
    public let entry: SegmentIndex.Frame
    /// Header, body and epoch.
    public let bytes: [UInt8]

    /// Takes over a frame out of a commit's bytes. Nil for one that is damaged, not encrypted, or carried before.
    public init?(_ frame: LocatedFrame, in commit: RawSpan, epoch: UInt64) {
        guard frame.isIntact, frame.header.isSealed, !frame.header.isCarried, let tenant = frame.header.tenant else {
            return nil
        }
        var header = frame.header
        header.isCarried = true
        header.storedLength += Self.epochLength
        var bytes = [UInt8](repeating: 0, count: header.length + header.storedLength)
        let checksum = bytes.withMutableRawSpan { span in
            span.store(commit.extracting(frame.body), at: header.length)
            span.store(littleEndian: epoch, at: header.length + frame.body.count)
            header.bodyChecksum = CRC32C.checksum(
                span.bytes.extracting(header.length..<header.length + header.storedLength))
            return header.encode(into: &span, at: 0)
        }
        self.tenant = tenant
        self.bytes = bytes
        entry = SegmentIndex.Frame(
            offset: 0, firstSequence: header.firstSequence, recordCount: header.recordCount,
            storedLength: bytes.count, lowestTimestamp: header.lowestTimestamp,
            highestTimestamp: header.highestTimestamp, headerChecksum: checksum, rawLength: header.rawLength,
            kinds: header.kinds)
    }
}

extension LocatedFrame {
    /// The epoch that a segment's frame is bound to: its own for a carried one, 0 for others.
    public func epochInSegment(_ bytes: RawSpan) -> UInt64 {
        header.isCarried ? bytes.littleEndian(at: body.upperBound - CarriedFrame.epochLength) : 0
    }
}
