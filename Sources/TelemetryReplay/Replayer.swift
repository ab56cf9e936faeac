import Logging
import TelemetryWAL
import WALFormat
import WALStorage

/// Delivers what a subscriber has not acknowledged yet, and acknowledges what was delivered.
///
/// The journal is read once, in its order, and split by tenant on the way: each tenant has a queue of its own, one
/// request under way at a time, and a fate of its own. A tenant whose batch is refused, or whose receiver does not
/// answer in time, stops; the others go on. The sum of all queues is bounded, and reading waits while it is reached.
public struct Replayer<Storage: JournalStorage, Exporter: TelemetryExporter>: Sendable {
    private let log: WriteAheadLogEngine<Storage>
    private let subscriber: TenantName
    private let exporter: Exporter
    private let options: ReplayOptions

    /// A replayer of a log for a subscriber. Does nothing until `run`.
    public init(
        log: WriteAheadLogEngine<Storage>, subscriber: TenantName, exporter: Exporter,
        options: ReplayOptions = ReplayOptions()
    ) {
        self.log = log
        self.subscriber = subscriber
        self.exporter = exporter
        self.options = options
    }

    /// What one tenant's delivery came to.
    private struct Delivery: Sendable {
        var tenant: TenantName
        var records: Int
        var bytes: Int
        var result: ExportResult
        var retries: Int
        /// Sequence number through which the tenant's records are dealt with, if the delivery succeeded.
        var through: UInt64
    }

    /// One tenant's records that wait, and what became of the tenant.
    private struct Queue {
        var records: [RecordBatch.Record] = []
        var isUnderWay = false
        var isStopped = false
        var deliveredAny = false
    }

    /// Delivers everything that is durable when it is called, or until then, and returns what it did. A subscriber's
    /// cursors are durable when it returns. `progress` is told delivered records and bytes after each request.
    /// Throws `WALError` when the log itself fails. Cancelling the task stops before the next request.
    public func run(
        progress: (@Sendable (Int, Int) -> Void)? = nil
    ) async throws(WALError) -> ReplaySummary {
        var summary = ReplaySummary()
        let failure = await withTaskGroup(of: Delivery.self) { group -> WALError? in
            var queues: [TenantName: Queue] = [:]
            var ready: [TenantName] = []
            var buffered = 0
            var underWay = 0
            var iterator = log.records(subscriber: subscriber).makeAsyncIterator()
            var isAtEnd = false
            while true {
                // Read while there is room.
                while !isAtEnd, buffered < options.maximumBufferedBytes,
                    underWay < options.maximumConcurrentRequests || ready.count < 2 * options.maximumConcurrentRequests
                {
                    if Task.isCancelled {
                        isAtEnd = true
                        break
                    }
                    let batch: RecordBatch?
                    do throws(WALError) { batch = try await iterator.next() } catch {
                        guard case .damaged = error else { return error }
                        summary.unreadablePlaces += 1
                        summary.note("\(error)")
                        continue
                    }
                    guard let batch else {
                        isAtEnd = true
                        break
                    }
                    var queue = queues[batch.tenant] ?? Queue()
                    let wasEmpty = queue.records.isEmpty
                    if queue.isStopped {
                        summary.givenUpRecords += batch.count
                    } else {
                        for record in batch.records {
                            queue.records.append(record)
                            buffered += record.payload.count
                        }
                        if wasEmpty, !queue.isUnderWay { ready.append(batch.tenant) }
                    }
                    queues[batch.tenant] = queue
                }
                // Send what is ready.
                while underWay < options.maximumConcurrentRequests, !ready.isEmpty, !Task.isCancelled {
                    let tenant = ready.removeFirst()
                    guard var queue = queues[tenant], !queue.records.isEmpty else { continue }
                    let batch = takeBatch(tenant, from: &queue.records)
                    queue.isUnderWay = true
                    queues[tenant] = queue
                    underWay += 1
                    group.addTask { await deliver(batch) }
                }
                guard underWay > 0, let delivery = await group.next() else { break }
                underWay -= 1
                buffered -= delivery.bytes
                var queue = queues[delivery.tenant] ?? Queue()
                queue.isUnderWay = false
                settle(delivery, queue: &queue, summary: &summary, buffered: &buffered)
                if !queue.records.isEmpty { ready.append(delivery.tenant) }
                queues[delivery.tenant] = queue
                progress?(summary.deliveredRecords, summary.deliveredBytes)
            }
            return nil
        }
        if let failure { throw failure }
        try await log.flushAcknowledgements()
        return summary
    }

