/// What a history is made of: a seed, and what of it is left out.
public struct HistoryOptions: Sendable {
    /// Everything that happens follows from it.
    public var seed: UInt64
    /// Whether every step is written down.
    public var traces = false
    /// Most times that the log is opened. A history is made shorter with these to find the shortest that still fails;
    /// what remains happens as it did.
    public var mostRounds = Int.max
    /// Most calls of each simulated thread.
    public var mostCalls = Int.max
    /// Most producers and subscribers at a time.
    public var mostActors = Int.max
    /// Faults that do not happen.
    public var without: Set<FaultKind> = []
    /// Where the log's files are put as the last round left them, with what the engine reads there; a folder of the
    /// seed's name each. For another reader of the format to be held against.
    public var exportFolder: String?
    /// The simulator itself spoils a record that was acknowledged, and tells the judge nothing: such a history must
    /// fail, or failures are not seen.
    public var isCanary = false

    public init(seed: UInt64) { self.seed = seed }
}

/// How a history ended.
public struct HistoryResult: Sendable {
    public var seed: UInt64
    /// What the judge found first; nil if the log kept its promises.
    public internal(set) var failure: String?
    /// Every step, if asked for.
    public internal(set) var trace: [String] = []
    /// How often each fault happened.
    public internal(set) var faults: [FaultKind: Int] = [:]
    /// Times that the log was opened.
    public internal(set) var opens = 0
    /// Records appended, and records read and compared.
    public internal(set) var recordsAppended = 0
    public internal(set) var recordsChecked = 0
    /// Records that the disk lost, each told by the log.
    public internal(set) var recordsLost = 0
    /// Switches from thread to thread.
    public internal(set) var steps = 0
    /// Differs if anything that happened on the disk did: two runs of one seed give the same.
    public internal(set) var fingerprint: UInt64 = 0
    /// Threads of the history are left behind: the real thread that ran it cannot run another.
    public internal(set) var isStuck = false
}
