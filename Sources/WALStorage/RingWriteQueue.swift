import CWALLinux
import SystemPackage

/// Writes through io_uring, from registered memory to a registered file: one system call starts a write, one reaps
/// however many have ended.
///
/// Safe to share although unchecked: one thread uses it, but for `wake`, which only writes to a descriptor.
@safe public final class RingWriteQueue: WriteQueue, @unchecked Sendable {
    private struct Pending {
        var file: DirectFile
        var length: Int
        var offset: UInt64
    }

    private let ring: UnsafeMutablePointer<cwal_ring>
    private var pending: [Pending?]
    /// Writes that the kernel refused to begin.
    private var refused: [(tag: Int, error: StorageError)] = []
    /// By tag, the allocation that is registered there; 0 for none.
    private var registeredMemory: [UInt64]
    private var registeredFile: DirectFile?

    /// Opens a ring. Throws where the kernel, or a sandbox around the process, allows none.
    init(depth: Int) throws(StorageError) {
        unsafe ring = .allocate(capacity: 1)
        unsafe ring.initialize(to: cwal_ring())
        pending = Array(repeating: nil, count: depth)
        registeredMemory = Array(repeating: 0, count: depth)
        let result = unsafe cwal_ring_open(ring, UInt32(depth))
        guard result == 0 else {
            throw StorageError(negatedErrno: Int(result), operation: "io_uring_setup", path: "io_uring")
        }
        // Registering saves time per write and is no condition: a small RLIMIT_MEMLOCK may forbid it.
        unsafe _ = cwal_ring_reserve(ring, UInt32(depth))
    }

    deinit {
        unsafe cwal_ring_close(ring)
        unsafe ring.deallocate()
    }

    public func submit(
        _ buffer: AlignedBuffer, length: Int, to file: DirectFile, at offset: UInt64, durability: WriteDurability,
        tag: Int
    ) {
        precondition(length <= buffer.capacity && pending[tag] == nil)
        #if Simulation
            let durability = DeliberateBug.isActive(.acknowledgeBeforeFlush) ? .processCrash : durability
        #endif
        if registeredFile !== file {
            // The one before stays open until its descriptor is out of the ring.
            registeredFile = unsafe cwal_ring_set_file(ring, file.descriptor) == 0 ? file : nil
        }
        let memory = unsafe buffer.writable
        if registeredMemory[tag] != buffer.allocationNumber {
            let result = unsafe cwal_ring_set_buffer(ring, UInt32(tag), memory.baseAddress, memory.count)
            registeredMemory[tag] = result == 0 ? buffer.allocationNumber : 0
        }
        let isRegistered = registeredMemory[tag] != 0
        unsafe cwal_ring_write(
            ring, file.descriptor, registeredFile === file, memory.baseAddress, UInt32(length), offset,
            isRegistered ? Int32(tag) : -1, durability == .powerLoss, UInt64(tag))
        let result = unsafe cwal_ring_submit(ring)
        pending[tag] = Pending(file: file, length: length, offset: offset)
        if result != 0 { refused.append((tag, error(tag, result: Int(result)))) }
    }

    private func error(_ tag: Int, result: Int) -> StorageError {
        guard let write = pending[tag] else { preconditionFailure("a write ended that was not begun") }
        let operation = "write \(write.length) bytes at \(write.offset)"
        if result >= 0 { return StorageError(.shortWrite, operation: operation, path: write.file.path) }
        return StorageError(negatedErrno: result, operation: operation, path: write.file.path)
    }

    public func next() -> (tag: Int, result: Result<Void, StorageError>)? {
        if let (tag, error) = refused.popLast() {
            pending[tag] = nil
            return (tag, .failure(error))
        }
        var completion = cwal_ring_completion()
        guard unsafe cwal_ring_next(ring, &completion) else { return nil }
        let tag = Int(completion.tag)
        let result = Int(completion.result)
        defer { pending[tag] = nil }
        #if Simulation
            if DeliberateBug.isActive(.swallowShortWrite), result >= 0 { return (tag, .success(())) }
        #endif
        return (tag, result == pending[tag]?.length ? .success(()) : .failure(error(tag, result: result)))
    }

    public func wait() {
        if !refused.isEmpty { return }
        // An error here loses nothing: completions are taken from memory that the kernel writes.
        if unsafe cwal_ring_wait(ring) != 0 { cwal_sleep(50_000) }
    }

    public func wake() { unsafe cwal_ring_wake(ring) }
}
