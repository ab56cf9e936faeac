/// What the engine asks of a place that keeps files. The engine is generic over it: production runs on
/// `DirectStorage`, tests on a simulated disk, neither at the other's cost.
///
/// Names are paths relative to the log's root. Implementations may be called from several threads at a time, one file's
/// writes, which never overlap, too.
public protocol JournalStorage: Sendable {
    associatedtype File: StorageFile
    /// Held for as long as the value lives.
    associatedtype Lock: Sendable
    associatedtype Queue: WriteQueue where Queue.File == File

    /// The root, for messages.
    var rootDescription: String { get }
    /// The storage of a root of its own: below this one for a relative path, anywhere for an absolute one.
    func dedicated(at directory: String) -> Self
    /// Creates the root and its directories that are missing, durably.
    func prepareDirectories() throws(StorageError)
    /// The block size that direct I/O asks for here, bytes, at least 4,096; a power of two. Needs the directories.
    func requiredBlockSize() throws(StorageError) -> Int
    /// Whether anything of this name exists.
    func exists(_ name: String) throws(StorageError) -> Bool
    /// Bytes of the file system that the log may still use.
    func freeSpace() throws(StorageError) -> UInt64
    /// Names of the entries of a directory (`""` for the root), without order. Throws `.notFound` if there is none.
    func entries(of directory: String) throws(StorageError) -> [String]
    /// Opens an existing file for reading, or reading and writing, past the page cache.
    func open(_ name: String, forWriting: Bool) throws(StorageError) -> File
    /// Creates a file of `size` bytes, all of them real zeros on stable storage, under a temporary name; `fill` may
    /// write its first bytes; then gives it its name and makes that durable too. `pause` is called between the pieces in
    /// which it writes, with the number of bytes that are there.
    func create(
        _ name: String, size: UInt64, pause: (_ filled: UInt64) -> Void, fill: (File) throws(StorageError) -> Void
    ) throws(StorageError) -> File
    /// Creates an empty file of this name and `.tmp`, in a directory that is made if it is missing, durably. What an
    /// attempt before left under that name is gone. `publish` makes it somebody's.
    func createTemporary(_ name: String) throws(StorageError) -> File
    /// Makes files of `createTemporary` durable, then gives them names in the same directories, one by one, each in the
    /// place of whatever had it, and makes that durable. When it throws, any of them may have its name.
    func publish(_ renames: [(temporary: String, name: String)]) throws(StorageError)
    /// Makes the names in directories durable.
    func synchronize(directories: [String]) throws(StorageError)
    /// Reads a whole small file, at most `limit` bytes of it. A device's error is tried again twice.
    func contents(of name: String, limit: Int) throws(StorageError) -> [UInt8]
    /// Replaces a small file whole: temporary name, sync, rename, directory sync.
    func replace(_ name: String, with bytes: [UInt8]) throws(StorageError)
    /// Gives a file another name, in a directory that is created if it is missing, durably.
    func move(_ name: String, to target: String) throws(StorageError)
    /// Removes a file, durably.
    func remove(_ name: String) throws(StorageError)
    /// Removes files that nobody needs, those that are not there left out. Their names may come back with a loss of
    /// power.
    func discard(_ names: [String]) throws(StorageError)
    /// A queue for as many as `depth` writes at a time. Throws where the storage has none to give; writes then go one
    /// by one on threads that wait for them.
    func makeWriteQueue(depth: Int) throws(StorageError) -> Queue
    /// Takes the writer's lock. Throws `.locked` if another holds it.
    func lockForWriting() throws(StorageError) -> Lock
    /// The pid of the present writer; nil if there is none. Changes nothing on disk.
    func writer() throws(StorageError) -> WriterPresence
}

/// Whether a log has a writer at the moment.
public enum WriterPresence: Hashable, Sendable {
    case none
    /// There is one; its pid if the lock file tells.
    case process(Int?)
}

/// What a write must have reached before it returns.
public enum WriteDurability: Hashable, Sendable {
    /// Stable storage: data, and the metadata without which it could not be read.
    case powerLoss
    /// The device, whose cache may lose it with the power.
    case processCrash
}

/// An open file of a `JournalStorage`. Offsets and lengths are multiples of the block size, and so are positions in
/// buffers.
public protocol StorageFile: Sendable {
    var path: String { get }
    /// The file's present size, bytes.
    func size() throws(StorageError) -> UInt64
    /// Reads until `length` bytes are there or the file ends; returns how many there are. Bytes behind them are not
    /// touched. A device's error is tried again twice, then thrown as `.ioFailure`.
    func read(
        into buffer: AlignedBuffer, at position: Int, length: Int, from offset: UInt64
    ) throws(StorageError) -> Int
    /// Writes all or throws. A failed or short write is never tried again: what the disk holds is then unknown.
    func write(
        _ buffer: AlignedBuffer, at position: Int, length: Int, to offset: UInt64, durability: WriteDurability
    ) throws(StorageError)
    /// Waits until all that was written is on stable storage.
    func synchronize() throws(StorageError)
    /// Tells the file system that what is in the file from an offset on is not wanted any more, so that it gives the
    /// blocks back, and tells the device where it does. Without effect where there is no such thing.
    func discardBlocks(from offset: UInt64)
}

extension StorageFile {
    public func discardBlocks(from offset: UInt64) {}
}

/// Several writes under way at a time, all of them one thread's. Only `wake` may be called by others.
public protocol WriteQueue: AnyObject, Sendable {
    associatedtype File: StorageFile

    /// Starts a write of a buffer's first `length` bytes. `tag`, 0 up to the queue's depth, tells it from others under
    /// way; each tag goes with one buffer. The buffer belongs to the queue until `next` has told how the write ended,
    /// as `StorageFile.write` would have.
    func submit(
        _ buffer: AlignedBuffer, length: Int, to file: File, at offset: UInt64, durability: WriteDurability, tag: Int)
    /// How a write ended; nil if none has since the last call. In any order.
    func next() -> (tag: Int, result: Result<Void, StorageError>)?
    /// Sleeps until a write has ended or `wake` is called; may return without either.
    func wait()
    /// Ends a `wait`, the present one or the next. From any thread.
    func wake()
}
