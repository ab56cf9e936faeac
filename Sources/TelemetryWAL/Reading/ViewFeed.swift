import WALFormat
import WALStorage

/// Records of a view, for one who delivers them: a look at the log, of which no cursor moves.
///
/// Safe to share although unchecked: its variables are touched on its queue's thread only.
package final class ViewFeed<Storage: JournalStorage>: @unchecked Sendable {
    private let queue = BlockingQueue(name: "wal-view")
    private var records: StoredRecords<Storage>
    private let tenants: Set<TenantName>?

    /// `tenants`: whose records are given; nil: everybody's. The rest as of `WriteAheadLogReader.records`.
    package init(
        _ view: WriteAheadLogReader<Storage>, of tenants: Set<TenantName>?, from sequence: UInt64,
        during times: ClosedRange<UInt64>?
    ) {
        self.tenants = tenants
        let only = tenants?.count == 1 ? tenants?.first : nil
        records = view.records(of: only, from: sequence, during: times)
    }

    /// Reads on until so many bytes were given. Throws `.storage` where the device fails.
    package func read(byteLimit: Int) async throws(WALError) -> DeliveryReading {
        try await queue.run { [self] in readBlocking(byteLimit: byteLimit) }.get()
    }

    private func readBlocking(byteLimit: Int) -> Result<DeliveryReading, WALError> {
        var reading = DeliveryReading()
        while reading.byteCount < byteLimit {
            do throws(WALError) {
                guard let batch = try records.next() else {
                    reading.isAtEnd = true
                    break
                }
                if let tenants, !tenants.contains(batch.tenant) { continue }
                reading.items.append(.batch(batch))
                reading.byteCount += batch.byteCount + DeliveryReading.batchOverhead
            } catch {
                switch error {
                case .damaged: reading.items.append(.failure(error, tenant: nil))
                case .keyForgotten(let tenant, _, _), .keyUnavailable(let tenant, _, _),
                    .journalUnavailable(let tenant, _, _):
                    if tenants?.contains(tenant) ?? true { reading.items.append(.failure(error, tenant: tenant)) }
                default: return .failure(error)
                }
            }
        }
        return .success(reading)
    }
}
