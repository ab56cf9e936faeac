import Glibc
import Synchronization

/// Memory for direct I/O: aligned, zeroed when taken, grown and given back on demand. It has one owner at a time
/// and is not touched while a device reads from it or writes to it.
@safe public final class AlignedBuffer {
    /// Alignment of the first byte. Suits every device whose block is no larger than a page.
    public let alignment: Int
    private var memory: UnsafeMutableRawBufferPointer
    /// Changes whenever the memory is another one, even at the same address: what a device was told of the old pages
    /// does not hold for the new ones.
    private(set) var allocationNumber: UInt64

    private static let allocations = Atomic<UInt64>(0)

    /// Takes `capacity` zeroed bytes, rounded up to the alignment, a power of two. Traps when memory is exhausted,
    /// as Swift's own allocation does.
    public init(capacity: Int, alignment: Int = 4096) {
        self.alignment = alignment
        unsafe memory = Self.allocate(capacity, alignment: alignment)
        allocationNumber = Self.nextAllocation()
    }

    deinit { unsafe free(memory.baseAddress) }

    private static func nextAllocation() -> UInt64 {
        allocations.wrappingAdd(1, ordering: .relaxed).newValue
    }

    private static func allocate(_ capacity: Int, alignment: Int) -> UnsafeMutableRawBufferPointer {
        let length = (max(capacity, alignment) + alignment - 1) & ~(alignment - 1)
        var pointer: UnsafeMutableRawPointer?
        let status = unsafe posix_memalign(&pointer, alignment, length)
        guard status == 0, let base = unsafe pointer else { fatalError("out of memory: \(length) bytes for I/O") }
        // Not initializeMemory: without optimization it takes a call for each byte.
        unsafe memset(base, 0, length)
        return unsafe UnsafeMutableRawBufferPointer(start: base, count: length)
    }

    /// Bytes of room.
    public var capacity: Int { unsafe memory.count }

    /// Makes room for `capacity` bytes. The first `keeping` bytes stay as they are; all others become zero if the
    /// memory moves.
    public func reserve(_ capacity: Int, keeping: Int = 0) {
        guard capacity > self.capacity else { return }
        let larger = unsafe Self.allocate(max(capacity, self.capacity * 2), alignment: alignment)
        if keeping > 0 {
            unsafe larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<keeping]))
        }
        unsafe replaceMemory(with: larger)
    }

    /// Gives memory back where there is more than `capacity` bytes; the bytes are zero then.
    public func shrink(to capacity: Int) {
        guard self.capacity > max(capacity, alignment) + alignment else { return }
        unsafe replaceMemory(with: Self.allocate(capacity, alignment: alignment))
    }

    private func replaceMemory(with other: UnsafeMutableRawBufferPointer) {
        unsafe free(memory.baseAddress)
        unsafe memory = other
        allocationNumber = Self.nextAllocation()
    }

    /// Moves a range of bytes to the front.
    public func moveToFront(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity)
        if let base = unsafe memory.baseAddress, !range.isEmpty {
            unsafe memmove(base, base + range.lowerBound, range.count)
        }
    }

    /// Copies a range of another buffer's bytes to a place in this one.
    public func copy(_ range: Range<Int>, of other: AlignedBuffer, to position: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= other.capacity)
        precondition(position >= 0 && position + range.count <= capacity)
        if let target = unsafe memory.baseAddress, let source = unsafe other.memory.baseAddress, !range.isEmpty {
            unsafe memcpy(target + position, source + range.lowerBound, range.count)
        }
    }

    /// Whether a range holds the same bytes as in another buffer.
    public func holdsSame(as other: AlignedBuffer, in range: Range<Int>) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= min(capacity, other.capacity))
        guard let mine = unsafe memory.baseAddress, let others = unsafe other.memory.baseAddress else { return true }
        return unsafe memcmp(mine + range.lowerBound, others + range.lowerBound, range.count) == 0
    }

    /// Lets a closure read the bytes.
    @inlinable
    public func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(unsafe RawSpan(_unsafeBytes: readable))
    }

    /// Lets a closure fill the bytes.
    @inlinable
    public func withMutableBytes<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var span = unsafe MutableRawSpan(_unsafeBytes: writable)
        return try body(&span)
    }

    @usableFromInline var readable: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(memory) }
    @usableFromInline var writable: UnsafeMutableRawBufferPointer { unsafe memory }
}
