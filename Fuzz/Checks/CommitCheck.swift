import WALFormat

extension FuzzChecker {
    /// Reads a commit as recovery does, down to its last record, and writes it again.
    func checkCommit(_ input: FuzzInput) throws(FuzzViolation) {
        try input.withCopy { (buffer) throws(FuzzViolation) in
            if input.isSealed { buffer.sealCommit() }
            let bytes = buffer.bytes
            guard case .valid(let commit) = CommitHeader.read(bytes, at: 0, of: .fuzzed()) else { return }
            try checkCommitHeader(commit, isAt: buffer)
            guard let frames = try? CommitDecoder.frames(of: commit, in: bytes) else { return }
            try require(frames.count == commit.frameCount, "as many frames as the header says")
            var end = CommitHeader.length + commit.frameHeadersLength
            var bodies: [[UInt8]] = []
            for frame in frames {
                try require(frame.body.lowerBound == end, "bodies follow each other")
                try require(frame.body.count == frame.header.storedLength, "a body is as long as its header says")
                end = frame.body.upperBound
                let seal = FuzzedKeys.seal(for: frame.header, epoch: commit.epoch)
                guard
                    let raw = try? CommitDecoder.rawBody(
                        of: frame, in: bytes, decompressor: decompressor, seal: seal)
                else { continue }
                try require(frame.isIntact, "only an intact body is read")
                try require(raw.count == frame.header.rawLength, "a raw body is as long as its header says")
                try checkRecords(raw, count: frame.header.recordCount, isControl: frame.header.isControl)
                bodies.append(raw)
            }
            try require(end == CommitHeader.length + commit.frameHeadersLength + commit.bodiesLength, "bodies add up")
            // Writing takes buffers of the raw lengths; a few large ones would eat the run's time.
            let rawLengths = bodies.reduce(0) { $0 + $1.count }
            if bodies.count == frames.count, rawLengths <= 1 << 20 {
                try checkWrittenAgain(commit, frames.map(\.header), bodies, rawLengths: rawLengths)
            }
        }
    }

    /// What was decoded, encoded again, decodes to the same records under the same headers.
    private func checkWrittenAgain(
        _ commit: CommitHeader, _ headers: [FrameHeader], _ bodies: [[UInt8]], rawLengths: Int
    ) throws(FuzzViolation) {
        let bound = CommitEncoder.bound(
            frameHeadersLength: commit.frameHeadersLength, rawLengths: rawLengths, frameCount: headers.count,
            blockSize: 4096)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bound, alignment: 1)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0xD1)
        let placement = CommitPlacement(
            epoch: commit.epoch, fileSequence: commit.fileSequence, offset: commit.offset,
            commitNumber: commit.commitNumber, durableThrough: commit.durableThrough,
            recordsBefore: commit.recordsBefore, previousChecksum: commit.previousChecksum)
        let encoded = try? buffer.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
            var encoder = CommitEncoder(
                at: 0, of: .fuzzed(), frameHeadersLength: commit.frameHeadersLength, rawLengths: rawLengths)
            for (var header, body) in zip(headers, bodies) {
                try encoder.add(
                    &header, rawBody: body.span.bytes, into: &span, compressor: compressor,
                    seal: FuzzedKeys.seal(for: header, epoch: commit.epoch))
            }
            return encoder.finish(placement, timestamp: commit.timestamp, flags: commit.flags, into: &span)
        }
        guard let written = encoded else {
            throw FuzzViolation(description: "violated: what was decoded can be encoded")
        }
        try require(
            CommitHeader.read(buffer.bytes, at: 0, of: .fuzzed()) == .valid(written), "an encoded commit is valid")
        let used = CommitHeader.length + written.frameHeadersLength + written.bodiesLength
        try require(buffer[used..<written.commitLength].allSatisfy { $0 == 0 }, "padding is zero")
        guard let frames = try? CommitDecoder.frames(of: written, in: buffer.bytes), frames.count == headers.count
        else {
            throw FuzzViolation(description: "violated: an encoded commit's frames can be decoded")
        }
        for (index, frame) in frames.enumerated() {
            // How a body is stored is the encoder's choice; all else is the frame's.
            var expected = headers[index]
            expected.codec = frame.header.codec
            expected.storedLength = frame.header.storedLength
            expected.bodyChecksum = frame.header.bodyChecksum
            try require(frame.header == expected, "a frame's header comes back")
            let raw = try? CommitDecoder.rawBody(
                of: frame, in: buffer.bytes, decompressor: decompressor,
                seal: FuzzedKeys.seal(for: frame.header, epoch: commit.epoch))
            try require(raw == bodies[index], "a frame's body comes back")
        }
    }
}

/// A header's fields, put into bytes by a writer of the fuzzer's own, give the bytes that it was read from.
private func checkCommitHeader(_ commit: CommitHeader, isAt buffer: UnsafeMutableRawBufferPointer) throws(FuzzViolation)
{
    try require(commit.commitLength <= FormatLimits.maximumCommitLength, "a commit's length is bounded")
    try require((1...FormatLimits.maximumFrameCount).contains(commit.frameCount), "a commit's frame count is bounded")
    try require(commit.durableThrough < commit.commitNumber, "no commit vouches for itself")
    let used = CommitHeader.length + commit.frameHeadersLength + commit.bodiesLength
    try require(used <= commit.commitLength, "headers and bodies lie inside the commit")
    for number in [commit.commitNumber, commit.fileSequence, commit.recordsBefore] {
        try require(number <= FormatLimits.maximumNumber, "a commit's numbers are bounded")
    }
    var written: [UInt8] = Array("TWALCMT1".utf8)
    func put(_ value: some FixedWidthInteger) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            written.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
    put(commit.checksum)
    put(commit.frameHeadersChecksum)
    put(commit.epoch)
    put(commit.fileSequence)
    put(commit.offset)
    put(commit.commitNumber)
    put(commit.durableThrough)
    put(commit.recordsBefore)
    put(commit.timestamp)
    for length in [commit.commitLength, commit.frameHeadersLength, commit.bodiesLength, commit.frameCount] {
        put(UInt32(length))
    }
    put(commit.previousChecksum)
    put(commit.flags.rawValue)
    try require(buffer.prefix(CommitHeader.length).elementsEqual(written), "a commit header's fields are its bytes")
}
