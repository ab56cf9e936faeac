/// How much of the journal opening a log reads.
public enum RecoveryScope: String, Sendable, CaseIterable {
    /// The newest file, and of the others headers and checkpoints. Each file begins with a checkpoint, so that is
    /// enough to go on; damage in older files is reported when they are read. Where headers or checkpoints do not fit
    /// together, the whole journal is read.
    case sinceCheckpoint
    /// Every byte of every file: all damage is reported at once.
    case wholeJournal
}
