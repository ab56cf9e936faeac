import TelemetryWAL
import WALFormat
import WALStorage

extension WriteAheadLogReader {
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
