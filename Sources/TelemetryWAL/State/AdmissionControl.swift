/// Decides whether the journal has room for what is about to be staged, before it is staged: so that an append is
/// refused with nothing done, and what was admitted never meets a full journal. A plain value without I/O.
///
/// It plays the committer's own rule forward with each waiting commit at its worst length (nothing compressed). The
/// committer can only be at the same place or before it, since its rule is monotone in the position.
struct AdmissionControl {
    /// Bytes of a file that commits may take; the rest is kept for acknowledgements.
    let usableEnd: Int
    /// Where the first commit of appends stands in a new file at worst: behind headers and checkpoint.
    var fileStart: Int
    /// Offset of the next commit in the present file; `usableEnd` or more where there is no such file.
    var offset: Int
    /// Files ready for use. The last of them is never given to appends.
    var spares: Int

    struct Position: Equatable {
        var offset: Int
        var sparesUsed: Int
    }

    var start: Position { Position(offset: offset, sparesUsed: 0) }

    /// Where the log stands after another commit of at most `length` bytes.
    func placing(_ length: Int, at position: Position) -> Position {
        position.offset + length <= usableEnd
            ? Position(offset: position.offset + length, sparesUsed: position.sparesUsed)
            : Position(offset: fileStart + length, sparesUsed: position.sparesUsed + 1)
    }

    /// Whether appends may take the log there.
    func allows(_ position: Position) -> Bool { position.sparesUsed == 0 || position.sparesUsed < spares }
}
