import CWALLinux
import Glibc

/// Calls that take a path: the one place where a Swift string becomes a C string. Each returns what the shim does,
/// the negated errno on failure.
enum SystemCalls {
    static func open(_ path: String, _ flags: Int) -> CInt { unsafe cwal_open(path, CInt(flags), 0o600) }
    static func exists(_ path: String) -> CInt { unsafe cwal_exists(path) }
    static func freeSpace(_ path: String) -> Int64 { unsafe cwal_free_space(path) }
    static func makeDirectory(_ path: String) -> CInt { unsafe cwal_make_directory(path, 0o700) }
    static func rename(_ from: String, to: String) -> CInt { unsafe cwal_rename(from, to) }
    /// The names in a directory, without order; on failure the negated errno.
    static func names(inDirectory path: String) -> (names: [String], error: CInt) {
        var length = 0
        var error: CInt = 0
        guard let bytes = unsafe cwal_list_directory(path, &length, &error) else { return ([], error) }
        defer { unsafe free(bytes) }
        let names = unsafe UnsafeRawBufferPointer(start: bytes, count: length).split(separator: 0)
        return (unsafe names.map { unsafe String(decoding: $0, as: UTF8.self) }, 0)
    }
    @discardableResult
    static func unlink(_ path: String) -> CInt { unsafe cwal_unlink(path) }
}
