import TelemetryReplay
import TelemetryWAL
import TestSupport
import WALFormat

/// A receiver in the test's own process: keeps what it takes, and answers as it is told.
final class TestExporter: TelemetryExporter {
    let destination = "test"
    let deliversInOrder: Bool
    private let answer: @Sendable (ExportBatch) async -> ExportResult
    private struct State {
        var taken: [TenantName: [RecordBatch.Record]] = [:]
        var batches: [ExportBatch] = []
        var underWay = 0
        var mostUnderWay = 0
        var underWayOf: [TenantName: Int] = [:]
        var mostOfOne = 0
    }
    private let state = Shared(State())

    /// Takes everything.
    static let takes: @Sendable (ExportBatch) async -> ExportResult = { _ in .delivered(rejected: 0, message: nil) }

    init(deliversInOrder: Bool = false, _ answer: @escaping @Sendable (ExportBatch) async -> ExportResult = takes) {
        (self.deliversInOrder, self.answer) = (deliversInOrder, answer)
    }

    func sequences(_ tenant: TenantName) -> [UInt64] { state.value.taken[tenant]?.map(\.sequence) ?? [] }
    func records(_ tenant: TenantName) -> [RecordBatch.Record] { state.value.taken[tenant] ?? [] }
    /// All that were sent, whatever became of them, in order.
    var batches: [ExportBatch] { state.value.batches }
    var mostUnderWay: Int { state.value.mostUnderWay }
    var mostOfOne: Int { state.value.mostOfOne }

    func export(_ batch: ExportBatch) async -> ExportResult {
        state.change {
            $0.batches.append(batch)
            $0.underWay += 1
            $0.mostUnderWay = max($0.mostUnderWay, $0.underWay)
            $0.underWayOf[batch.tenant, default: 0] += 1
            $0.mostOfOne = max($0.mostOfOne, $0.underWayOf[batch.tenant] ?? 0)
        }
        try? await Task.sleep(for: .milliseconds(1))
        let result = await answer(batch)
        state.change {
            $0.underWay -= 1
            $0.underWayOf[batch.tenant, default: 0] -= 1
            if case .delivered = result { $0.taken[batch.tenant, default: []] += batch.records }
        }
        return result
    }
}
