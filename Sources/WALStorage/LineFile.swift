import CWALLinux
import Glibc
import SystemPackage

/// A text file that grows by whole lines, durably. Written through the page cache: for what others read, not for the
/// log itself. One thread at a time.
package final class LineFile {
    package let path: String
    private let descriptor: CInt
    private var length: UInt64

    /// Opens the file for appending, creating it and its directories where they are missing. A last line without its
    /// end, which an interrupted write left, is cut off: it was never reported as written.
    package init(path: String) throws(StorageError) {
        self.path = path
        let isNew = SystemCalls.exists(path) == 0
        if isNew { try Self.makeDirectories(FilePath(path).removingLastComponent()) }
        let opened = SystemCalls.open(path, CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE)
        guard opened >= 0 else { throw StorageError(negatedErrno: Int(opened), operation: "open", path: path) }
        descriptor = opened
        length = 0
        var status = cwal_file_status()
        let result = unsafe cwal_status(opened, &status)
        guard result == 0 else { throw StorageError(negatedErrno: Int(result), operation: "statx", path: path) }
        length = try endOfLastLine(size: status.size)
        if length < status.size { try truncate() }
        if isNew { try Self.synchronizeDirectory(FilePath(path).removingLastComponent().string) }
    }

    deinit { _ = cwal_close(descriptor) }

    private static func makeDirectories(_ directory: FilePath) throws(StorageError) {
        if directory.isEmpty || SystemCalls.exists(directory.string) == 1 { return }
        let parent = directory.removingLastComponent()
        if parent != directory { try makeDirectories(parent) }
        let result = SystemCalls.makeDirectory(directory.string)
        if result != 0, result != -EEXIST {
            throw StorageError(negatedErrno: Int(result), operation: "create directory", path: directory.string)
        }
        try synchronizeDirectory(parent.isEmpty ? "." : parent.string)
    }

    private static func synchronizeDirectory(_ path: String) throws(StorageError) {
        let descriptor = SystemCalls.open(path.isEmpty ? "." : path, CWAL_OPEN_READ | CWAL_OPEN_DIRECTORY)
        guard descriptor >= 0 else {
            throw StorageError(negatedErrno: Int(descriptor), operation: "open directory", path: path)
        }
        defer { _ = cwal_close(descriptor) }
        let result = cwal_fsync(descriptor)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "fsync directory", path: path) }
    }

    private func endOfLastLine(size: UInt64) throws(StorageError) -> UInt64 {
        var end = size
        var bytes = [UInt8](repeating: 0, count: 65536)
        while end > 0 {
            let start = end - min(end, UInt64(bytes.count))
            let wanted = Int(end - start)
            let count = unsafe bytes.withUnsafeMutableBytes {
                unsafe cwal_pread(descriptor, $0.baseAddress, wanted, start)
            }
            guard count == wanted else {
                throw StorageError(negatedErrno: min(count, -1), operation: "read", path: path)
            }
            if let newline = bytes[..<count].lastIndex(of: UInt8(ascii: "\n")) { return start + UInt64(newline) + 1 }
            end = start
        }
        return 0
    }

    private func truncate() throws(StorageError) {
        let result = cwal_truncate(descriptor, length)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "truncate", path: path) }
    }

    /// Appends text that ends in a newline and returns when it is on stable storage. Leaves the file as it was when
    /// it fails.
    package func append(_ text: [UInt8]) throws(StorageError) {
        do throws(StorageError) {
            var done = 0
            while done < text.count {
                let count = unsafe text.withUnsafeBytes {
                    unsafe cwal_pwrite(descriptor, $0.baseAddress! + done, text.count - done, length + UInt64(done))
                }
                if count == -Int(EINTR) { continue }
                if count <= 0 { throw StorageError(negatedErrno: min(count, -1), operation: "write", path: path) }
                done += count
            }
            let result = cwal_fdatasync(descriptor)
            if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "fdatasync", path: path) }
            length += UInt64(text.count)
        } catch {
            try? truncate()
            throw error
        }
    }
}
