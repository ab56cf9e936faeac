/// What recovery can meet, one case a row of the decision table in SPEC.md ("Recovery"). The report counts each; a
/// test makes each happen.
public enum RecoveryCase: String, CaseIterable, Sendable, Hashable {
    // Files
    /// Both copies of a file's header are whole and agree.
    case headerIntact
    /// One copy is whole: it is used.
    case headerCopyDamaged
    /// No copy is whole, but commits inside prove themselves: the file is read all the same.
    case headerLost
    /// No copy is whole and no commit proves itself: what the file held cannot be told. No crash does that, since a
    /// header's fields lie in one sector and its copies in two blocks. The file is left alone.
    case headerDestroyed
    /// A whole header, on no path from the newest file: a life that was given up before its first commit.
    case fileAbandoned
    /// Older than the oldest live file, or never used: a spare.
    case fileSpare
    /// Two files claim the same place in the log: a copy stands beside its original. The one that reaches further is
    /// used, the other left alone.
    case fileDuplicated
    /// The file belongs to another log. It is left alone.
    case fileForeign
    /// A file that the chain names is not there, and records in it were not delivered.
    case fileMissing
    /// A file that the chain names is not there, and everything in it was delivered: it was being reused.
    case fileMissingDelivered
    /// The file is shorter than its header says.
    case fileTruncated

    // Commits
    /// The expected commit, whole.
    case commitAccepted
    /// An unfinished commit at the end that nothing vouches for: never acknowledged. The log ends before it.
    case tornTail
    /// A whole commit behind a torn one that nothing vouches for: never acknowledged either.
    case unvouchedCommit
    /// Commits behind the end that the next file's header states: a failed write, repeated in the next file.
    case supersededTail
    /// A commit of an earlier life of the file.
    case staleEpoch
    /// Commits that were acknowledged fail their checks.
    case commitsDamaged
    /// A frame of an acknowledged commit fails its checks; its neighbours are whole.
    case frameDamaged
    /// A frame fails its checks whose records were erased: it was overwritten. No loss.
    case frameErased
    /// Damage in a file whose records every subscriber has: no loss.
    case damagedDelivered
    /// A commit of the expected number that does not continue the chain: not the one that was acknowledged.
    case chainBroken
    /// The device could not read a range, tried three times.
    case rangeUnreadable
    /// A tenant's sequence numbers jump where no damage explains it.
    case sequenceGap
    /// Nothing of the file's present life follows: the regular end.
    case cleanEnd

    /// Whether the case means that acknowledged records are lost or cannot be read, or may be.
    public var isLoss: Bool {
        switch self {
        case .headerDestroyed, .fileMissing, .fileTruncated, .commitsDamaged, .frameDamaged, .rangeUnreadable,
            .sequenceGap:
            true
        default: false
        }
    }

    /// Whether an operator should hear of it: a loss, or damage that redundancy has healed.
    public var isFinding: Bool {
        switch self {
        case .headerCopyDamaged, .headerLost, .fileDuplicated, .fileForeign: true
        default: isLoss
        }
    }
}
