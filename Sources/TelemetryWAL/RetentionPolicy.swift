import WALFormat

/// How much of a tenant's undelivered records the log keeps, and what happens when that is not enough. The default keeps
/// all of them, as far as the log's own limits go (`journalLimit`, `segmentLimit`).
public struct RetentionPolicy: Sendable, Equatable {
    /// What happens when a tenant's budget is used up, or, with `dropOldest`, the log has no room left.
    public enum WhenFull: String, Sendable, CaseIterable {
        /// Appends of the tenant are refused with `WALError.tenantFull` until subscribers have acknowledged some of its
        /// records. Nothing is lost.
        case backPressure = "back-pressure"
        /// The tenant's oldest records go to make room for what comes; so they do where the log as a whole is full, and
        /// nothing else makes room.
        case dropOldest = "drop-oldest"
        /// What comes beyond the budget is not taken: `WALError.dropped`, which says that it is counted and need not be
        /// tried again. Where the log as a whole is full, appends are refused as with back-pressure.
        case dropNewest = "drop-newest"
    }

    /// Most bytes of records (payloads and 16 bytes each, uncompressed) that some subscriber lacks; nil: no bound of the
    /// tenant's own. A record or batch that is longer is refused. At least 4,096.
    public var budget: UInt64?
    /// Nanoseconds after which a record is dropped although some subscriber lacks it, counted from when the log received
    /// it; nil: never. At least 1 s. While the log is open it goes within about a 16th of that time or two minutes,
    /// whichever is less; of what was there before, what one journal file or one segment has goes together. Needs a clock that is right: one that
    /// is set back makes records stay longer, one that jumps ahead makes them go.
    public var age: UInt64?
    public var whenFull: WhenFull

    public init(budget: UInt64? = nil, age: UInt64? = nil, whenFull: WhenFull = .backPressure) {
        self.budget = budget
        self.age = age
        self.whenFull = whenFull
    }

    /// For what records may be dropped, or not taken, by it.
    var causes: Set<DropCause> {
        var causes: Set<DropCause> = age == nil ? [] : [.age]
        switch whenFull {
        case .backPressure: break
        case .dropOldest: causes.formUnion(budget == nil ? [.space] : [.budget, .space])
        case .dropNewest: if budget != nil { causes.insert(.newest) }
        }
        return causes
    }

    #if Simulation
        private static let leastAge: UInt64 = 1_000_000
    #else
        private static let leastAge: UInt64 = 1_000_000_000
    #endif

    func checked() throws(WALError) {
        if let budget, budget < 4096 || budget > FormatLimits.maximumNumber {
            throw .invalidOption("a tenant's budget is \(budget) bytes; give at least 4096")
        }
        if let age, age < Self.leastAge {
            throw .invalidOption("records are to be kept for \(age) nanoseconds; give at least a second")
        }
    }
}

/// Records of a tenant that go, or would.
public struct RetentionDrop: Sendable, Equatable {
    public let tenant: TenantName
    public let cause: DropCause
    /// Their sequence numbers.
    public let sequences: ClosedRange<UInt64>
    /// About how many bytes they have with their headers, uncompressed.
    public let length: UInt64
    /// About when the first and the last of them were received, nanoseconds since 1970 (UTC).
    public let received: ClosedRange<UInt64>
}
