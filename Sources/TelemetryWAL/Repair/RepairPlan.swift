import WALFormat

/// What a repair would do to a log, or did.
public struct RepairPlan: Sendable, Equatable {
    /// What is done about something that is not as it was written.
    public enum Action: String, Sendable, CaseIterable {
        /// `FORMAT` is written anew: a copy in it, or both, are not whole.
        case rewriteFormat
        /// A file that is no part of the log, or of which nothing can be told, moves to `quarantine/`.
        case setAside
        /// What can be read of a journal file, and of those before it, moves into segments, what cannot is given up; the
        /// file moves to `quarantine/`.
        case moveToSegments
        /// What can be read of a segment and somebody lacks is written anew in its place, what cannot be read is given up; a
        /// copy of the segment as it was, with zeros for what the device fails to read, goes to `quarantine/`, unless all
        /// its bytes are whole.
        case rewriteSegment
        /// A journal file is gone, and so is what it held: that is given up.
        case giveUp
    }

    /// What is done to one file.
    public struct Step: Sendable, Equatable {
        public let action: Action
        /// Path below the log's root. Of a file that is gone, what is known of it.
        public let path: String
        /// What is wrong, a sentence for each thing.
        public internal(set) var reasons: [String]
        /// Records that cannot be read and would be given up, as far as their tenants are known.
        public internal(set) var losses: [RecoveryReport.TenantLoss] = []
        /// How many those are in all, where that is known.
        public internal(set) var recordsLost: UInt64?

        /// How many of these belong to nobody that could be told: no segment says that they are given up.
        public var unnamedRecords: UInt64 {
            let named = losses.reduce(0) { $0 + UInt64($1.sequences.count) }
            return max(recordsLost ?? named, named) - named
        }
    }

    /// In the order in which they are taken.
    public internal(set) var steps: [Step] = []
    /// The journal files up to this sequence number move into segments; 0: none does.
    var lastFile: UInt64 = 0
    /// Segments to be written anew.
    var segments: [SegmentStatus] = []

    /// Whether there is nothing to be done.
    public var isEmpty: Bool { steps.isEmpty }

    public static func == (one: RepairPlan, other: RepairPlan) -> Bool { one.steps == other.steps }

    /// `isInLog`: the file is part of the log; else it waits to be used again.
    mutating func add(_ finding: RecoveryReport.Finding, isInLog: Bool) {
        let action: Action =
            switch finding.what {
            case .headerDestroyed, .fileForeign, .fileDuplicated: .setAside
            case .headerCopyDamaged where !isInLog: .setAside
            // Its header: a file that the device fails to read further on has a place in the log.
            case .rangeUnreadable where finding.fileSequence == 0: .setAside
            case .fileMissing: .giveUp
            default: .moveToSegments
            }
        if action != .setAside { lastFile = max(lastFile, finding.fileSequence) }
        let path = (action == .giveUp ? "journal " : "journal/") + finding.file
        var place = steps.firstIndex { $0.path == path && $0.action == action }
        if place == nil {
            steps.append(Step(action: action, path: path, reasons: []))
            place = steps.count - 1
        }
        guard let place else { return }
        let bytes = "bytes \(finding.byteRange.lowerBound) to \(finding.byteRange.upperBound)"
        steps[place].reasons.append("\(finding.what.rawValue), \(bytes): \(finding.detail)")
        steps[place].losses += finding.losses
        if let lost = finding.recordsLost { steps[place].recordsLost = (steps[place].recordsLost ?? 0) + lost }
    }

    mutating func add(_ report: SegmentReport) {
        guard report.isDamaged else { return }
        let losses = report.losses.filter { !$0.isGivenUp }
        var step = Step(action: .rewriteSegment, path: report.segment.path, reasons: [])
        if let fault = report.fault { step.reasons.append("\(fault); its frames were found without") }
        step.reasons += losses.map { "offset \($0.offset): \($0.reason)" }
        step.losses = losses.map { .init(tenant: report.segment.tenant, sequences: $0.sequences) }
        step.recordsLost = losses.reduce(0) { $0 + UInt64($1.sequences.count) }
        steps.append(step)
        segments.append(report.segment)
    }
}

/// What a repair did.
public struct RepairReport: Sendable, Equatable {
    /// What was to be done.
    public internal(set) var plan: RepairPlan
    /// Files that went to `quarantine/`, or copies of them, with their paths below the log's root.
    public internal(set) var setAside: [String] = []
    /// Records that moved from the journal into segments.
    public internal(set) var recordsMoved: UInt64 = 0
    public internal(set) var segmentsRewritten = 0
    /// Records that were given up, by their numbers: no subscriber has them all, and they cannot be read.
    public internal(set) var recordsGivenUp: UInt64 = 0
    /// What a look at the log found afterwards that would have to be done still.
    public internal(set) var remaining = RepairPlan()
    /// Damage may have swallowed that a subscriber came: nothing left the journal for it. Once whoever subscribes has
    /// opened the log, and registered again, a repair goes on.
    public internal(set) var mayLackSubscribers = false

    /// Nothing was done.
    public init() { plan = RepairPlan() }

    init(plan: RepairPlan) { self.plan = plan }
}