    /// The next records of a tenant that are of one kind and fit into a request.
    private func takeBatch(_ tenant: TenantName, from records: inout [RecordBatch.Record]) -> ExportBatch {
        let kind = records[0].kind
        var count = 0
        var bytes = 0
        for record in records {
            guard record.kind == kind, count < options.maximumBatchRecords,
                count == 0 || bytes + record.payload.count <= options.maximumBatchBytes
            else { break }
            count += 1
            bytes += record.payload.count
        }
        let batch = ExportBatch(tenant: tenant, kind: kind, records: Array(records[..<count]))
        records.removeFirst(count)
        return batch
    }

    /// Sends a batch until it is delivered, refused, or out of time.
    private func deliver(_ batch: ExportBatch) async -> Delivery {
        var delivery = Delivery(
            tenant: batch.tenant, records: batch.records.count, bytes: batch.payloadLength,
            result: .retry(reason: "cancelled", after: nil), retries: 0, through: batch.records.last?.sequence ?? 0)
        let clock = ContinuousClock()
        let start = clock.now
        var backoff = options.initialBackoff
        while !Task.isCancelled {
            delivery.result = await exporter.export(batch)
            guard case .retry(let reason, let after) = delivery.result else { return delivery }
            let jittered = backoff * Double.random(in: 0.5...1)
            let pause = max(after ?? .zero, jittered)
            if let limit = options.giveUpAfter, clock.now + pause > start + limit { return delivery }
            delivery.retries += 1
            options.logger.debug(
                "delivery is tried again", metadata: ["tenant": "\(batch.tenant)", "reason": "\(reason)"])
            do { try await Task.sleep(for: pause) } catch { return delivery }
            backoff = min(backoff * 2, options.maximumBackoff)
        }
        return delivery
    }

    private func settle(
        _ delivery: Delivery, queue: inout Queue, summary: inout ReplaySummary, buffered: inout Int
    ) {
        summary.requests += 1 + delivery.retries
        summary.retries += delivery.retries
        switch delivery.result {
        case .delivered(let rejected, let message):
            log.acknowledge(through: delivery.through, of: delivery.tenant, subscriber: subscriber)
            summary.deliveredRecords += delivery.records
            summary.deliveredBytes += delivery.bytes
            summary.rejectedItems += rejected
            if !queue.deliveredAny { summary.deliveredTenants += 1 }
            queue.deliveredAny = true
            if rejected > 0 {
                summary.note("tenant \(delivery.tenant): the receiver rejected \(rejected) items: \(message ?? "")")
            }
        case .refused(let reason):
            summary.refusedRecords += delivery.records
            stop(&queue, summary: &summary, buffered: &buffered)
            summary.note("tenant \(delivery.tenant): refused: \(reason)")
        case .retry(let reason, _):
            summary.givenUpRecords += delivery.records
            stop(&queue, summary: &summary, buffered: &buffered)
            summary.note("tenant \(delivery.tenant): \(reason)")
        }
    }

    /// Nothing more of this tenant is sent: order within a tenant is kept.
    private func stop(_ queue: inout Queue, summary: inout ReplaySummary, buffered: inout Int) {
        queue.isStopped = true
        summary.givenUpRecords += queue.records.count
        buffered -= queue.records.reduce(0) { $0 + $1.payload.count }
        queue.records = []
    }
}
