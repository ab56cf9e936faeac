import Glibc
import WALFormat

/// A piece of memory for records on their way into segments, filled from its beginning on.
///
/// All pieces but long ones are of one length, and come by the MiB from the system itself, to which they go back when
/// all of a MiB are let go of: what `malloc` gave to a thousand tenants by turns would have more holes than it fills,
/// and stay the process's when it is free.
@safe final class RecordChunk {
    /// Bytes of a piece, unless one row of records is longer.
    static let length = 16 << 10
    private static let pagesLength = 1 << 20

    /// Keeps `memory` mapped.
    private let pages: Pages
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    private init(_ pages: Pages, _ range: Range<Int>) {
        self.pages = pages
        unsafe memory = UnsafeMutableRawBufferPointer(rebasing: pages.memory[range])
    }

    /// One for a row of records that is longer than others' pieces.
    convenience init(length: Int) { self.init(Pages(length: length), 0..<length) }

    /// As many as a MiB holds.
    static func several() -> [RecordChunk] {
        let pages = Pages(length: pagesLength)
        return stride(from: 0, to: pagesLength, by: length).map { RecordChunk(pages, $0..<$0 + length) }
    }

    var capacity: Int { unsafe memory.count }
    var room: Int { capacity - count }

    /// Copies records behind those that are there. There must be room. Returns where they are.
    func append(_ records: RawSpan) -> Range<Int> {
        precondition(records.byteCount <= room, "records are copied where room was made for them")
        var span = unsafe MutableRawSpan(_unsafeBytes: memory)
        span.store(records, at: count)
        count += records.byteCount
        return count - records.byteCount..<count
    }

    /// Bytes that were appended.
    func withBytes<Result, Failure: Error>(
        _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: memory[range])))
    }

    func removeAll() { count = 0 }

    /// Whole pages of the system's.
    @safe private final class Pages {
        let memory: UnsafeMutableRawBufferPointer

        /// Traps when memory is exhausted, as Swift's own allocation does.
        init(length: Int) {
            let base = unsafe mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            guard let base = unsafe base, unsafe base != MAP_FAILED else {
                fatalError("out of memory: \(length) bytes for records on their way into segments")
            }
            unsafe memory = UnsafeMutableRawBufferPointer(start: base, count: length)
        }

        deinit { unsafe munmap(memory.baseAddress, memory.count) }
    }
}
