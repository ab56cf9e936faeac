import CWALLinux
import SystemPackage

/// A file system, as it presents itself.
package struct FileSystemReport: Hashable, Sendable {
    package var kind: FileSystemKind
    /// Nil where `/proc` does not tell, as the next three.
    package var mountPoint: String?
    package var source: String?
    package var options: [String] = []
    /// Bytes that ordinary users may still take, and the size.
    package var availableBytes: UInt64
    package var totalBytes: UInt64
    /// The alignments that direct I/O asks for, bytes; zero where a file has none, nil where nobody says.
    package var memoryAlignment: Int?
    package var offsetAlignment: Int?
    /// Whether a file could be opened for direct I/O; nil where none was tried.
    package var acceptsDirectIO: Bool?
    /// Of a copy-on-write file system: whether files here are overwritten in place all the same (chattr +C).
    package var overwritesInPlace = false
    /// Below an overlay: the file system that writes go to, where this process can see it.
    package var upper: [FileSystemReport] = []

    package init(kind: FileSystemKind, availableBytes: UInt64 = 0, totalBytes: UInt64 = 0) {
        self.kind = kind
        self.availableBytes = availableBytes
        self.totalBytes = totalBytes
    }

    /// Whether direct I/O is to be had: accepted, and not taken back by an alignment of zero.
    package var hasDirectIO: Bool? {
        if memoryAlignment == 0 || offsetAlignment == 0 { return false }
        return acceptsDirectIO
    }

    /// The smallest block that direct I/O takes here and that the log would use, bytes.
    package var blockSize: Int { max(4096, memoryAlignment ?? 0, offsetAlignment ?? 0) }

    /// The file system that holds the bytes in the end.
    package var lowest: FileSystemReport { upper.first?.lowest ?? self }
}

/// Asks which file system a directory lies on, and which block device that lies on.
struct FileSystemProbe {
    /// Throws where the directory cannot be opened.
    static func examine(
        _ directory: String, sysfs: String = "/sys", depth: Int = 0
    ) throws(StorageError) -> (FileSystemReport, BlockDeviceReport?) {
        let descriptor = SystemCalls.open(directory, CWAL_OPEN_READ | CWAL_OPEN_DIRECTORY)
        guard descriptor >= 0 else {
            throw StorageError(negatedErrno: Int(descriptor), operation: "open directory", path: directory)
        }
        defer { _ = cwal_close(descriptor) }
        var magic: UInt64 = 0
        var available: UInt64 = 0
        var total: UInt64 = 0
        var result = unsafe cwal_filesystem_type(descriptor, &magic)
        if result == 0 { result = unsafe cwal_filesystem_space(descriptor, &available, &total) }
        guard result == 0 else { throw StorageError(negatedErrno: Int(result), operation: "statfs", path: directory) }

        let mount = mount(of: directory, descriptor: descriptor)
        let kind = mount.map { FileSystemKind(name: $0.type) } ?? FileSystemKind(magic: magic)
        var report = FileSystemReport(kind: kind, availableBytes: available, totalBytes: total)
        report.mountPoint = mount?.mountPoint
        report.source = mount?.source
        report.options = mount?.options ?? []

        if kind.nature == .stacked, depth < 4, let upper = mount?.value(ofOption: "upperdir"),
            // Inside a container the path belongs to the host, and is not to be found or is another's: not looked at.
            let (below, device) = try? examine(upper, sysfs: sysfs, depth: depth + 1)
        {
            report.upper = [below]
            return (report, device)
        }
        let device = try deviceNumber(of: directory, mount: mount)
        return (report, device.flatMap { BlockDeviceProbe(sysfs: sysfs).examine($0, depth: depth) })
    }

    private static func mount(of directory: String, descriptor: CInt) -> Mount? {
        guard let text = SystemText.contents("/proc/self/mountinfo") else { return nil }
        let table = MountTable(text)
        // The kernel knows best which of several mounts on one place a path leads to.
        let details = SystemText.contents("/proc/self/fdinfo/\(descriptor)")?.split(separator: "\n")
        if let line = details?.first(where: { $0.hasPrefix("mnt_id:") }),
            let identifier = line.split(whereSeparator: \.isWhitespace).last.flatMap({ UInt64($0) }),
            let mount = table.mount(identifier: identifier)
        {
            return mount
        }
        return SystemText.resolved(directory).flatMap { table.mount(of: $0) }
    }

    /// The block device below a directory. File systems that span several, as btrfs, show a number of no device; the
    /// one that was named when it was mounted stands for all.
    private static func deviceNumber(of directory: String, mount: Mount?) throws(StorageError) -> DeviceNumber? {
        let number = try PathStatus(directory).device
        if number.major != 0 { return number }
        guard let source = mount?.source, source.hasPrefix("/dev/") else { return nil }
        return (try? PathStatus(source))?.blockDevice
    }
}
