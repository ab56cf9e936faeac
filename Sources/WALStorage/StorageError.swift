import SystemPackage

/// A failed operation on files: what was tried, where, why, and what to do about it.
public struct StorageError: Error, Sendable, CustomStringConvertible {
    /// The cause, as code tells causes apart.
    public enum Code: Hashable, Sendable {
        /// No space, or the quota or the file size limit is reached.
        case noSpace
        /// The device failed to read or write. Not damage: the bytes may be fine.
        case ioFailure
        case readOnlyFileSystem
        case permissionDenied
        case notFound
        case alreadyExists
        case tooManyOpenFiles
        /// The file system does not do direct I/O here.
        case directIOUnsupported
        /// The log has a writer: the process with this pid, if the lock file tells.
        case locked(byProcess: Int?)
        /// A file ended before the bytes asked for.
        case endOfFile
        /// Fewer bytes were written than asked for.
        case shortWrite
        /// The device acknowledged a write and holds something else.
        case writeLost
        case other
    }

    public let code: Code
    /// The system's error, where a system call failed.
    public let systemError: Errno?
    /// What was tried, as `open` or `write 8192 bytes at 4096`.
    public let operation: String
    public let path: String

    public init(_ code: Code, operation: String, path: String, systemError: Errno? = nil) {
        self.code = code
        self.operation = operation
        self.path = path
        self.systemError = systemError
    }

    /// From a negated errno, as the shims return it.
    init(negatedErrno: Int, operation: @autoclosure () -> String, path: String) {
        let systemError = Errno(rawValue: CInt(-negatedErrno))
        let code: Code =
            switch systemError {
            case .noSpace, .diskQuotaExceeded, .fileTooLarge: .noSpace
            case .ioError, .noSuchAddressOrDevice: .ioFailure
            case .readOnlyFileSystem: .readOnlyFileSystem
            case .permissionDenied, .notPermitted: .permissionDenied
            case .noSuchFileOrDirectory, .notDirectory: .notFound
            case .fileExists: .alreadyExists
            case .tooManyOpenFiles, .tooManyOpenFilesInSystem: .tooManyOpenFiles
            default: .other
            }
        self.init(code, operation: operation(), path: path, systemError: systemError)
    }

    public var description: String {
        let cause: String =
            switch code {
            case .locked(let process?): "the log has a writer, process \(process)"
            case .locked(nil): "the log has a writer"
            case .directIOUnsupported: "the file system offers no direct I/O (O_DIRECT)"
            case .endOfFile: "the file ends before"
            case .shortWrite: "only a part was written"
            case .writeLost: "the device acknowledged it and holds something else"
            default: systemError.map(String.init(describing:)) ?? "failed"
            }
        return "\(path): \(operation): \(cause)\(advice.map { "; \($0)" } ?? "")"
    }

    private var advice: String? {
        switch code {
        case .noSpace: "free space on this file system, or raise the limit"
        case .writeLost: "the device does not keep its word: replace it"
        case .ioFailure: "see the kernel's log for the device's report"
        case .readOnlyFileSystem: "mount it writable, or use a read-only command"
        case .permissionDenied: "run as a user who may, or change the rights"
        case .tooManyOpenFiles: "raise the limit on open files (ulimit -n)"
        case .directIOUnsupported: "use another file system (ext4, xfs, btrfs), or open with direct I/O preferred"
        case .locked: "stop it first, or use a read-only command"
        case .notFound, .alreadyExists, .endOfFile, .shortWrite, .other: nil
        }
    }
}
