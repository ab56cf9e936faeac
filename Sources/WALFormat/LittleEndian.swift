import Glibc

extension RawSpan {
    /// The little-endian integer at a byte offset. Traps outside the span: callers check lengths first, as the
    /// format's decoders do.
    @inlinable @inline(__always)
    func littleEndian<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type = Integer.self, at offset: Int
    ) -> Integer {
        precondition(offset >= 0 && offset <= byteCount - MemoryLayout<Integer>.size)
        return unsafe Integer(littleEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: Integer.self))
    }

    /// Whether every byte is zero.
    @inlinable
    package var isAllZero: Bool {
        var offset = 0
        while offset + 8 <= byteCount {
            if littleEndian(UInt64.self, at: offset) != 0 { return false }
            offset += 8
        }
        while offset < byteCount {
            if littleEndian(UInt8.self, at: offset) != 0 { return false }
            offset += 1
        }
        return true
    }

    /// The bytes of a range as an array.
    @inlinable
    package func array(_ range: Range<Int>) -> [UInt8] {
        unsafe extracting(range).withUnsafeBytes { unsafe Array($0) }
    }

    /// Appends all bytes to an array.
    @inlinable
    package func append(to array: inout [UInt8]) { unsafe withUnsafeBytes { unsafe array.append(contentsOf: $0) } }
}

extension MutableRawSpan {
    /// Stores an integer in little-endian order at a byte offset. Traps outside the span.
    @inlinable @inline(__always)
    mutating func store<Integer: FixedWidthInteger & BitwiseCopyable>(littleEndian value: Integer, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Integer.self)
    }

    /// Copies a span's bytes to a byte offset. Traps where they do not fit.
    @inlinable @inline(__always)
    package mutating func store(_ bytes: RawSpan, at offset: Int) {
        precondition(offset >= 0 && offset <= byteCount - bytes.byteCount)
        let count = bytes.byteCount
        unsafe bytes.withUnsafeBytes { source in
            guard let from = source.baseAddress else { return }
            unsafe withUnsafeMutableBytes { target in
                if let base = target.baseAddress { unsafe (base + offset).copyMemory(from: from, byteCount: count) }
            }
        }
    }

    /// Copies an array's bytes to a byte offset. Traps where they do not fit.
    @inlinable @inline(__always)
    package mutating func store(_ bytes: [UInt8], at offset: Int) {
        let span = bytes.span
        unsafe store(span.bytes, at: offset)
    }

    /// Sets a range of bytes to zero.
    @inlinable
    package mutating func zero(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
        unsafe withUnsafeMutableBytes { target in
            guard let base = target.baseAddress, !range.isEmpty else { return }
            // Not initializeMemory: without optimization it takes a call for each byte.
            unsafe memset(base + range.lowerBound, 0, range.count)
        }
    }
}

extension Int {
    /// The next multiple of a power of two.
    @inlinable
    package func roundedUp(toMultipleOf alignment: Int) -> Int { (self + alignment - 1) & ~(alignment - 1) }
}

extension [UInt8] {
    /// Lets a closure read the array as raw bytes.
    @inlinable
    package func withRawSpan<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let span = self.span
        return try unsafe body(span.bytes)
    }

    /// Lets a closure fill the array as raw bytes.
    @inlinable
    package mutating func withMutableRawSpan<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var span = mutableSpan
        var bytes = unsafe span.mutableBytes
        return try body(&bytes)
    }
}
