/// Counters of compaction since the log was opened.
public struct CompactionStatistics: Sendable, Equatable {
    /// Journal files whose records, as far as somebody lacked them, moved into segments.
    public var filesCompacted: UInt64 = 0
    /// Records that moved.
    public var records: UInt64 = 0
    /// Those of them that moved as they were, encrypted, since their keys were not to be had.
    public var recordsCarried: UInt64 = 0
    /// Records that the journal had lost when they were to move.
    public var recordsLost: UInt64 = 0
    /// Segments written out of the journal.
    public var segmentsWritten: UInt64 = 0
    /// Records that left with a journal file, or with a segment that was merged, since their key was forgotten.
    public var recordsForgotten: UInt64 = 0
    /// Segments that were merged with others.
    public var segmentsMerged: UInt64 = 0
    /// Segments that every subscriber had and that were removed.
    public var segmentsRemoved: UInt64 = 0
    /// Removals of segments, of one or several, that failed: they stay until the log is opened again.
    public var failedRemovals: UInt64 = 0
    /// Bytes written to segments, merges included.
    public var bytesWritten: UInt64 = 0
    /// Compactions and merges that failed and are tried again.
    public var failures: UInt64 = 0
    /// Merges that were put off since the file system has too little free space, or does not say how much.
    public var mergesPostponed: UInt64 = 0

    func adding(_ other: CompactionStatistics) -> CompactionStatistics {
        var sum = self
        sum.filesCompacted += other.filesCompacted
        sum.records += other.records
        sum.recordsCarried += other.recordsCarried
        sum.recordsLost += other.recordsLost
        sum.segmentsWritten += other.segmentsWritten
        sum.recordsForgotten += other.recordsForgotten
        sum.segmentsMerged += other.segmentsMerged
        sum.segmentsRemoved += other.segmentsRemoved
        sum.failedRemovals += other.failedRemovals
        sum.bytesWritten += other.bytesWritten
        sum.failures += other.failures
        sum.mergesPostponed += other.mergesPostponed
        return sum
    }
}
