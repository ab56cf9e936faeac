import CWALLinux
import SystemPackage

/// A file open for direct I/O. Closes its descriptor when the last reference goes.
public final class DirectFile: StorageFile {
    public let path: String
    /// Whether the page cache is really passed by; false only where direct I/O is merely preferred.
    public let isDirect: Bool
    let descriptor: CInt

    /// Opens `path`. `lastingPath` is what messages name, where the file is about to be renamed.
    init(
        path: String, flags: Int, direct: DirectIORequirement, lastingPath: String? = nil
    ) throws(StorageError) {
        self.path = lastingPath ?? path
        let wanted = flags | CWAL_OPEN_DIRECT
        var opened = SystemCalls.open(path, wanted)
        // EINVAL is how a file system says that it knows no O_DIRECT.
        if opened == -Errno.invalidArgument.rawValue {
            guard direct == .preferred else { throw StorageError(.directIOUnsupported, operation: "open", path: path) }
            // The refused call has made the file already.
            opened = SystemCalls.open(path, flags & ~CWAL_OPEN_EXCLUSIVE)
            isDirect = false
        } else {
            isDirect = true
        }
        guard opened >= 0 else { throw StorageError(negatedErrno: Int(opened), operation: "open", path: path) }
        descriptor = opened
    }

    deinit { _ = cwal_close(descriptor) }

    func status() throws(StorageError) -> cwal_file_status {
        var status = cwal_file_status()
        let result = unsafe cwal_status(descriptor, &status)
        guard result == 0 else { throw StorageError(negatedErrno: Int(result), operation: "statx", path: path) }
        return status
    }

    public func size() throws(StorageError) -> UInt64 { try status().size }

    /// The alignments that the file system asks for; nil where it does not say. Zero means: no direct I/O.
    public func directIOAlignment() throws(StorageError) -> (memory: Int, offset: Int)? {
        let status = try status()
        guard status.direct_alignment_known else { return nil }
        return (Int(status.direct_memory_alignment), Int(status.direct_offset_alignment))
    }

    func fileSystemType() -> UInt64 {
        var magic: UInt64 = 0
        return unsafe cwal_filesystem_type(descriptor, &magic) == 0 ? magic : 0
    }

    public func read(
        into buffer: AlignedBuffer, at position: Int, length: Int, from offset: UInt64
    ) throws(StorageError) -> Int {
        precondition(position >= 0 && position + length <= buffer.capacity)
        var done = 0
        var failures = 0
        while done < length {
            let result = unsafe cwal_pread(
                descriptor, buffer.writable.baseAddress! + position + done, length - done, offset + UInt64(done))
            if result == 0 { break }
            if result > 0 {
                done += result
                let excess = done & (buffer.alignment - 1)
                if done == length || excess == 0 { continue }
                // The file's end. A direct read from there on would not be aligned.
                if offset + UInt64(done) >= (try size()) { break }
                done -= excess
                failures += 1
                if failures < 3 { continue }
                throw StorageError(.ioFailure, operation: "read \(length) bytes at \(offset)", path: path)
            }
            if result == -Int(Errno.interrupted.rawValue) { continue }
            #if Simulation
                if DeliberateBug.isActive(.ignoreReadErrors) { break }
            #endif
            failures += 1
            if result != -Int(Errno.ioError.rawValue) || failures == 3 {
                throw StorageError(
                    negatedErrno: result, operation: "read \(length) bytes at \(offset)", path: path)
            }
        }
        return done
    }

    public func write(
        _ buffer: AlignedBuffer, at position: Int, length: Int, to offset: UInt64, durability: WriteDurability
    ) throws(StorageError) {
        precondition(position >= 0 && position + length <= buffer.capacity)
        #if Simulation
            let durability = DeliberateBug.isActive(.acknowledgeBeforeFlush) ? .processCrash : durability
        #endif
        while true {
            let start = unsafe UnsafeRawPointer(buffer.writable.baseAddress! + position)
            let result: Int =
                switch durability {
                case .powerLoss: unsafe cwal_pwrite_durable(descriptor, start, length, offset)
                case .processCrash: unsafe cwal_pwrite(descriptor, start, length, offset)
                }
            if result == length { return }
            // Interrupted before a byte was written: nothing has happened yet, so this is no retry.
            if result == -Int(Errno.interrupted.rawValue) { continue }
            #if Simulation
                if DeliberateBug.isActive(.retryFailedWriteInPlace), result < 0, cwal_fdatasync(descriptor) == 0 {
                    return
                }
                if DeliberateBug.isActive(.swallowShortWrite), result >= 0 { return }
            #endif
            let operation = "write \(length) bytes at \(offset)"
            if result >= 0 { throw StorageError(.shortWrite, operation: operation, path: path) }
            throw StorageError(negatedErrno: result, operation: operation, path: path)
        }
    }

    public func synchronize() throws(StorageError) {
        let result = cwal_fdatasync(descriptor)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "fdatasync", path: path) }
    }

    public func discardBlocks(from offset: UInt64) {
        if let size = try? size(), size > offset { _ = cwal_punch_hole(descriptor, offset, size - offset) }
    }

    /// Like `synchronize`, with all metadata.
    func synchronizeWithMetadata() throws(StorageError) {
        let result = cwal_fsync(descriptor)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "fsync", path: path) }
    }

    func allocate(_ size: UInt64) throws(StorageError) {
        let result = cwal_allocate(descriptor, size)
        if result == 0 { return }
        // A file system without fallocate gets its blocks from the zeros that are written next.
        if result == -Errno.notSupportedOnSocket.rawValue || result == -Errno.notSupported.rawValue { return }
        throw StorageError(negatedErrno: Int(result), operation: "allocate \(size) bytes", path: path)
    }
}

/// Whether direct I/O is a condition.
public enum DirectIORequirement: Hashable, Sendable {
    /// Refuse to open where the file system offers none. The default.
    case required
    /// Do without where there is none; data then passes through the page cache.
    case preferred
}
