import CWALLinux
import Glibc
import SystemPackage

/// Files below a root directory, read and written past the page cache (O_DIRECT), durable by RWF_DSYNC.
///
/// New files appear whole or not at all: they are made under a temporary name, filled with real zeros (an allocated
/// but unwritten extent would cost a metadata write at the first use of each block), synced, renamed, and the
/// directory synced.
public struct DirectStorage: JournalStorage {
    public typealias File = DirectFile

    private let root: FilePath
    /// What names of files are put behind.
    private let prefix: String
    private let direct: DirectIORequirement
    /// Ends the name of a file that is not yet complete.
    static let temporarySuffix = ".tmp"

    /// Storage below `root`, which need not exist yet.
    public init(root: FilePath, direct: DirectIORequirement = .required) {
        self.root = root
        prefix = root.isEmpty || root.string.hasSuffix("/") ? root.string : root.string + "/"
        self.direct = direct
    }

    public var rootDescription: String { root.string }

    public func dedicated(at directory: String) -> DirectStorage {
        DirectStorage(root: FilePath(directory.hasPrefix("/") ? directory : prefix + directory), direct: direct)
    }

    private func path(_ name: String) -> String { name.isEmpty ? root.string : prefix + name }

    /// The directory that a name stands in, relative to the root; "" is the root itself.
    private func directory(of name: String) -> String { name.lastIndex(of: "/").map { String(name[..<$0]) } ?? "" }

    public func prepareDirectories() throws(StorageError) {
        var missing: [FilePath] = []
        var ancestor = root
        while !ancestor.isEmpty, !isPresent(ancestor.string) {
            missing.append(ancestor)
            if !ancestor.removeLastComponent() { break }
        }
        for directory in missing.reversed() { try makeDirectory(directory) }
        let journal = root.appending("journal")
        // An earlier process may have been killed between a change of a name and the directory's sync: what is seen
        // here need not be durable, and that holds for every directory on the way, which it may have made.
        var directory = root
        while directory.removeLastComponent() {
            // Where it may not be read, it is not of our making; a device that fails is another matter.
            do throws(StorageError) {
                try synchronizeDirectory(directory.isEmpty ? "." : directory.string)
            } catch { if error.code == .ioFailure { throw error } }
        }
        try synchronizeDirectory(root.string)
        if isPresent(journal.string) { try synchronizeDirectory(journal.string) } else { try makeDirectory(journal) }
        // There ahead of need: setting a damaged file aside must not depend on free space.
        let quarantine = root.appending("quarantine")
        if !isPresent(quarantine.string) { try makeDirectory(quarantine) }
    }

    private func isPresent(_ path: String) -> Bool { SystemCalls.exists(path) == 1 }

    private func makeDirectory(_ directory: FilePath) throws(StorageError) {
        let result = SystemCalls.makeDirectory(directory.string)
        if result != 0, result != -EEXIST {
            throw StorageError(negatedErrno: Int(result), operation: "create directory", path: directory.string)
        }
        let parent = directory.removingLastComponent()
        try synchronizeDirectory(parent.isEmpty ? "." : parent.string)
    }

    public func exists(_ name: String) throws(StorageError) -> Bool {
        let result = SystemCalls.exists(path(name))
        if result < 0 { throw StorageError(negatedErrno: Int(result), operation: "look up", path: path(name)) }
        return result == 1
    }

    public func freeSpace() throws(StorageError) -> UInt64 {
        let result = SystemCalls.freeSpace(rootDescription)
        if result < 0 {
            throw StorageError(negatedErrno: Int(result), operation: "ask for free space", path: rootDescription)
        }
        return UInt64(result)
    }

    public func entries(of directory: String) throws(StorageError) -> [String] {
        let path = path(directory)
        let (names, error) = SystemCalls.names(inDirectory: path)
        if error != 0 { throw StorageError(negatedErrno: Int(error), operation: "list directory", path: path) }
        return names
    }

    public func open(_ name: String, forWriting: Bool) throws(StorageError) -> DirectFile {
        let flags = CWAL_OPEN_READ | (forWriting ? CWAL_OPEN_WRITE : 0)
        let file = try DirectFile(path: path(name), flags: flags, direct: direct)
        try checkDirectIO(of: file)
        return file
    }

    /// O_DIRECT that the kernel accepts may still be none: some file systems ignore the flag.
    private func checkDirectIO(of file: DirectFile) throws(StorageError) {
        guard direct == .required else { return }
        let unsupported = StorageError(.directIOUnsupported, operation: "open", path: file.path)
        if let alignment = try file.directIOAlignment() {
            if alignment.memory == 0 || alignment.offset == 0 { throw unsupported }
        } else if file.fileSystemType() == 0x0102_1994 || file.fileSystemType() == 0x8584_58F6 {
            throw unsupported  // tmpfs and ramfs live in the page cache
        }
    }

