import TelemetryWAL
import WALFormat

/// A task that appends: what `Actors` has threads do by calls that block, by calls that suspend.
///
/// Safe to share although unchecked: all of a simulation runs on one real thread.
final class TaskProducer: @unchecked Sendable {
    private let actors: Actors
    private let number: Int
    private var random: SimulationRandom
    private var history: History { actors.history }

    init(_ actors: Actors, number: Int, random: SimulationRandom) {
        self.actors = actors
        self.number = number
        self.random = random
    }

    func produce() async {
        for call in 0..<min(random.pick(1...20), history.options.mostCalls) {
            guard actors.goesOn else { return }
            let tenant = random.pick(history.tenants)
            switch random.below(20) {
            case 0..<12: await append(tenant)
            case 12..<15: await appendBatch(tenant)
            case 15..<18: await enqueueSome(tenant)
            case 18: await flush()
            default: await Task.yield()
            }
            history.kernel.note("call \(call) of task \(number) is through")
        }
    }

    private func flush() async {
        let before = history.judge.subscribers
        do throws(WALError) {
            try await actors.log.flushAcknowledgements()
            history.kernel.note("acknowledgements are durable")
            history.judge.flushedByAnother(before)
        } catch { history.kernel.note("flush: \(error)") }
    }

    private func append(_ tenant: TenantName) async {
        let record = history.judge.attempt(tenant, producer: number, count: 1)
        do throws(WALError) {
            let receipt = try await actors.log.append(
                actors.record(record, length: actors.length(&random)), tenant: tenant)
            history.kernel.note("receipt \(tenant)/\(receipt.sequence) for record \(record)")
            history.judge.owes(record..<record + 1, from: receipt.sequence)
        } catch { actors.refused(record..<record + 1, error) }
    }

    private func appendBatch(_ tenant: TenantName) async {
        let count = random.pick(1...8)
        let first = history.judge.attempt(tenant, producer: number, count: count)
        let records = (first..<first + count).map { actors.record($0, length: random.pick(12...400)) }
        do throws(WALError) {
            let receipt = try await actors.log.append(contentsOf: records, tenant: tenant)
            history.kernel.note("receipt \(tenant)/\(receipt.sequences) for records \(first)..<\(first + count)")
            history.judge.owes(first..<first + count, from: receipt.sequences.lowerBound)
        } catch { actors.refused(first..<first + count, error) }
    }

    private func enqueueSome(_ tenant: TenantName) async {
        var numbers: [Int] = []
        var last: Ticket?
        for _ in 0..<random.pick(1...6) {
            let record = history.judge.attempt(tenant, producer: number, count: 1)
            do throws(WALError) {
                last = try actors.log.enqueue(
                    actors.record(record, length: actors.length(&random)), tenant: tenant)
                numbers.append(record)
            } catch { actors.refused(record..<record + 1, error) }
        }
        guard let last, random.below(4) > 0 else { return }
        do throws(WALError) {
            try await actors.log.durable(through: last)
            history.kernel.note("durable: records \(numbers)")
            for number in numbers { history.judge.owes(number..<number + 1) }
        } catch { history.kernel.note("durable: \(error)") }
    }
}
