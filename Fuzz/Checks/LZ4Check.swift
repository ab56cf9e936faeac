import WALFormat

extension FuzzChecker {
    /// Decompresses bytes as an LZ4 frame to a length that the first two of them give; what comes out can be compressed
    /// and decompressed again.
    func checkLZ4Body(_ input: FuzzInput) throws(FuzzViolation) {
        try input.withCopy { (buffer) throws(FuzzViolation) in
            // A frame header of fewer bytes than a record takes is refused before its body is looked at.
            guard let rawLength = buffer.integer(UInt16.self, at: 0), rawLength >= RecordHeader.length else { return }
            let stored = buffer.bytes.extracting(2..<buffer.count)
            guard let raw = try decompressed(stored, length: Int(rawLength)) else { return }
            let room = LZ4FrameCompressor.bound(rawLength: raw.count)
            var compressed = [UInt8](repeating: 0xD1, count: room)
            let length: Int
            do throws(FormatError) {
                length = try compressed.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
                    try compressor.compress(raw.span.bytes, into: &span, at: 0)
                }
            } catch { throw FuzzViolation(description: "violated: whatever fits can be compressed: \(error)") }
            let again = try decompressed(compressed.span.bytes.extracting(0..<length), length: raw.count)
            try require(again == raw, "what was compressed comes back")
        }
    }

    /// The bytes that a frame stands for, in memory of exactly their size meanwhile; nil where it is refused.
    private func decompressed(_ stored: RawSpan, length: Int) throws(FuzzViolation) -> [UInt8]? {
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 1)
        defer { target.deallocate() }
        target.initializeMemory(as: UInt8.self, repeating: 0)
        var span = target.mutableBytes
        do throws(FormatError) { try decompressor.decompress(stored, into: &span) } catch {
            try require(error.cause == .compression, "a refused LZ4 frame is a matter of compression")
            return nil
        }
        return Array(target)
    }
}