    /// The block size that this file system's direct I/O asks for, in bytes; at least 4,096. Probed by a file that
    /// is removed again.
    public func requiredBlockSize() throws(StorageError) -> Int {
        // A journal file that is there answers without a byte of new space.
        if let name = try entries(of: "journal").first(where: { $0.hasSuffix(".journal") }) {
            let file = try open("journal/" + name, forWriting: false)
            let alignment = try file.directIOAlignment()
            return max(4096, alignment?.memory ?? 0, alignment?.offset ?? 0)
        }
        let probe = path("journal/alignment-probe" + Self.temporarySuffix)
        let flags = CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE
        let file = try DirectFile(path: probe, flags: flags, direct: direct)
        defer { SystemCalls.unlink(probe) }
        try checkDirectIO(of: file)
        let alignment = try file.directIOAlignment()
        return max(4096, alignment?.memory ?? 0, alignment?.offset ?? 0)
    }

    public func create(
        _ name: String, size: UInt64, pause: (_ filled: UInt64) -> Void = { _ in },
        fill: (DirectFile) throws(StorageError) -> Void
    ) throws(StorageError) -> DirectFile {
        let final = path(name)
        let temporary = final + Self.temporarySuffix
        SystemCalls.unlink(temporary)
        let flags =
            CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE
            | CWAL_OPEN_EXCLUSIVE
        do throws(StorageError) {
            let file = try DirectFile(path: temporary, flags: flags, direct: direct, lastingPath: final)
            try checkDirectIO(of: file)
            try file.allocate(size)
            // Small pieces: a large one would stand in the way of appends that wait for the same device.
            let zeros = AlignedBuffer(capacity: 128 << 10)
            var offset: UInt64 = 0
            while offset < size {
                let length = Int(min(UInt64(zeros.capacity), size - offset))
                try file.write(zeros, at: 0, length: length, to: offset, durability: .processCrash)
                offset += UInt64(length)
                pause(offset)
            }
            try fill(file)
            try file.synchronizeWithMetadata()
            try rename(temporary, to: name)
            return file
        } catch {
            SystemCalls.unlink(temporary)
            throw error
        }
    }

    /// From a path to a name.
    private func rename(_ temporary: String, to name: String) throws(StorageError) {
        let final = path(name)
        let result = SystemCalls.rename(temporary, to: final)
        if result != 0 {
            throw StorageError(negatedErrno: Int(result), operation: "rename to \(final)", path: temporary)
        }
        try synchronizeDirectory(path(directory(of: name)))
    }

