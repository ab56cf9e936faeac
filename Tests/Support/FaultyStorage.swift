import Foundation
import SystemPackage
import WALStorage

/// What a test has the storage do wrong. Its closures may be changed at any time and are called on any thread.
public final class FaultPlan: @unchecked Sendable {
    /// How a write goes wrong.
    public enum WriteFault: Sendable {
        /// The device fails and holds nothing of it.
        case fails(StorageError.Code)
        /// The device fails and holds the given ranges of it all the same, counted from the write's first byte.
        case failsHolding([Range<Int>])
        /// The device says that all is well and holds nothing of it.
        case dropped
    }

    private let lock = NSLock()
    private var onWrite: (@Sendable (String, Range<UInt64>) -> WriteFault?)?
    private var onRead: (@Sendable (String, Range<UInt64>) -> Bool)?
    private var onHeld: (@Sendable (String) -> Void)?
    private var onCreate: (@Sendable (String) -> StorageError.Code?)?
    private var onMove: (@Sendable (String) -> Void)?
    private var onReplace: (@Sendable (String) -> StorageError.Code?)?
    private var onContents: (@Sendable (String) -> Bool)?
    private var space: Result<UInt64, StorageError>?

    public init() {}

    /// Asked before each write to a journal file that exists, with the file's path and the bytes written.
    public func setWrite(_ body: (@Sendable (String, Range<UInt64>) -> WriteFault?)?) {
        lock.withLock { onWrite = body }
    }
    /// Asked before each read; true makes it fail as a device does.
    public func setRead(_ body: (@Sendable (String, Range<UInt64>) -> Bool)?) { lock.withLock { onRead = body } }
    /// Asked before each small file is read whole; true makes it fail as a device does.
    public func setContents(_ body: (@Sendable (String) -> Bool)?) { lock.withLock { onContents = body } }
    /// Asked before each small file is replaced.
    public func setReplace(_ body: (@Sendable (String) -> StorageError.Code?)?) { lock.withLock { onReplace = body } }
    /// How much free space the file system says that it has; nil: the truth.
    public func setFreeSpace(_ bytes: UInt64?) { lock.withLock { space = bytes.map { .success($0) } } }
    /// The file system does not say how much it has.
    public func failFreeSpace() {
        lock.withLock { space = .failure(StorageError(.ioFailure, operation: "ask for free space", path: "")) }
    }
    /// Told of the file after a write that failed and of which the device holds something.
    public func setHeld(_ body: (@Sendable (String) -> Void)?) { lock.withLock { onHeld = body } }
    /// Asked before each file is made.
    public func setCreate(_ body: (@Sendable (String) -> StorageError.Code?)?) { lock.withLock { onCreate = body } }

    /// Told of each file after it was moved.
    public func setMove(_ body: (@Sendable (String) -> Void)?) { lock.withLock { onMove = body } }

    func moved(_ name: String) { lock.withLock { onMove }?(name) }
    func write(_ path: String, _ range: Range<UInt64>) -> WriteFault? { lock.withLock { onWrite }?(path, range) }
    func freeSpace() throws(StorageError) -> UInt64? { try lock.withLock { space }?.get() }
    func held(_ path: String) { lock.withLock { onHeld }?(path) }
    func read(_ path: String, _ range: Range<UInt64>) -> Bool { lock.withLock { onRead }?(path, range) ?? false }
    func contents(_ name: String) -> Bool { lock.withLock { onContents }?(name) ?? false }
    func replace(_ name: String) -> StorageError.Code? { lock.withLock { onReplace }?(name) }
    func create(_ name: String) -> StorageError.Code? { lock.withLock { onCreate }?(name) }

    /// Has the next `count` writes go wrong, all later ones right.
    public func failNextWrites(_ count: Int, _ fault: WriteFault = .fails(.ioFailure)) {
        let left = Counter(count)
        setWrite { _, _ in left.next() >= 0 ? fault : nil }
    }
}

/// Counts down, from any thread.
public final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Int

    public init(_ value: Int) { self.value = value }

    /// One less than at the last call.
    public func next() -> Int {
        lock.withLock {
            value -= 1
            return value
        }
    }
}

/// `DirectStorage` whose reads, writes and new files fail as a plan says.
public struct FaultyStorage: JournalStorage {
    public typealias File = FaultyFile
    public typealias Queue = FaultyQueue

    let base: DirectStorage
    public let plan: FaultPlan

    public init(at path: String, plan: FaultPlan = FaultPlan()) {
        self.init(base: DirectStorage(root: FilePath(path)), plan: plan)
    }

