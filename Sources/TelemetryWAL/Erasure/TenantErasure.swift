import WALFormat

/// That a tenant's records were erased, or are about to be: what the log remembers of it, for good. Numbers go on behind
/// it, so that none is given twice.
public struct TenantErasure: Sendable, Equatable {
    /// The last number that was erased.
    public let through: UInt64
    /// When it was asked for, nanoseconds since 1970 (UTC).
    public let requested: UInt64
    /// False: nobody is shown the records any more, and some of their bytes may still be there. The next writer goes on.
    public let isComplete: Bool

    package init(through: UInt64, requested: UInt64, isComplete: Bool) {
        self.through = through
        self.requested = requested
        self.isComplete = isComplete
    }

    /// The record that says it.
    func record(of tenant: TenantName) -> ControlRecord {
        .erasure(tenant: tenant, through: through, requested: requested, isComplete: isComplete)
    }

    /// Of two the one that says more: it reaches further, or is complete.
    func later(_ other: TenantErasure) -> TenantErasure {
        if other.through != through { return other.through > through ? other : self }
        return other.isComplete ? other : self
    }
}
