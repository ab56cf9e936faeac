import Synchronization
import WALFormat
import WALStorage

/// Reads pieces of a file in order, some ahead.
///
/// Safe to share although unchecked: `lock` guards what changes; a piece belongs to the thread that reads it until it
/// is put into `ready`, then to the consumer.
final class PieceSource<File: StorageFile>: @unchecked Sendable {
    private let file: File
    private let start: UInt64
    private let end: UInt64
    private let blockSize: Int
    private let headroom: Int
    private let pieceLength: Int

    private let lock = Lock()
    private let pieceIsReady = Condition()
    private let roomIsFree = Condition()
    private var free: [Piece] = []
    private var made = 0
    private var ready: [Int: Result<Piece, StorageError>] = [:]
    /// Number of the next piece to be read, and of the next to be handed out.
    private var nextRead = 0
    private var nextTaken = 0
    private var isStopped = false
    /// Set by `init` only. Without threads pieces are read on the caller's.
    private var hasThreads = false
    private var holdsBudget = false

    /// Reads under way at a time: what it takes to keep a fast device busy with pieces of this length.
    private static var threadCount: Int { 4 }
    /// Pieces that exist: those being read, those that are ready, and the two that the window is in.
    private static var pieceLimit: Int { 8 }

    init(
        file: File, start: UInt64, end: UInt64, blockSize: Int, headroom: Int, pieceLength: Int, readsAhead: Bool
    ) {
        self.file = file
        self.start = start
        self.end = end
        self.blockSize = blockSize
        self.headroom = headroom
        self.pieceLength = pieceLength
        guard readsAhead, end - start > 2 * UInt64(pieceLength), ReadAheadBudget.take() else { return }
        for _ in 0..<Self.threadCount {
            guard let thread = WorkerThread(unlessRefused: "wal-read-ahead", { self.readAhead() }) else { break }
            thread.detach()
            hasThreads = true
        }
        holdsBudget = true
    }

    deinit { if holdsBudget { ReadAheadBudget.giveBack() } }

    private var pieceCount: Int { Int((end - start + UInt64(pieceLength) - 1) / UInt64(pieceLength)) }

    func stop() {
        lock.withLock {
            isStopped = true
            roomIsFree.broadcast()
        }
    }

    /// The next piece; nil at the end of the stretch or of the file.
    func next() throws(StorageError) -> Piece? {
        lock.lock()
        defer { lock.unlock() }
        guard nextTaken < pieceCount else { return nil }
        let number = nextTaken
        if !hasThreads {
            let piece = takeFree()
            try read(number, into: piece)
            nextTaken += 1
            return piece.count > 0 ? piece : nil
        }
        while ready[number] == nil { pieceIsReady.wait(lock) }
        guard let result = ready.removeValue(forKey: number) else { return nil }
        let piece: Piece
        do throws(StorageError) { piece = try result.get() } catch {
            // It stays so for whoever tries again.
            ready[number] = .failure(error)
            throw error
        }
        nextTaken += 1
        if piece.count < length(number) { nextTaken = pieceCount }
        return piece.count > 0 ? piece : nil
    }

    func giveBack(_ piece: Piece) {
        lock.withLock {
            free.append(piece)
            roomIsFree.signal()
        }
    }

    private func takeFree() -> Piece {
        if let piece = free.popLast() { return piece }
        made += 1
        return Piece(capacity: headroom + pieceLength, alignment: max(4096, blockSize))
    }

    private func length(_ number: Int) -> Int {
        Int(min(UInt64(pieceLength), end - start - UInt64(number) * UInt64(pieceLength)))
    }

    private func readAhead() {
        lock.lock()
        while !isStopped, nextRead < pieceCount {
            if free.isEmpty, made >= Self.pieceLimit {
                roomIsFree.wait(lock)
                continue
            }
            let piece = takeFree()
            let number = nextRead
            nextRead += 1
            lock.unlock()
            let result: Result<Piece, StorageError>
            do throws(StorageError) {
                try read(number, into: piece)
                result = .success(piece)
            } catch { result = .failure(error) }
            lock.lock()
            ready[number] = result
            pieceIsReady.signal()
        }
        lock.unlock()
    }

    private func read(_ number: Int, into piece: Piece) throws(StorageError) {
        let offset = start + UInt64(number) * UInt64(pieceLength)
        let length = length(number)
        piece.unreadable = []
        piece.count = try file.readAround(
            &piece.unreadable, into: piece.buffer, at: headroom, length: length, from: offset, blockSize: blockSize)
        piece.count &= ~(blockSize - 1)
    }
}

/// One read's bytes, behind its buffer's headroom.
final class Piece {
    let buffer: AlignedBuffer
    var count = 0
    var unreadable: [Range<UInt64>] = []

    init(capacity: Int, alignment: Int) { buffer = AlignedBuffer(capacity: capacity, alignment: alignment) }
}

/// How many windows of the process may have threads at a time: a reader for each of hundreds of tenants must not take
/// thousands of threads.
private enum ReadAheadBudget {
    private static let limit = 16
    private static let taken = Atomic<Int>(0)

    static func take() -> Bool {
        if taken.wrappingAdd(1, ordering: .relaxed).newValue <= limit { return true }
        giveBack()
        return false
    }

    static func giveBack() { taken.wrappingSubtract(1, ordering: .relaxed) }
}
