import CWALLinux

/// Calls that take a path: the one place where a Swift string becomes a C string. Each returns what the shim does,
/// the negated errno on failure.
enum SystemCalls {
    static func open(_ path: String, _ flags: Int) -> CInt { unsafe cwal_open(path, CInt(flags), 0o600) }
    static func exists(_ path: String) -> CInt { unsafe cwal_exists(path) }
    static func makeDirectory(_ path: String) -> CInt { unsafe cwal_make_directory(path, 0o700) }
    static func rename(_ from: String, to: String) -> CInt { unsafe cwal_rename(from, to) }
    @discardableResult
    static func unlink(_ path: String) -> CInt { unsafe cwal_unlink(path) }
}
