import CWALLinux
import Glibc
import SystemPackage

/// The kernel's small text files below `/proc` and `/sys`. Nothing here is an error: what cannot be read, as in a
/// container without `/sys`, is unknown.
enum SystemText {
    /// The whole file, at most 4 MiB of it; nil where it cannot be read.
    static func contents(_ path: String) -> String? {
        let descriptor = SystemCalls.open(path, CWAL_OPEN_READ)
        guard descriptor >= 0 else { return nil }
        defer { _ = cwal_close(descriptor) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count < 4 << 20 {
            let count = unsafe piece.withUnsafeMutableBytes {
                unsafe cwal_pread(descriptor, $0.baseAddress, $0.count, UInt64(bytes.count))
            }
            if count == -Int(EINTR) { continue }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            bytes += piece[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The first line without the space around it; nil where there is none.
    static func line(_ path: String) -> String? {
        guard let first = contents(path)?.split(separator: "\n").first else { return nil }
        let words = first.split(whereSeparator: \.isWhitespace)
        return words.isEmpty ? nil : words.joined(separator: " ")
    }

    static func number(_ path: String) -> Int? { line(path).flatMap { Int($0) } }

    /// 1 and 0 as the kernel writes them.
    static func flag(_ path: String) -> Bool? { number(path).map { $0 != 0 } }

    /// The path with every symbolic link followed; nil where it leads nowhere.
    static func resolved(_ path: String) -> String? {
        guard let pointer = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(pointer) }
        return unsafe String(cString: pointer)
    }

    /// The names in a directory, sorted; none where it cannot be read.
    static func entries(_ directory: String) -> [String] {
        ((try? DirectStorage(root: FilePath(directory)).entries(of: "")) ?? []).sorted()
    }
}

/// What `stat` tells of a path, as far as the probes ask.
struct PathStatus {
    var isDirectory: Bool
    /// The device that the file lies on.
    var device: DeviceNumber
    /// The device that the file *is*, where it is a block device.
    var blockDevice: DeviceNumber?

    /// Follows symbolic links. Throws what `stat` reports, `.notFound` among it.
    init(_ path: String) throws(StorageError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            throw StorageError(negatedErrno: Int(-errno), operation: "look up", path: path)
        }
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
        device = DeviceNumber(status.st_dev)
        blockDevice = status.st_mode & S_IFMT == S_IFBLK ? DeviceNumber(status.st_rdev) : nil
    }
}

/// A block device's number, as the kernel shows it: `major:minor`.
package struct DeviceNumber: Hashable, Sendable, CustomStringConvertible {
    package var major: UInt64
    package var minor: UInt64

    package init(major: UInt64, minor: UInt64) {
        self.major = major
        self.minor = minor
    }

    /// From `st_dev` or `st_rdev`, in glibc's encoding.
    init(_ device: dev_t) {
        let device = UInt64(device)
        major = (device >> 8) & 0xFFF | (device >> 32) & 0xFFFF_F000
        minor = device & 0xFF | (device >> 12) & 0xFFFF_FF00
    }

    /// From `8:1`.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let major = UInt64(parts[0]), let minor = UInt64(parts[1]) else { return nil }
        self.init(major: major, minor: minor)
    }

    package var description: String { "\(major):\(minor)" }
}
