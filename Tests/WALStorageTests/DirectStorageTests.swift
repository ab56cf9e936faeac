import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import WALStorage

@Suite struct DirectStorageTests {
    let directory = TemporaryDirectory()
    var storage: DirectStorage { DirectStorage(root: FilePath(directory.appending("root"))) }

    @Test func createdFileIsZerosOfTheSizeAskedFor() throws {
        try storage.prepareDirectories()
        var filled: [UInt64] = []
        let file = try storage.create("journal/a.journal", size: 300 << 10, pause: { filled.append($0) }) { _ in }
        #expect(try file.size() == 300 << 10)
        #expect(filled == [128 << 10, 256 << 10, 300 << 10], "a rest behind each piece")
        let bytes = try Data(contentsOf: URL(fileURLWithPath: directory.appending("root/journal/a.journal")))
        #expect(bytes == Data(count: 300 << 10))
        // Real extents, not a hole: as many blocks as bytes.
        var status = stat()
        #expect(stat(directory.appending("root/journal/a.journal"), &status) == 0)
        #expect(status.st_blocks * 512 >= 300 << 10)
    }

    /// What a process before left under a temporary name is no part of what is begun under it.
    @Test func temporaryFilesBeginEmpty() throws {
        try storage.prepareDirectories()
        let buffer = AlignedBuffer(capacity: 8192)
        for count in [8192, 4096] {
            let file = try storage.createTemporary("tenants/a/1")
            #expect(try file.size() == 0)
            try file.write(buffer, at: 0, length: count, to: 0, durability: .processCrash)
        }
        try storage.publish([("tenants/a/1", "tenants/a/1.segment")])
        #expect(try storage.open("tenants/a/1.segment", forWriting: false).size() == 4096)
    }

    @Test func writesAndReadsGoPastThePageCache() throws {
        try storage.prepareDirectories()
        let file = try storage.create("journal/a.journal", size: 64 << 10) { _ in }
        #expect(file.isDirect)
        let buffer = AlignedBuffer(capacity: 8192)
        buffer.withMutableBytes { $0.storeBytes(of: 0x0102_0304, toByteOffset: 4096, as: UInt32.self) }
        try file.write(buffer, at: 4096, length: 4096, to: 8192, durability: .powerLoss)
        let other = AlignedBuffer(capacity: 4096)
        #expect(try file.read(into: other, at: 0, length: 4096, from: 8192) == 4096)
        #expect(other.withBytes { unsafe $0.unsafeLoad(as: UInt32.self) } == 0x0102_0304)
        #expect(try file.read(into: other, at: 0, length: 4096, from: 64 << 10) == 0, "nothing behind the end")
    }

    @Test func misalignedDirectIOIsAnErrorAndNotBuffered() throws {
        try storage.prepareDirectories()
        let file = try storage.create("journal/a.journal", size: 64 << 10) { _ in }
        let buffer = AlignedBuffer(capacity: 8192)
        #expect(throws: StorageError.self) {
            try file.write(buffer, at: 1, length: 100, to: 3, durability: .powerLoss)
        }
    }

    @Test(.enabled(if: FileManager.default.isWritableFile(atPath: "/dev/shm"), "no tmpfs here"))
    func memoryFileSystemIsRefusedUnlessDirectIOIsMerelyPreferred() throws {
        let path = FilePath("/dev/shm/telemetry-wal-test-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(atPath: path.string) }
        let strict = DirectStorage(root: path)
        try strict.prepareDirectories()
        #expect { try strict.requiredBlockSize() } throws: { ($0 as? StorageError)?.code == .directIOUnsupported }
        #expect(try DirectStorage(root: path, direct: .preferred).requiredBlockSize() == 4096)
    }

    @Test func replaceIsWholeAndLeavesNoTemporaryFile() throws {
        try storage.prepareDirectories()
        try storage.replace("FORMAT", with: [1, 2, 3])
        try storage.replace("FORMAT", with: [4, 5])
        #expect(try storage.contents(of: "FORMAT", limit: 100) == [4, 5])
        #expect(Set(try storage.entries(of: "")) == ["FORMAT", "journal", "quarantine"])
    }

    @Test func movedFileKeepsItsBytesInANewDirectory() throws {
        try storage.prepareDirectories()
        try storage.replace("journal/a", with: [7])
        try storage.move("journal/a", to: "quarantine/b")
        #expect(try storage.contents(of: "quarantine/b", limit: 10) == [7])
        #expect(try storage.entries(of: "journal").isEmpty)
    }

    @Test func errorsSayWhatWhereAndWhatToDo() throws {
        #expect { try storage.open("journal/none", forWriting: false) } throws: {
            let error = try #require($0 as? StorageError)
            return error.code == .notFound && "\(error)".contains("journal/none") && "\(error)".contains("open")
        }
        let full = StorageError(negatedErrno: -Int(ENOSPC), operation: "write 1 bytes", path: "/x")
        #expect(full.code == .noSpace && "\(full)".contains("free space"))
    }

    @Test func lockIsHeldOnceAndNamesItsHolder() throws {
        try storage.prepareDirectories()
        #expect(try storage.writer() == .none)
        do {
            let lock = try storage.lockForWriting()
            #expect(try storage.writer() == .process(Int(getpid())))
            #expect { try storage.lockForWriting() } throws: {
                ($0 as? StorageError)?.code == .locked(byProcess: Int(getpid()))
            }
            withExtendedLifetime(lock) {}
        }
        #expect(try storage.writer() == .none)
    }

    @Test func requiredBlockSizeNeedsNoNewFileWhereThereIsOne() throws {
        try storage.prepareDirectories()
        _ = try storage.create("journal/a.journal", size: 64 << 10) { _ in }
        #expect(try storage.requiredBlockSize() >= 4096)
        #expect(try storage.entries(of: "journal") == ["a.journal"])
    }
}