    private init(base: DirectStorage, plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    public var rootDescription: String { base.rootDescription }
    public func dedicated(at directory: String) -> FaultyStorage {
        FaultyStorage(base: base.dedicated(at: directory), plan: plan)
    }
    public func prepareDirectories() throws(StorageError) { try base.prepareDirectories() }
    public func requiredBlockSize() throws(StorageError) -> Int { try base.requiredBlockSize() }
    public func exists(_ name: String) throws(StorageError) -> Bool { try base.exists(name) }
    public func freeSpace() throws(StorageError) -> UInt64 {
        if let space = try plan.freeSpace() { return space }
        return try base.freeSpace()
    }
    public func entries(of directory: String) throws(StorageError) -> [String] { try base.entries(of: directory) }

    public func open(_ name: String, forWriting: Bool) throws(StorageError) -> FaultyFile {
        FaultyFile(base: try base.open(name, forWriting: forWriting), plan: plan)
    }

    public func create(
        _ name: String, size: UInt64, pause: (_ filled: UInt64) -> Void,
        fill: (FaultyFile) throws(StorageError) -> Void
    ) throws(StorageError) -> FaultyFile {
        if let code = plan.create(name) { throw StorageError(code, operation: "create", path: name) }
        // The header of a spare is no write of the log's: it is not subject to the plan.
        let idle = FaultPlan()
        let made = try base.create(name, size: size, pause: pause) { (file) throws(StorageError) in
            try fill(FaultyFile(base: file, plan: idle))
        }
        return FaultyFile(base: made, plan: plan)
    }

    public func createTemporary(_ name: String) throws(StorageError) -> FaultyFile {
        if let code = plan.create(name) { throw StorageError(code, operation: "create", path: name) }
        return FaultyFile(base: try base.createTemporary(name), plan: plan)
    }
    public func publish(_ renames: [(temporary: String, name: String)]) throws(StorageError) {
        try base.publish(renames)
    }

    public func contents(of name: String, limit: Int) throws(StorageError) -> [UInt8] {
        if plan.contents(name) { throw StorageError(.ioFailure, operation: "read", path: name) }
        return try base.contents(of: name, limit: limit)
    }
    public func replace(_ name: String, with bytes: [UInt8]) throws(StorageError) {
        if let code = plan.replace(name) { throw StorageError(code, operation: "replace", path: name) }
        try base.replace(name, with: bytes)
    }
    public func remove(_ name: String) throws(StorageError) { try base.remove(name) }
    public func synchronize(directories: [String]) throws(StorageError) {
        try base.synchronize(directories: directories)
    }
    public func discard(_ names: [String]) throws(StorageError) { try base.discard(names) }
    public func move(_ name: String, to target: String) throws(StorageError) {
        try base.move(name, to: target)
        plan.moved(name)
    }
    public func makeWriteQueue(depth: Int) throws(StorageError) -> FaultyQueue {
        FaultyQueue(base: try base.makeWriteQueue(depth: depth))
    }
    public func lockForWriting() throws(StorageError) -> WriterLock { try base.lockForWriting() }
    public func writer() throws(StorageError) -> WriterPresence { try base.writer() }
}

/// A file of a `FaultyStorage`.
public struct FaultyFile: StorageFile {
    let base: DirectFile
    let plan: FaultPlan

    /// The file's path. A file just made still goes by its temporary name in `DirectFile`.
    public var path: String { base.path.hasSuffix(".tmp") ? String(base.path.dropLast(4)) : base.path }
    public func size() throws(StorageError) -> UInt64 { try base.size() }
    public func synchronize() throws(StorageError) { try base.synchronize() }

    public func read(
        into buffer: AlignedBuffer, at position: Int, length: Int, from offset: UInt64
    ) throws(StorageError) -> Int {
        if plan.read(path, offset..<offset + UInt64(length)) {
            throw StorageError(.ioFailure, operation: "read \(length) bytes at \(offset)", path: path)
        }
        return try base.read(into: buffer, at: position, length: length, from: offset)
    }

    public func write(
        _ buffer: AlignedBuffer, at position: Int, length: Int, to offset: UInt64, durability: WriteDurability
    ) throws(StorageError) {
        if let fault = plan.write(path, offset..<offset + UInt64(length)) {
            let error = fail(fault, buffer, at: position, length: length, to: offset, durability: durability)
            if let error { throw error }
            return
        }
        try base.write(buffer, at: position, length: length, to: offset, durability: durability)
    }

    /// Does what a fault leaves of a write; returns the error that it ends with, nil if the device claims success.
    func fail(
        _ fault: FaultPlan.WriteFault, _ buffer: AlignedBuffer, at position: Int, length: Int, to offset: UInt64,
        durability: WriteDurability
    ) -> StorageError? {
        let operation = "write \(length) bytes at \(offset)"
        switch fault {
        case .dropped: return nil
        case .fails(let code): return StorageError(code, operation: operation, path: path)
        case .failsHolding(let ranges):
            do throws(StorageError) {
                for range in ranges {
                    let held = range.clamped(to: 0..<length)
                    if held.isEmpty { continue }
                    try base.write(
                        buffer, at: position + held.lowerBound, length: held.count,
                        to: offset + UInt64(held.lowerBound), durability: durability)
                }
            } catch { return error }
            plan.held(path)
            return StorageError(.ioFailure, operation: operation, path: path)
        }
    }
}

/// `RingWriteQueue` whose writes go wrong as their file's plan says: such a write is made by `FaultyFile`, and its end told
/// like the others'.
public final class FaultyQueue: WriteQueue, @unchecked Sendable {
    private let base: RingWriteQueue
    // Used by the queue's one thread, like the queue itself.
    private var ended: [(tag: Int, result: Result<Void, StorageError>)] = []

    init(base: RingWriteQueue) { self.base = base }

    public func submit(
        _ buffer: AlignedBuffer, length: Int, to file: FaultyFile, at offset: UInt64, durability: WriteDurability,
        tag: Int
    ) {
        if let fault = file.plan.write(file.path, offset..<offset + UInt64(length)) {
            let error = file.fail(fault, buffer, at: 0, length: length, to: offset, durability: durability)
            ended.append((tag, error.map { .failure($0) } ?? .success(())))
        } else {
            base.submit(buffer, length: length, to: file.base, at: offset, durability: durability, tag: tag)
        }
    }

    public func next() -> (tag: Int, result: Result<Void, StorageError>)? {
        ended.popLast() ?? base.next()
    }

    public func wait() { if ended.isEmpty { base.wait() } }
    public func wake() { base.wake() }
}
