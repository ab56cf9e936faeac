import WALFormat

/// A frame's header is read, and writing it gives the bytes back.
func checkFrameHeader(_ input: FuzzInput) throws(FuzzViolation) {
    try input.withCopy { (buffer) throws(FuzzViolation) in
        if input.isSealed { buffer.sealFrameHeader(at: 0) }
        guard let header = try? FrameHeader.decode(buffer.bytes, at: 0) else { return }
        try require(header.length <= buffer.count, "a frame header lies inside its bytes")
        try require(header.rawLength <= FormatLimits.maximumFrameRawLength, "a raw length is bounded")
        try require((1...FormatLimits.maximumRecordCount).contains(header.recordCount), "a record count is bounded")
        try require(
            header.storedLength
                <= header.rawLength + (header.isSealed ? FrameSeal.overhead : 0) + (header.isCarried ? 8 : 0),
            "a stored body is not longer than its raw one, but for what encryption adds")
        try require(header.isSealed || !header.isCarried, "what is carried is encrypted")
        try require(header.isControl == (header.tenant == nil), "only control frames have no tenant")
        try require(
            header.isControl || header.lastSequence >= header.firstSequence, "sequence numbers do not wrap around")
        var written = [UInt8](repeating: 0xEE, count: header.length)
        encode(header, into: &written)
        let reserved = [59..<64, FrameHeader.fixedLength + (header.tenant?.utf8.count ?? 0)..<header.length]
        try checkWritten(written, is: buffer.prefix(header.length), reserved: reserved)
        try require((try? FrameHeader.decode(written.span.bytes, at: 0)) == header, "a written frame header comes back")
    }
}

private func encode(_ header: FrameHeader, into bytes: inout [UInt8]) {
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    header.encode(into: &raw, at: 0)
}

/// A journal file's header is read, and writing it gives both copies.
func checkJournalFileHeader(_ input: FuzzInput) throws(FuzzViolation) {
    let blockSize = 4096
    try input.withCopy(atLeast: blockSize) { (buffer) throws(FuzzViolation) in
        if input.isSealed { buffer.seal(12..<blockSize, at: 8) }
        guard let header = try? JournalFileHeader.decode(buffer.bytes, at: 0, blockSize: blockSize) else { return }
        try require(header.epoch != 0 && header.blockSize == blockSize, "a journal file header is within bounds")
        try require(header.capacity <= FormatLimits.maximumJournalFileSize, "a journal file's capacity is bounded")
        try require(header.commitsStart < header.capacity, "commits begin inside the file")
        var written = [UInt8](repeating: 0xEE, count: 2 * blockSize)
        do {
            var span = written.mutableSpan
            var raw = span.mutableBytes
            header.encode(into: &raw, at: 0)
        }
        try checkWritten(
            Array(written.prefix(blockSize)), is: buffer.prefix(blockSize), reserved: [60..<64, 116..<120, 144..<4096])
        for base in [0, blockSize] {
            let copy = try? JournalFileHeader.decode(written.span.bytes, at: base, blockSize: blockSize)
            try require(copy == header, "a written journal file header comes back")
        }
    }
}

/// The root's format is read from either copy, and writing it gives both.
func checkRootFormat(_ input: FuzzInput) throws(FuzzViolation) {
    let length = RootFormat.copyLength
    try input.withCopy(atLeast: length) { (buffer) throws(FuzzViolation) in
        if input.isSealed {
            buffer.seal(12..<length, at: 8)
            buffer.seal(length + 12..<2 * length, at: length + 8)
        }
        guard let format = try? RootFormat.decode(buffer.bytes) else { return }
        try require(format.blockSize <= FormatLimits.maximumBlockSize, "a block size is bounded")
        try require(format.blockSize.nonzeroBitCount == 1, "a block size is a power of two")
        let written = format.encoded()
        // Either copy may be the one that was read.
        let source = (try? RootFormat.decode(buffer.bytes.extracting(first: length))) == format ? 0 : length
        if buffer.count >= source + length {
            let end = 50 + (format.tenant?.utf8.count ?? 0)
            try checkWritten(
                Array(written.prefix(length)), is: buffer[source..<source + length], reserved: [end..<length])
        }
        try require((try? RootFormat.decode(written.span.bytes)) == format, "a written root format comes back")
    }
}

/// A table of placements keeps to its bounds, and written again it says the same.
func checkPlacements(_ input: FuzzInput) throws(FuzzViolation) {
    let block = PlacementTable.blockLength
    try input.withCopy(atLeast: block) { (buffer) throws(FuzzViolation) in
        if input.isSealed, buffer.count >= block {
            // A first copy of one block, or of as many as it says.
            let said = Int(buffer.integer(UInt32.self, at: 40) ?? 0)
            let length = said >= block && said <= buffer.count ? said : block
            buffer.seal(12..<length, at: 8)
        }
        guard let table = try? PlacementTable.decode(buffer.bytes) else { return }
        try require(table.copyLength <= PlacementTable.maximumLength, "a table is bounded")
        try require(table.residences.count <= PlacementTable.mostResidences, "its residences are bounded")
        for residence in table.residences {
            let own = table.residences(of: residence.tenant)
            try require(
                zip(own, own.dropFirst()).allSatisfy { $0.firstSequence < $1.firstSequence && $0.home != $1.home },
                "a tenant's residences are in order")
            if case .dedicated(let directory) = residence.home {
                try require(directory.isEmpty || directory.hasPrefix("/"), "a directory is absolute")
            }
        }
        let written = table.encoded()
        try require((try? PlacementTable.decode(written.span.bytes)) == table, "a written table comes back")
    }
}

/// Bytes written from what was read are the bytes that it was read from, but for reserved ones, which a reader of this
/// version passes over and a writer of this version sets to zero; where these were not zero the checksum differs too.
func checkWritten(
    _ written: [UInt8], is original: some Collection<UInt8>, reserved: [Range<Int>]
) throws(FuzzViolation) {
    let original = Array(original)
    if reserved.allSatisfy({ original[$0].allSatisfy { $0 == 0 } }) {
        try require(written == original, "what was read is written as it was")
    } else {
        try require(reserved.allSatisfy { written[$0].allSatisfy { $0 == 0 } }, "reserved bytes are written as zeros")
    }
}
