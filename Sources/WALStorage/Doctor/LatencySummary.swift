/// One kind of operation that a probe repeats.
package enum ProbedOperation: String, CaseIterable, Hashable, Sendable {
    /// A durable write of one block into extents that are allocated and were never written: what a log without
    /// zeroed files would do at each append. The file system must note down that the block is now in use.
    case unwritten
    /// The first durable overwrite after zeros: what the journal does in a new file. It differs from `recycled` where
    /// something below gives zeros no room: thin volumes, hosts that detect zeros, compression.
    case written
    /// The same range once more: what the journal does in the long run, since its files are recycled.
    case recycled
    /// A durable write of 32 KiB over recycled extents: a commit of many waiting appends.
    case recycledLarge
    /// One block without durability: what of `recycled` is not the flush.
    case plain
    /// fdatasync where nothing was written.
    case idleFlush
    /// fdatasync after one plain write of a block; the write's own time is not in it.
    case flush
    /// Durable writes of 1 MiB, one after the other.
    case sequentialWrite
    /// Reads of 1 MiB past the page cache.
    case sequentialRead
}

/// How long one kind of operation took.
package struct LatencySummary: Hashable, Sendable {
    package var operation: ProbedOperation
    /// Bytes of one operation; zero for a flush.
    package var bytes: Int
    package var count: Int
    /// Nanoseconds, by nearest rank. Of fewer than a thousand operations the highest quantile is the slowest one.
    package var p50: UInt64
    package var p99: UInt64
    package var p999: UInt64
    /// Nanoseconds that all of them took together.
    package var total: UInt64

    package init(
        operation: ProbedOperation, bytes: Int, count: Int, p50: UInt64, p99: UInt64, p999: UInt64, total: UInt64
    ) {
        self.operation = operation
        self.bytes = bytes
        self.count = count
        self.p50 = p50
        self.p99 = p99
        self.p999 = p999
        self.total = total
    }

    /// From the times of single operations, nanoseconds, at least one.
    init(_ operation: ProbedOperation, bytes: Int, times: [UInt64]) {
        let sorted = times.sorted()
        func quantile(_ thousandths: Int) -> UInt64 {
            sorted[max(0, (sorted.count * thousandths + 999) / 1000 - 1)]
        }
        self.init(
            operation: operation, bytes: bytes, count: sorted.count, p50: quantile(500), p99: quantile(990),
            p999: quantile(999), total: sorted.reduce(0, +))
    }

    /// Operations a second, one at a time.
    package var rate: Double { total == 0 ? 0 : Double(count) * 1e9 / Double(total) }

    /// Bytes a second.
    package var throughput: Double { rate * Double(bytes) }
}
