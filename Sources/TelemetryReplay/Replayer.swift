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
        /// Records before this index are taken: removing them one batch at a time would move the rest each time.
        var head = 0
        var bytes = 0
        var isUnderWay = false
        var isStopped = false
        /// More was read than the tenant's share holds: the rest is left to another pass.
        var hasOverflowed = false
        /// Records through this number are gone with their key, and none behind it was read before.
        var forgottenThrough: UInt64 = 0

        var isEmpty: Bool { head == records.count }

        mutating func clear() {
            records = []
            head = 0
            bytes = 0
        }
    }

    /// Tenants with something behind them, over all passes.
    private struct Fates {
        /// To whom nothing more is sent.
        var halted: Set<TenantName> = []
        var delivered: Set<TenantName> = []
        /// What an earlier pass has told of, and counted.
        var unreadable: Set<String> = []
        /// Tenants whose keys are not to be had.
        var locked: Set<TenantName> = []
    }

    /// What a record takes in memory beside its payload.
    private static var recordOverhead: Int { MemoryLayout<RecordBatch.Record>.stride }

    /// Delivers everything that is durable when it is called, or until then, and returns what it did. A subscriber's
    /// cursors are durable when it returns. `progress` is told delivered records and bytes after each request.
    /// Throws `WALError` when the log itself fails; what was delivered by then is acknowledged. Cancelling the task
    /// stops before the next request.
    public func run(
        progress: (@Sendable (Int, Int) -> Void)? = nil
    ) async throws(WALError) -> ReplaySummary {
        var summary = ReplaySummary()
        var fates = Fates()
        while true {
            let delivered = summary.deliveredRecords
            let (hasMore, failure) = await runPass(&summary, fates: &fates, progress: progress)
            try await log.flushAcknowledgements()
            if let failure { throw failure }
            // Each pass begins at the cursors. One that moved none of them would be followed by the same again.
            guard hasMore, summary.deliveredRecords > delivered, !Task.isCancelled else { return summary }
        }
    }

    /// Reads the journal once, from the cursors to its end. Returns whether something was left for another pass.
    private func runPass(
        _ summary: inout ReplaySummary, fates: inout Fates, progress: (@Sendable (Int, Int) -> Void)?
    ) async -> (hasMore: Bool, WALError?) {
        var account = summary
        let before = fates
        var after = fates
        var failure: WALError?
        let hasMore = await withTaskGroup(of: Delivery.self) { group -> Bool in
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
                        // Each pass comes by the same places.
                        switch error {
                        case .damaged:
                            if after.unreadable.insert("\(error)").inserted {
                                account.unreadablePlaces += 1
                                account.note("\(error)")
                            }
                            continue
                        case .keyForgotten(let tenant, let sequences, _):
                            if after.unreadable.insert("\(error)").inserted {
                                account.forgottenRecords += UInt64(sequences.count)
                                account.note("\(error)")
                            }
                            if !after.halted.contains(tenant) {
                                passForgotten(
                                    through: sequences.upperBound, of: tenant, &queues[tenant, default: Queue()])
                            }
                            continue
                        case .keyUnavailable(let tenant, _, _), .journalUnavailable(let tenant, _, _):
                            if after.locked.insert(tenant).inserted {
                                account.lockedTenants += 1
                                account.note("\(error)")
                            }
                            continue
                        default: break
                        }
                        // What is under way is still waited for, and acknowledged.
                        failure = error
                        isAtEnd = true
                        break
                    }
                    guard let batch else {
                        isAtEnd = true
                        break
                    }
                    if after.halted.contains(batch.tenant) {
                        // Those of an earlier pass are in the account.
                        if !before.halted.contains(batch.tenant) { account.givenUpRecords += batch.count }
                        continue
                    }
                    buffered += take(batch, into: &queues[batch.tenant, default: Queue()], ready: &ready)
                }
                // Send what is ready.
                while underWay < options.maximumConcurrentRequests, !ready.isEmpty, !Task.isCancelled {
                    let tenant = ready.removeFirst()
                    guard var queue = queues[tenant], !queue.isEmpty else { continue }
                    let batch = takeBatch(tenant, from: &queue)
                    queue.isUnderWay = true
                    queues[tenant] = queue
                    underWay += 1
                    group.addTask { await deliver(batch) }
                }
                guard underWay > 0, let delivery = await group.next() else { break }
                underWay -= 1
                var queue = queues[delivery.tenant] ?? Queue()
                queue.isUnderWay = false
                buffered -= delivery.bytes + delivery.records * Self.recordOverhead
                if settle(delivery, queue: queue, summary: &account) {
                    after.delivered.insert(delivery.tenant)
                    passForgotten(through: queue.forgottenThrough, of: delivery.tenant, &queue)
                } else {
                    after.halted.insert(delivery.tenant)
                    buffered -= queue.bytes
                    queue.clear()
                }
                if !queue.isEmpty { ready.append(delivery.tenant) }
                queues[delivery.tenant] = queue
                progress?(account.deliveredRecords, account.deliveredBytes)
            }
            return queues.contains { $0.value.hasOverflowed && !after.halted.contains($0.key) }
        }
        account.deliveredTenants = after.delivered.count
        summary = account
        fates = after
        return (hasMore, failure)
    }

    /// Acknowledges records that nobody can deliver any more, in their turn: when all that was read before them is
    /// delivered. They would keep their place in the log, and in the tenant's budget, for ever.
    private func passForgotten(through sequence: UInt64, of tenant: TenantName, _ queue: inout Queue) {
        queue.forgottenThrough = max(queue.forgottenThrough, sequence)
        guard sequence > 0, queue.isEmpty, !queue.isUnderWay, !queue.hasOverflowed else { return }
        log.acknowledge(through: queue.forgottenThrough, of: tenant, subscriber: subscriber)
    }

    /// Puts a batch into its tenant's queue, unless the tenant's share is full. Returns the bytes taken.
    private func take(_ batch: RecordBatch, into queue: inout Queue, ready: inout [TenantName]) -> Int {
        // A tenant whose receiver stalls must not take the whole buffer from the others.
        if queue.hasOverflowed || (queue.isUnderWay && queue.bytes > options.maximumBufferedBytes / 8) {
            queue.hasOverflowed = true
            return 0
        }
        if queue.isEmpty, !queue.isUnderWay { ready.append(batch.tenant) }
        var bytes = 0
        for record in batch.records {
            queue.records.append(record)
            bytes += record.payload.count + Self.recordOverhead
        }
        queue.bytes += bytes
        return bytes
    }

    /// The next records of a tenant that are of one kind and fit into a request.
    private func takeBatch(_ tenant: TenantName, from queue: inout Queue) -> ExportBatch {
        let kind = queue.records[queue.head].kind
        var end = queue.head
        var bytes = 0
        while end < queue.records.count {
            let record = queue.records[end]
            guard record.kind == kind, end - queue.head < options.maximumBatchRecords,
                end == queue.head || bytes + record.payload.count <= options.maximumBatchBytes
            else { break }
            end += 1
            bytes += record.payload.count
        }
        let batch = ExportBatch(tenant: tenant, kind: kind, records: Array(queue.records[queue.head..<end]))
        queue.bytes -= bytes + batch.records.count * Self.recordOverhead
        queue.head = end
        if queue.isEmpty {
            queue.records.removeAll(keepingCapacity: true)
            queue.head = 0
        } else if queue.head > 4096 {
            queue.records.removeFirst(queue.head)
            queue.head = 0
        }
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

    /// Takes a delivery into the account. Returns whether the tenant goes on: order within a tenant is kept, so
    /// nothing may be sent behind a batch that was not delivered.
    private func settle(_ delivery: Delivery, queue: Queue, summary: inout ReplaySummary) -> Bool {
        summary.requests += 1 + delivery.retries
        summary.retries += delivery.retries
        switch delivery.result {
        case .delivered(let rejected, let message):
            log.acknowledge(through: delivery.through, of: delivery.tenant, subscriber: subscriber)
            summary.deliveredRecords += delivery.records
            summary.deliveredBytes += delivery.bytes
            summary.rejectedItems += rejected
            if rejected > 0 {
                summary.note("tenant \(delivery.tenant): the receiver rejected \(rejected) items: \(message ?? "")")
            }
            return true
        case .refused(let reason):
            summary.refusedRecords += delivery.records
            summary.givenUpRecords += queue.records.count - queue.head
            summary.note("tenant \(delivery.tenant): refused: \(reason)")
            return false
        case .retry(let reason, _):
            summary.givenUpRecords += delivery.records + queue.records.count - queue.head
            summary.note("tenant \(delivery.tenant): \(reason)")
            return false
        }
    }
}
