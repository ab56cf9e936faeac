import TelemetryWAL
import WALFormat
import WALStorage

extension WriteAheadLogReader {
    /// Says what of the log cannot be read, or is lost, a line each. Returns whether there is any.
    func complainOfLoss() -> Bool {
        for journal in journals {
            switch journal.view {
            case .success(let view) where !view.report.hasLoss: continue
            case .success: Terminal.complain("the log is damaged; run: walctl verify \(journal.path)")
            case .failure(let error): Terminal.complain("\(error)")
            }
        }
        return hasLoss
    }

    /// The segments of all journals, or of one tenant, with the view that knows them.
    func allSegments(
        of tenant: TenantName? = nil
    ) -> [(journal: JournalView<Storage>, reader: WriteAheadLogReader<Storage>, segment: SegmentStatus)] {
        var all: [(journal: JournalView<Storage>, reader: WriteAheadLogReader<Storage>, segment: SegmentStatus)] = []
        for journal in journals {
            guard case .success(let view) = journal.view else { continue }
            for segment in tenant.map({ view.segments(of: $0) }) ?? view.segments {
                all.append((journal, view, segment))
            }
        }
        return all
    }
}
