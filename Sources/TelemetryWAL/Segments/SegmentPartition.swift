import WALFormat
import WALStorage

/// Records of many tenants on their way from journal files into segments: kept apart by tenant, in memory, up to a
/// budget; then each tenant's become a segment. One thread at a time.
///
/// A journal file has little of each of many tenants, and a segment costs a file, a flush and two changes of names. So
/// as much as the budget allows is gathered first, and all segments that come of it get their names together. What
/// goes wrong before that leaves the journal as it was; what goes wrong amid it leaves segments that are whole, of
/// records that the journal still has, and sequence numbers tell that they are the same.
final class SegmentPartition<Storage: JournalStorage> {
    private let storage: Storage
    private let writer: SegmentWriter<Storage>
    /// Bytes of records, headers included, that may wait.
    private let budget: Int
    /// Of a tenant, the first number that no segment covers yet and somebody may lack.
    private let firstNeeded: (TenantName) -> UInt64
    private var tenants: [TenantName: Waiting] = [:]
    /// In the order in which they came, so that the same journal gives the same segments.
    private var order: [TenantName] = []
    private(set) var byteCount = 0

    /// What a tenant has waiting.
    private struct Waiting {
        /// The first number that the next segment covers.
        var next: UInt64
        var batches: [RecordBatch] = []
    }

    /// A segment that has its name.
    struct Published {
        var tenant: TenantName
        var covered: ClosedRange<UInt64>
        /// Bytes of the file.
        var length: UInt64
        var recordCount: UInt64
    }

    init(
        storage: Storage, format: RootFormat, budget: Int, firstNeeded: @escaping (TenantName) -> UInt64
    ) {
        self.storage = storage
        self.budget = budget
        self.firstNeeded = firstNeeded
        writer = SegmentWriter(storage: storage, format: format)
    }

    /// Whether what waits should be written before more is added.
    var isFull: Bool { byteCount >= budget }

    /// Takes records, in the order of each tenant's numbers. Those that nobody needs any more are passed over.
    func add(_ batch: RecordBatch) {
        if tenants[batch.tenant] == nil { tenants[batch.tenant] = Waiting(next: firstNeeded(batch.tenant)) }
        guard var waiting = tenants[batch.tenant] else { return }
        let last = waiting.batches.last.map { $0.sequences.upperBound + 1 } ?? waiting.next
        guard batch.sequences.upperBound >= last, let batch = batch.from(last) else { return }
        if waiting.batches.isEmpty { order.append(batch.tenant) }
        waiting.batches.append(batch)
        tenants[batch.tenant] = waiting
        byteCount += batch.byteCount
    }

    /// Writes a segment, or several where one is not enough, for each tenant that has records waiting, and gives them
    /// their names. When it throws, any of them may have its name, and what waits stays.
    func flush(created: UInt64) throws(StorageError) -> [Published] {
        var finished: [SegmentWriter<Storage>.Finished] = []
        var next: [TenantName: UInt64] = [:]
        for tenant in order {
            guard let waiting = tenants[tenant] else { continue }
            next[tenant] = try write(waiting, of: tenant, created: created, &finished)
        }
        try storage.publish(finished.map(\.rename))
        for (tenant, next) in next { tenants[tenant] = Waiting(next: next) }
        order = []
        byteCount = 0
        return finished.map {
            Published(
                tenant: $0.summary.tenant, covered: $0.summary.covered, length: $0.summary.length,
                recordCount: $0.summary.recordCount)
        }
    }

    /// Returns the number behind the last one covered.
    private func write(
        _ waiting: Waiting, of tenant: TenantName, created: UInt64,
        _ finished: inout [SegmentWriter<Storage>.Finished]
    ) throws(StorageError) -> UInt64 {
        var first = waiting.next
        var next = first
        writer.begin(tenant, from: first)
        for batch in waiting.batches {
            if !writer.hasRoom, next > first {
                finished.append(try writer.finish(covering: first...next - 1, created: created))
                first = next
                writer.begin(tenant, from: first)
            }
            // Numbers have no gaps but those of losses.
            if batch.sequences.lowerBound > next {
                writer.addLost(next...batch.sequences.lowerBound - 1, cause: .damaged)
            }
            try batch.withEncodedRecords { (records: RawSpan) throws(StorageError) in
                try writer.add(
                    records,
                    .init(
                        sequences: batch.sequences, kinds: batch.kinds, lowestTimestamp: batch.timestamps.lowerBound,
                        highestTimestamp: batch.timestamps.upperBound))
            }
            next = batch.sequences.upperBound + 1
        }
        finished.append(try writer.finish(covering: first...next - 1, created: created))
        return next
    }
}
