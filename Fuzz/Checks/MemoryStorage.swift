import Synchronization
import WALFormat
import WALStorage

/// Files in memory, for journals that the fuzzer makes up: no device, no system call. Reads of given ranges fail as a
/// device's do, until they are written, which gives them other sectors.
struct MemoryStorage: JournalStorage {
    private let directory: Directory
    /// Whether another process seems to write the log.
    var hasWriter = false
    /// Whether directories are listed backwards: nothing may depend on their order.
    var listsBackwards = false

    init(files: [String: [UInt8]] = [:], unreadable: [String: [Range<UInt64>]] = [:]) {
        directory = Directory(files, unreadable: unreadable)
    }

    /// The same files in a storage of their own: what is written to one does not show in the other.
    func copy() -> MemoryStorage { MemoryStorage(files: files, unreadable: directory.unreadable) }

    /// All files with what they hold.
    var files: [String: [UInt8]] { directory.files.withLock { $0.mapValues { $0.bytes.withLock { $0 } } } }

    var rootDescription: String { "memory" }
    /// Journals that are made up are a log's shared ones: no tenant has its own.
    func dedicated(at directory: String) -> MemoryStorage { MemoryStorage() }
    func prepareDirectories() throws(StorageError) {}
    func requiredBlockSize() throws(StorageError) -> Int { 4096 }
    func freeSpace() throws(StorageError) -> UInt64 { 1 << 40 }

    func exists(_ name: String) throws(StorageError) -> Bool {
        if name.isEmpty || name == "journal" { return true }
        return directory.files.withLock { files in
            files[name] != nil || files.keys.contains { $0.hasPrefix(name + "/") }
        }
    }

    func entries(of name: String) throws(StorageError) -> [String] {
        let prefix = name.isEmpty ? "" : name + "/"
        let names = directory.files.withLock { $0.keys.filter { $0.hasPrefix(prefix) } }
        let entries = Set(names.map { String($0.dropFirst(prefix.count).prefix { $0 != "/" }) }).sorted()
        return listsBackwards ? entries.reversed() : entries
    }

    func open(_ name: String, forWriting: Bool) throws(StorageError) -> MemoryFile {
        guard let file = directory.files.withLock({ $0[name] }) else {
            throw StorageError(.notFound, operation: "open", path: name)
        }
        return file
    }

    func create(
        _ name: String, size: UInt64, pause: (_ filled: UInt64) -> Void,
        fill: (MemoryFile) throws(StorageError) -> Void
    ) throws(StorageError) -> MemoryFile {
        let file = MemoryFile(path: name, bytes: [UInt8](repeating: 0, count: Int(size)))
        try fill(file)
        let isNew = directory.files.withLock { files in
            if files[name] != nil { return false }
            files[name] = file
            return true
        }
        if !isNew { throw StorageError(.alreadyExists, operation: "create", path: name) }
        return file
    }

    func createTemporary(_ name: String) throws(StorageError) -> MemoryFile {
        let file = MemoryFile(path: name, bytes: [])
        directory.files.withLock { $0[name + ".tmp"] = file }
        return file
    }

    func publish(_ renames: [(temporary: String, name: String)]) throws(StorageError) {
        directory.files.withLock { files in
            for (temporary, name) in renames { files[name] = files.removeValue(forKey: temporary + ".tmp") }
        }
    }

    func synchronize(directories: [String]) throws(StorageError) {}
    func discard(_ names: [String]) throws(StorageError) {
        directory.files.withLock { files in for name in names { files[name] = nil } }
    }

    func contents(of name: String, limit: Int) throws(StorageError) -> [UInt8] {
        let file = try open(name, forWriting: false)
        return file.bytes.withLock { Array($0.prefix(limit)) }
    }

    func replace(_ name: String, with bytes: [UInt8]) throws(StorageError) {
        let file = MemoryFile(path: name, bytes: bytes)
        directory.files.withLock { $0[name] = file }
    }

    func move(_ name: String, to target: String) throws(StorageError) {
        directory.files.withLock { $0[target] = $0.removeValue(forKey: name) }
    }

    func remove(_ name: String) throws(StorageError) { directory.files.withLock { $0[name] = nil } }

    func makeWriteQueue(depth: Int) throws(StorageError) -> MemoryQueue {
        throw StorageError(.other, operation: "make a queue", path: "memory")
    }

    func lockForWriting() throws(StorageError) {}
    func writer() throws(StorageError) -> WriterPresence { hasWriter ? .process(1) : .none }
}

private final class Directory: Sendable {
    let files: Mutex<[String: MemoryFile]>
    let unreadable: [String: [Range<UInt64>]]

    init(_ files: [String: [UInt8]], unreadable: [String: [Range<UInt64>]]) {
        self.unreadable = unreadable
        var made: [String: MemoryFile] = [:]
        for (name, bytes) in files {
            made[name] = MemoryFile(path: name, bytes: bytes, unreadable: unreadable[name] ?? [])
        }
        self.files = Mutex(made)
    }
}

/// A file of a `MemoryStorage`.
final class MemoryFile: StorageFile {
    let path: String
    let bytes: Mutex<[UInt8]>
    private let unreadable: Mutex<[Range<UInt64>]>

    init(path: String, bytes: [UInt8], unreadable: [Range<UInt64>] = []) {
        self.path = path
        self.bytes = Mutex(bytes)
        self.unreadable = Mutex(unreadable)
    }

    func size() throws(StorageError) -> UInt64 { bytes.withLock { UInt64($0.count) } }
    func synchronize() throws(StorageError) {}

    func read(
        into buffer: AlignedBuffer, at position: Int, length: Int, from offset: UInt64
    ) throws(StorageError) -> Int {
        let wanted = offset..<offset + UInt64(length)
        if unreadable.withLock({ ranges in ranges.contains { $0.overlaps(wanted) } }) {
            throw StorageError(.ioFailure, operation: "read \(length) bytes at \(offset)", path: path)
        }
        return bytes.withLock { bytes in
            let start = Int(min(offset, UInt64(bytes.count)))
            let count = min(length, bytes.count - start)
            let source = bytes.span.bytes.extracting(start..<start + count)
            buffer.withMutableBytes { $0.store(source, at: position) }
            return count
        }
    }

    func write(
        _ buffer: AlignedBuffer, at position: Int, length: Int, to offset: UInt64, durability: WriteDurability
    ) throws(StorageError) {
        let written = offset..<offset + UInt64(length)
        unreadable.withLock { ranges in
            ranges = ranges.flatMap { range in
                [
                    range.lowerBound..<max(range.lowerBound, min(range.upperBound, written.lowerBound)),
                    min(range.upperBound, max(range.lowerBound, written.upperBound))..<range.upperBound,
                ].filter { !$0.isEmpty }
            }
        }
        bytes.withLock { bytes in
            let start = Int(offset)
            if bytes.count < start + length {
                bytes += repeatElement(0, count: start + length - bytes.count)
            }
            bytes.withMutableRawSpan { (target: inout MutableRawSpan) in
                buffer.withBytes { target.store($0.extracting(position..<position + length), at: start) }
            }
        }
    }
}

/// A queue that is never made: the fuzzer's logs are written by whoever appends.
final class MemoryQueue: WriteQueue {
    typealias File = MemoryFile

    private init() {}
    func submit(
        _ buffer: AlignedBuffer, length: Int, to file: MemoryFile, at offset: UInt64, durability: WriteDurability,
        tag: Int
    ) {}
    func next() -> (tag: Int, result: Result<Void, StorageError>)? { nil }
    func wait() {}
    func wake() {}
}
