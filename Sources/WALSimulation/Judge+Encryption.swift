import TelemetryWAL
import WALFormat

/// What encryption promises: nothing of a tenant that was encrypted from its first record on stands on the disk as it was
/// appended, in whatever file.
extension Judge {
    /// Where an encrypted commit stands, `FORMAT` says so: it is durable before the first one is written.
    func checkEncryptionMark(of root: String, on disk: SimulatedDisk, _ registry: CommitRegistry) {
        guard let commit = registry.encryptedCommits.first(where: { $0.isInLog && $0.isIntact }) else { return }
        let format = disk.entries[root + "/FORMAT"]?.content.withUnsafeBytes {
            try? RootFormat.decode(RawSpan(_unsafeBytes: $0))
        }
        if !(format?.isEncrypted ?? false) {
            fail("commit \(commit.commitNumber) in \(commit.inode.path) is encrypted, and FORMAT does not say so")
        }
    }

    func checkEncryption(of tenants: Set<TenantName>, on disk: SimulatedDisk, _ registry: CommitRegistry) {
        if let mistake = registry.encryptionMistake { fail(mistake) }
        if tenants.isEmpty { return }
        for (path, inode) in disk.entries.sorted(by: { $0.key < $1.key }) where !inode.isDirectory {
            let number = payload(in: inode.content) { _, attempt in tenants.contains(attempt.tenant) }
            guard let number else { continue }
            fail("record \(number) of \(attempts[number].tenant), which is encrypted, is in the open in \(path)")
            return
        }
    }
}
