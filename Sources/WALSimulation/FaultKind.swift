/// What a simulation does to a log.
public enum FaultKind: String, CaseIterable, Sendable {
    /// The power goes at an arbitrary call to the system, those of opening included: what was not flushed is lost, kept or torn.
    case powerCut
    /// The process is killed at an arbitrary call; the disk goes on.
    case kill
    /// A write fails, and the disk holds any part of it.
    case writeError
    /// A sync fails, and what it should have saved is saved in part and forgotten.
    case flushError
    /// A read fails once or twice, then succeeds.
    case readError
    /// A write is done in part, and says so.
    case shortWrite
    /// No space is left.
    case noSpace
    /// A write takes long.
    case slowWrite
    /// The system allows no io_uring.
    case ringRefused
    /// io_uring refuses to begin a write.
    case submitError
    /// Bits of what was written change.
    case bitRot
    /// A sector reads as zeros.
    case zeroedSector
    /// A sector cannot be read any more, at every attempt, until it is written again.
    case unreadableSector
    /// The disk acknowledges a write and does nothing, or only a part.
    case lostWrite
    /// The disk writes to a wrong place.
    case misdirectedWrite
    /// An earlier state of a journal file stands beside it under another name.
    case staleFile

    /// Whether the disk breaks its word: acknowledged records may be lost, and that must be told.
    public var isMediaFault: Bool {
        switch self {
        case .bitRot, .zeroedSector, .unreadableSector, .lostWrite, .misdirectedWrite: true
        default: false
        }
    }
}
