import Foundation
import TelemetryWAL

/// A file that nobody but its owner may read or change.
package enum OwnersFile {
    /// What tells that a file was changed.
    package struct Stamp: Equatable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var seconds: Int
        var nanoseconds: Int
        /// Of its rights and owner, too.
        var changeSeconds: Int
        var changeNanoseconds: Int
    }

    /// A file's stamp; nil where there is none.
    package static func stamp(of path: String) -> Stamp? {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Stamp(status) : nil
    }

    /// Reads a file of at most `KeyFile.mostBytes`.
    package static func read(_ path: String) throws(KeyProviderError) -> (text: Data, stamp: Stamp) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path, "cannot be opened") }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw failure(path, "cannot be looked at") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw KeyProviderError("\(path): it is no file") }
        guard status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw KeyProviderError("\(path): others may read or change it (mode \(mode)); chmod 600 it")
        }
        guard status.st_size <= KeyFile.mostBytes else {
            throw KeyProviderError("\(path): a key file has \(KeyFile.mostBytes) bytes at most")
        }
        var text = Data()
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while text.count <= KeyFile.mostBytes {
            let count = unsafe Glibc.read(descriptor, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(path, "cannot be read") }
            if count == 0 { break }
            text.append(contentsOf: piece[..<count])
        }
        return (text, Stamp(status))
    }

    /// Writes a file under another name, syncs it, and gives it its name.
    package static func write(_ text: Data, to path: String) throws(KeyProviderError) {
        let temporary = "\(path).\(getpid()).tmp"
        // What a process of the same number left when it was killed.
        unsafe unlink(temporary)
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(temporary, "cannot be made") }
        var isDone = false
        defer { if !isDone { unsafe unlink(temporary) } }
        // Whoever changes it, it stays its owner's.
        var status = stat()
        if unsafe stat(path, &status) == 0, status.st_uid != geteuid() {
            guard fchown(descriptor, status.st_uid, status.st_gid) == 0 else {
                let error = failure(temporary, "cannot be given to the owner of \(path)")
                close(descriptor)
                throw error
            }
        }
        let bytes = [UInt8](text)
        var written = 0
        while written < bytes.count {
            let count = unsafe Glibc.write(descriptor, Array(bytes[written...]), bytes.count - written)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = failure(temporary, "cannot be written")
                close(descriptor)
                throw error
            }
            written += count
        }
        let isSynced = fsync(descriptor) == 0
        let error = failure(temporary, "cannot be synced")
        close(descriptor)
        guard isSynced else { throw error }
        guard unsafe rename(temporary, path) == 0 else { throw failure(path, "cannot be replaced") }
        isDone = true
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let parent = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw failure(directory, "cannot be opened") }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw failure(directory, "cannot be synced") }
    }

    /// Keeps others from changing files of a directory by way of this until the process ends; waits until nobody else does.
    package static func lockDirectory(of path: String) throws(KeyProviderError) {
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(directory, "cannot be opened") }
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw failure(directory, "cannot be locked") }
        }
    }

    private static func failure(_ path: String, _ what: String) -> KeyProviderError {
        KeyProviderError("\(path): \(what): \(unsafe String(cString: strerror(errno)))")
    }
}

extension OwnersFile.Stamp {
    fileprivate init(_ status: stat) {
        self.init(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
            seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec,
            changeSeconds: status.st_ctim.tv_sec, changeNanoseconds: status.st_ctim.tv_nsec)
    }
}