    private func synchronizeDirectory(_ path: String) throws(StorageError) {
        #if Simulation
            if DeliberateBug.isActive(.skipDirectorySync) { return }
        #endif
        let descriptor = SystemCalls.open(path, CWAL_OPEN_READ | CWAL_OPEN_DIRECTORY)
        guard descriptor >= 0 else {
            throw StorageError(negatedErrno: Int(descriptor), operation: "open directory", path: path)
        }
        defer { _ = cwal_close(descriptor) }
        let result = cwal_fsync(descriptor)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "fsync directory", path: path) }
    }

    public func createTemporary(_ name: String) throws(StorageError) -> DirectFile {
        let final = path(name)
        let temporary = final + Self.temporarySuffix
        let flags = CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE | CWAL_OPEN_EXCLUSIVE
        let file: DirectFile
        // There is hardly ever anything in the way: asked for only where there is.
        do throws(StorageError) {
            file = try DirectFile(path: temporary, flags: flags, direct: direct, lastingPath: final)
        } catch {
            switch error.code {
            case .notFound: try makeDirectories(to: FilePath(path(directory(of: name))))
            case .alreadyExists: SystemCalls.unlink(temporary)
            default: throw error
            }
            file = try DirectFile(path: temporary, flags: flags, direct: direct, lastingPath: final)
        }
        try checkDirectIO(of: file)
        return file
    }

    /// Makes a directory below the root, and those on the way that are missing.
    private func makeDirectories(to directory: FilePath) throws(StorageError) {
        var missing: [FilePath] = []
        var ancestor = directory
        while ancestor != root, !ancestor.isEmpty, !isPresent(ancestor.string) {
            missing.append(ancestor)
            if !ancestor.removeLastComponent() { break }
        }
        for directory in missing.reversed() { try makeDirectory(directory) }
    }

    public func publish(_ renames: [(temporary: String, name: String)]) throws(StorageError) {
        try synchronize(files: renames.map { $0.temporary + Self.temporarySuffix })
        var directories: Set<String> = []
        // Relative to the root; "" is the root itself.
        for (temporary, name) in renames {
            let final = path(name)
            let temporary = path(temporary) + Self.temporarySuffix
            let result = SystemCalls.rename(temporary, to: final)
            if result != 0 {
                throw StorageError(negatedErrno: Int(result), operation: "rename to \(final)", path: temporary)
            }
            // Those above, too: a process that made them may have been killed before it synced them.
            var directory = directory(of: name)
            while directories.insert(directory).inserted, !directory.isEmpty {
                directory = self.directory(of: directory)
            }
        }
        try synchronize(directories: directories.sorted())
    }

    /// More files or directories than these are synced by syncing their file system: each by itself would cost a change
    /// of the file system's journal and a flush of the device.
    private static var mostSyncs: Int { 32 }

    public func synchronize(directories: [String]) throws(StorageError) {
        if directories.count > Self.mostSyncs, try synchronizeFileSystem() { return }
        for directory in directories { try synchronizeDirectory(path(directory)) }
    }

    private func synchronize(files: [String]) throws(StorageError) {
        if files.count > Self.mostSyncs, try synchronizeFileSystem() { return }
        for file in files {
            try DirectFile(path: path(file), flags: CWAL_OPEN_READ, direct: direct).synchronizeWithMetadata()
        }
    }

    /// Returns false where there is no such call: in a simulation.
    private func synchronizeFileSystem() throws(StorageError) -> Bool {
        #if Simulation
            return false
        #else
            let descriptor = SystemCalls.open(root.string, CWAL_OPEN_READ | CWAL_OPEN_DIRECTORY)
            guard descriptor >= 0 else {
                throw StorageError(negatedErrno: Int(descriptor), operation: "open directory", path: root.string)
            }
            defer { _ = cwal_close(descriptor) }
            let result = cwal_syncfs(descriptor)
            if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "syncfs", path: root.string) }
            return true
        #endif
    }

    public func contents(of name: String, limit: Int) throws(StorageError) -> [UInt8] {
        let path = path(name)
        let descriptor = SystemCalls.open(path, CWAL_OPEN_READ)
        guard descriptor >= 0 else { throw StorageError(negatedErrno: Int(descriptor), operation: "open", path: path) }
        defer { _ = cwal_close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: limit)
        var done = 0
        var failures = 0
        while done < limit {
            let result = unsafe bytes.withUnsafeMutableBytes {
                unsafe cwal_pread(descriptor, $0.baseAddress! + done, limit - done, UInt64(done))
            }
            if result == 0 { break }
            if result > 0 {
                done += result
                failures = 0
                continue
            }
            if result == -Int(EINTR) { continue }
            failures += 1
            if result != -Int(EIO) || failures == 3 {
                throw StorageError(negatedErrno: result, operation: "read", path: path)
            }
        }
        return Array(bytes[..<done])
    }

    public func replace(_ name: String, with bytes: [UInt8]) throws(StorageError) {
        let final = path(name)
        let temporary = final + Self.temporarySuffix
        SystemCalls.unlink(temporary)
        do throws(StorageError) {
            let flags = CWAL_OPEN_WRITE | CWAL_OPEN_CREATE | CWAL_OPEN_EXCLUSIVE
            let descriptor = SystemCalls.open(temporary, flags)
            guard descriptor >= 0 else {
                throw StorageError(negatedErrno: Int(descriptor), operation: "create", path: temporary)
            }
            defer { _ = cwal_close(descriptor) }
            let written = unsafe bytes.withUnsafeBytes {
                unsafe cwal_pwrite(descriptor, $0.baseAddress, $0.count, 0)
            }
            guard written == bytes.count else {
                throw written < 0
                    ? StorageError(negatedErrno: written, operation: "write", path: temporary)
                    : StorageError(.shortWrite, operation: "write", path: temporary)
            }
            let synced = cwal_fsync(descriptor)
            if synced != 0 { throw StorageError(negatedErrno: Int(synced), operation: "fsync", path: temporary) }
            try rename(temporary, to: name)
        } catch {
            SystemCalls.unlink(temporary)
            throw error
        }
    }

    public func move(_ name: String, to target: String) throws(StorageError) {
        let directory = path(directory(of: target))
        if !isPresent(directory) { try makeDirectories(to: FilePath(directory)) }
        try rename(path(name), to: target)
        try synchronizeDirectory(path(self.directory(of: name)))
    }

    public func remove(_ name: String) throws(StorageError) {
        let path = path(name)
        let result = SystemCalls.unlink(path)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "remove", path: path) }
        try synchronizeDirectory(self.path(directory(of: name)))
    }

    public func discard(_ names: [String]) throws(StorageError) {
        for name in names {
            let result = SystemCalls.unlink(path(name))
            if result != 0, result != -ENOENT {
                throw StorageError(negatedErrno: Int(result), operation: "remove", path: path(name))
            }
        }
    }

    public func makeWriteQueue(depth: Int) throws(StorageError) -> RingWriteQueue { try RingWriteQueue(depth: depth) }

    public func lockForWriting() throws(StorageError) -> WriterLock { try WriterLock(path: path("LOCK")) }

    public func writer() throws(StorageError) -> WriterPresence { try WriterLock.presence(path: path("LOCK")) }

    /// Free bytes of the file system for ordinary users, and its size.
    public func space() throws(StorageError) -> (available: UInt64, total: UInt64) {
        let descriptor = SystemCalls.open(root.string, CWAL_OPEN_READ | CWAL_OPEN_DIRECTORY)
        guard descriptor >= 0 else {
            throw StorageError(negatedErrno: Int(descriptor), operation: "open directory", path: root.string)
        }
        defer { _ = cwal_close(descriptor) }
        var available: UInt64 = 0
        var total: UInt64 = 0
        let result = unsafe cwal_filesystem_space(descriptor, &available, &total)
        if result != 0 { throw StorageError(negatedErrno: Int(result), operation: "statvfs", path: root.string) }
        return (available, total)
    }
}
