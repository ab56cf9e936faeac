import WALFormat

/// What tells the lives of a journal file apart, which is begun anew when it has left the log.
struct JournalFileLife {
    var fileSequence: UInt64 = 0
    var epoch: UInt64 = 0

    /// Whether its commits in a file of the log show that the file had left, and was begun anew with a write that failed in
    /// parts: its number is above all that were given, or was given again to another life. (A beginning that the device put
    /// elsewhere has a number that is passed over.) `sequence`: the file's; `newest`: the highest number given, nil where
    /// nothing can be told.
    func isTornBeginning(in sequence: UInt64, of files: [LiveFile], newest: UInt64?) -> Bool {
        guard fileSequence > sequence, let newest else { return false }
        return fileSequence > newest || files.contains { $0.sequence == fileSequence && $0.header.epoch != epoch }
    }
}
