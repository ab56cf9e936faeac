import CZlib

/// Compression for HTTP bodies (RFC 1952) by zlib.
enum Gzip {
    /// The bytes as one gzip member. Nil when zlib has no memory. Level 1 to 9.
    static func compress(_ bytes: [UInt8], level: CInt = 6) -> [UInt8]? {
        var stream = unsafe z_stream()
        // 15 bits of window, and 16 for a gzip header.
        let status = unsafe deflateInit2_(
            &stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            CInt(MemoryLayout<z_stream>.size))
        guard status == Z_OK else { return nil }
        defer { unsafe _ = deflateEnd(&stream) }
        var output = [UInt8](repeating: 0, count: Int(unsafe deflateBound(&stream, UInt(bytes.count))))
        let written: Int? = unsafe bytes.withUnsafeBytes { input in
            unsafe output.withUnsafeMutableBytes { target in
                unsafe stream.next_in = UnsafeMutablePointer(
                    mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
                unsafe stream.avail_in = UInt32(input.count)
                unsafe stream.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.avail_out = UInt32(target.count)
                return unsafe deflate(&stream, Z_FINISH) == Z_STREAM_END ? target.count - Int(stream.avail_out) : nil
            }
        }
        guard let written else { return nil }
        output.removeLast(output.count - written)
        return output
    }
}
