import CLZ4

/// Compresses bodies into standard LZ4 frames (liblz4's frame API). Holds liblz4's context, so that no memory is
/// taken per frame. One thread at a time.
@safe public final class LZ4FrameCompressor {
    private var context: OpaquePointer?

    /// Takes a context from liblz4. Traps when memory for it (16 KiB) is not to be had.
    public init() {
        let status = unsafe LZ4F_createCompressionContext(&context, UInt32(LZ4F_VERSION))
        precondition(LZ4F_isError(status) == 0, "liblz4 gives no compression context")
    }

    deinit { unsafe _ = LZ4F_freeCompressionContext(context) }

    /// Blocks of 64 KiB decompress in cache; large bodies take larger blocks for their ratio.
    private static func preferences(rawLength: Int) -> LZ4F_preferences_t {
        var preferences = LZ4F_preferences_t()
        preferences.frameInfo.blockSizeID = rawLength > 64 << 10 ? LZ4F_max256KB : LZ4F_max64KB
        preferences.frameInfo.blockMode = LZ4F_blockLinked
        preferences.frameInfo.contentSize = UInt64(rawLength)
        preferences.autoFlush = 1
        return preferences
    }

    /// Bytes of room that `compress` needs for a body of so many bytes.
    public static func bound(rawLength: Int) -> Int {
        var preferences = preferences(rawLength: rawLength)
        // The frame header is at most 19 bytes; the bound of liblz4 counts blocks and end mark.
        return unsafe LZ4F_compressBound(rawLength, &preferences) + 32
    }

    /// Compresses `raw` into memory of its own. Throws as the other one does.
    func compress(_ raw: RawSpan) throws(FormatError) -> [UInt8] {
        let capacity = Self.bound(rawLength: raw.byteCount)
        var failure: FormatError?
        let compressed = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { room, count in
            let buffer = unsafe UnsafeMutableRawBufferPointer(
                rebasing: UnsafeMutableRawBufferPointer(room)[..<capacity])
            var target = unsafe MutableRawSpan(_unsafeBytes: buffer)
            do throws(FormatError) { count = try compress(raw, into: &target, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
        return compressed
    }

    /// Compresses `raw` to `target` at `offset`, where `bound(rawLength:)` bytes must be free. Returns the bytes
    /// written. Throws `FormatError` when liblz4 refuses, which only a missing bound can cause.
    public func compress(_ raw: RawSpan, into target: inout MutableRawSpan, at offset: Int) throws(FormatError) -> Int {
        let capacity = target.byteCount - offset
        let rawLength = raw.byteCount
        precondition(offset >= 0 && capacity >= Self.bound(rawLength: rawLength))
        var preferences = Self.preferences(rawLength: rawLength)
        let context = unsafe self.context
        let written: Int = unsafe raw.withUnsafeBytes { source in
            unsafe target.withUnsafeMutableBytes { destination in
                guard let base = destination.baseAddress else { return -1 }
                let start = unsafe base + offset
                let header = unsafe LZ4F_compressBegin(context, start, capacity, &preferences)
                if LZ4F_isError(header) != 0 { return -1 }
                let body = unsafe LZ4F_compressUpdate(
                    context, start + header, capacity - header, source.baseAddress, source.count, nil)
                if LZ4F_isError(body) != 0 { return -1 }
                let end = unsafe LZ4F_compressEnd(context, start + header + body, capacity - header - body, nil)
                return LZ4F_isError(end) != 0 ? -1 : header + body + end
            }
        }
        guard written >= 0 else { throw FormatError(.compression, "liblz4 could not compress \(rawLength) bytes") }
        return written
    }
}

/// Decompresses standard LZ4 frames whose raw length is known beforehand. One thread at a time.
@safe public final class LZ4FrameDecompressor {
    private var context: OpaquePointer?

    /// Takes a context from liblz4. Traps when memory for it is not to be had.
    public init() {
        let status = unsafe LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))
        precondition(LZ4F_isError(status) == 0, "liblz4 gives no decompression context")
    }

    deinit { unsafe _ = LZ4F_freeDecompressionContext(context) }

    /// Decompresses one frame that fills `stored` into `target`, which it must fill exactly. Throws `FormatError`
    /// for bytes that are no such frame; never writes past `target`.
    public func decompress(_ stored: RawSpan, into target: inout MutableRawSpan) throws(FormatError) {
        let context = unsafe self.context
        unsafe LZ4F_resetDecompressionContext(context)
        let expected = target.byteCount
        let complete: Bool = unsafe stored.withUnsafeBytes { source in
            unsafe target.withUnsafeMutableBytes { destination in
                guard let from = source.baseAddress, let to = destination.baseAddress else { return false }
                var read = 0
                var written = 0
                while true {
                    var sourceCount = source.count - read
                    var targetCount = expected - written
                    let hint = unsafe LZ4F_decompress(
                        context, to + written, &targetCount, from + read, &sourceCount, nil)
                    if LZ4F_isError(hint) != 0 { return false }
                    read += sourceCount
                    written += targetCount
                    if hint == 0 { return read == source.count && written == expected }
                    if sourceCount == 0 && targetCount == 0 { return false }
                }
            }
        }
        guard complete else {
            throw FormatError(.compression, "the LZ4 frame does not decompress to \(expected) bytes")
        }
    }
}
