import WALFormat

/// What opening or verifying a log found.
public struct RecoveryReport: Sendable {
    /// A tenant's records that are lost.
    public struct TenantLoss: Sendable, Hashable {
        public let tenant: TenantName
        public let sequences: ClosedRange<UInt64>
    }

    /// One place where something is not as it was written.
    public struct Finding: Sendable {
        public internal(set) var what: RecoveryCase
        /// Name of the journal file.
        public let file: String
        public let fileSequence: UInt64
        /// Bytes of the file that are affected.
        public internal(set) var byteRange: Range<UInt64>
        /// Numbers of the commits that are affected, where they are known.
        public internal(set) var commits: ClosedRange<UInt64>?
        /// Records that are lost, as far as their tenants can be told: by the frame's header, or by the gap in the
        /// tenant's sequence numbers.
        public internal(set) var losses: [TenantLoss] = []
        /// Records lost in all, where the commits' running count tells.
        public internal(set) var recordsLost: UInt64?
        /// One sentence more.
        public let detail: String

        /// What tells a finding from others of the same log, however far the damage goes.
        struct Place: Hashable {
            var what: RecoveryCase
            var file: String
            var fileSequence: UInt64
            var offset: UInt64
        }

        var place: Place {
            Place(what: what, file: file, fileSequence: fileSequence, offset: byteRange.lowerBound)
        }
    }

    /// Commits read and found whole.
    public internal(set) var commitsRead: UInt64 = 0
    /// Users' records in them.
    public internal(set) var records: UInt64 = 0
    /// Bytes read from journal files.
    public internal(set) var bytesRead: UInt64 = 0
    /// Bytes of the torn tail, and where it begins; 0 after a clean end.
    public internal(set) var tornTailBytes: UInt64 = 0
    public internal(set) var tornTailFile: String?
    public internal(set) var tornTailOffset: UInt64 = 0
    /// Commits of earlier lives of files that were passed over.
    public internal(set) var staleCommitsSkipped: UInt64 = 0
    /// Encrypted frames whose checksums hold, and that were to be opened and not: their keys are not known, were forgotten,
    /// or do not open them.
    public internal(set) var framesNotOpened: UInt64 = 0
    /// The key of one of these is there and does not open it: another secret has its identifier, or somebody changed the
    /// frame on purpose.
    public internal(set) var hasAnotherSecret = false
    /// Encrypted records were read.
    var readEncrypted = false
    /// Whether the last writer closed the log.
    public internal(set) var wasClosed = false
    /// Journal files that are part of the log.
    public internal(set) var liveFiles = 0
    /// Of those, files whose contents were taken from checkpoints without reading them.
    public internal(set) var filesSummarised = 0
    /// How often each case was met.
    public internal(set) var cases: [RecoveryCase: Int] = [:]
    /// What an operator should hear of, in the log's order.
    public internal(set) var findings: [Finding] = []
    /// Time that recovery took.
    public internal(set) var duration: Duration = .zero

    /// Whether acknowledged records are lost or cannot be read.
    public var hasLoss: Bool { findings.contains { $0.what.isLoss } }

    mutating func count(_ what: RecoveryCase, _ times: Int = 1) { cases[what, default: 0] += times }
}
