import CWALLinux
import Glibc
import SystemPackage

/// The lock that makes a process the log's only writer: an open-file-description lock on the file `LOCK`, which the
/// kernel releases when the process ends, however it ends. The file's text says who holds it.
public final class WriterLock: Sendable {
    private let descriptor: CInt
    /// A child that was forked and lets go of its copy of this does not unlock its parent's log.
    private let owner = getpid()
    private static let textLength = 32

    /// Takes the lock or throws `.locked`. Creates the file if it is missing.
    init(path: String) throws(StorageError) {
        let flags = CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE
        let opened = SystemCalls.open(path, flags)
        guard opened >= 0 else { throw StorageError(negatedErrno: Int(opened), operation: "open", path: path) }
        let result = cwal_lock_exclusive(opened)
        guard result == 0 else {
            let holder = Self.holder(opened)
            _ = cwal_close(opened)
            if result == -EAGAIN || result == -EACCES {
                throw StorageError(.locked(byProcess: holder), operation: "lock", path: path)
            }
            throw StorageError(negatedErrno: Int(result), operation: "lock", path: path)
        }
        descriptor = opened
        // Who holds the lock is a courtesy: a full disk must not keep a log from opening.
        let text = Array("\(getpid())\n".utf8)
        let padded = text + [UInt8](repeating: UInt8(ascii: " "), count: Self.textLength - text.count)
        unsafe _ = padded.withUnsafeBytes { unsafe cwal_pwrite(opened, $0.baseAddress, $0.count, 0) }
    }

    deinit {
        // Not by closing alone: a child that this process has just forked, and that has not come to its `exec` yet, has
        // the open file description, too.
        if owner == getpid() { _ = cwal_unlock(descriptor) }
        _ = cwal_close(descriptor)
    }

    private static func holder(_ descriptor: CInt) -> Int? {
        var bytes = [UInt8](repeating: 0, count: textLength)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe cwal_pread(descriptor, $0.baseAddress, $0.count, 0)
        }
        guard count > 0 else { return nil }
        let digits = bytes[..<count].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return Int(String(decoding: digits, as: UTF8.self))
    }

    static func presence(path: String) throws(StorageError) -> WriterPresence {
        let descriptor = SystemCalls.open(path, CWAL_OPEN_READ)
        if descriptor == -ENOENT { return .none }
        guard descriptor >= 0 else { throw StorageError(negatedErrno: Int(descriptor), operation: "open", path: path) }
        defer { _ = cwal_close(descriptor) }
        let held = cwal_lock_is_held(descriptor)
        if held < 0 { throw StorageError(negatedErrno: Int(held), operation: "query lock", path: path) }
        return held == 1 ? .process(holder(descriptor)) : .none
    }
}
