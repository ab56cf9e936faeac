import TelemetryWAL
import WALFormat

/// What encryption promises: nothing of a tenant that was encrypted from its first record on stands on the disk as it was
/// appended, in whatever file.
extension Judge {
    func checkEncryption(of tenants: Set<TenantName>, on disk: SimulatedDisk, _ registry: CommitRegistry) {
        if tenants.isEmpty { return }
        if let frame = registry.frameInTheOpen {
            fail("a frame with \(frame), which is encrypted, was written in the open")
            return
        }
        for (path, inode) in disk.entries.sorted(by: { $0.key < $1.key }) where !inode.isDirectory {
            let number = payload(in: inode.content) { _, attempt in tenants.contains(attempt.tenant) }
            guard let number else { continue }
            fail("record \(number) of \(attempts[number].tenant), which is encrypted, is in the open in \(path)")
            return
        }
    }
}
