import WALFormat

/// The LZ4 frame that bytes become.
func compressed(_ raw: [UInt8]) throws(FormatError) -> [UInt8] {
    var target = [UInt8](repeating: 0xEE, count: LZ4FrameCompressor.bound(rawLength: raw.count))
    let compressor = LZ4FrameCompressor()
    let length = try target.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
        try compressor.compress(raw.span.bytes, into: &span, at: 0)
    }
    return Array(target.prefix(length))
}

/// What a frame decompresses to. Fences of a known byte stand on both sides of the target; a trap here means that
/// liblz4 was let out of its bounds.
func decompressed(
    _ frame: [UInt8], rawLength: Int, with decompressor: LZ4FrameDecompressor = LZ4FrameDecompressor()
) throws(FormatError) -> [UInt8] {
    let fence = 64
    var buffer = [UInt8](repeating: 0xFE, count: fence + rawLength + fence)
    defer {
        precondition(buffer[..<fence].allSatisfy { $0 == 0xFE }, "written before the target")
        precondition(buffer[(fence + rawLength)...].allSatisfy { $0 == 0xFE }, "written past the target")
    }
    try buffer.withMutableRawSpan { (span: inout MutableRawSpan) throws(FormatError) in
        var target = span._mutatingExtracting(fence..<fence + rawLength)
        try decompressor.decompress(frame.span.bytes, into: &target)
    }
    return Array(buffer[fence..<fence + rawLength])
}

/// A frame put together by hand after lz4_Frame_format.md: version 1, independent blocks of up to 64 KiB, no
/// checksums but the header's, one uncompressed block.
func handmadeLZ4Frame(contentSize: UInt64?, block: [UInt8]) -> [UInt8] {
    var descriptor: [UInt8] = [contentSize == nil ? 0x60 : 0x68, 0x40]
    if let contentSize { descriptor += (0..<8).map { UInt8(truncatingIfNeeded: contentSize >> (8 * $0)) } }
    var frame: [UInt8] = [0x04, 0x22, 0x4D, 0x18] + descriptor
    frame.append(UInt8(truncatingIfNeeded: xxHash32(ofFewerThan16: descriptor) >> 8))
    let size = UInt32(block.count) | 0x8000_0000
    frame += (0..<4).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
    return frame + block + [0, 0, 0, 0]
}

/// XXH32 with seed 0, by which LZ4 checks its headers, for inputs below 16 bytes.
private func xxHash32(ofFewerThan16 bytes: [UInt8]) -> UInt32 {
    precondition(bytes.count < 16)
    var hash: UInt32 = 374_761_393 &+ UInt32(bytes.count)
    var offset = 0
    while offset + 4 <= bytes.count {
        hash = hash &+ bytes.integer(UInt32.self, at: offset) &* 3_266_489_917
        hash = (hash << 17 | hash >> 15) &* 668_265_263
        offset += 4
    }
    for byte in bytes[offset...] {
        hash = hash &+ UInt32(byte) &* 374_761_393
        hash = (hash << 11 | hash >> 21) &* 2_654_435_761
    }
    hash = (hash ^ hash >> 15) &* 2_246_822_519
    hash = (hash ^ hash >> 13) &* 3_266_489_917
    return hash ^ hash >> 16
}
