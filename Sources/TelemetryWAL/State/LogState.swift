import WALFormat
import WALStorage

/// What the log knows beside its records: tenants with their next sequence numbers, subscribers with their cursors.
/// A plain value without I/O: recovery builds it from control records, the committer carries it on, a checkpoint is
/// the whole of it written down.
package struct LogState: Sendable {
    package struct Tenant: Sendable {
        package let name: TenantName
        /// The number that the tenant's next durable record gets; numbers begin at 1.
        package var nextSequence: UInt64 = 1
        /// Segments hold the tenant's records through this number, as far as somebody may lack them; 0: there are
        /// none. The directories say it, not the checkpoint.
        package var segmentedThrough: UInt64 = 0
        /// Through which number records were given up, whoever lacked them; 0: none.
        package fileprivate(set) var droppedThrough: UInt64 = 0
        /// What was dropped since the log began, or not taken.
        package fileprivate(set) var drops: [DropCause: DropTotal] = [:]
        /// The tenant was erased, or is about to be; nil: never.
        package fileprivate(set) var erasure: TenantErasure?
        /// Bytes and times by number.
        fileprivate(set) var backlog = TenantBacklog()
        /// So many records of drops have room in checkpoints.
        fileprivate var dropSlots = 0
        /// A record of its erasure has room in checkpoints.
        fileprivate var hasErasureSlot = false

        /// Through which number records were erased, or are about to be; 0: none.
        package var erasedThrough: UInt64 { erasure?.through ?? 0 }
    }

    package private(set) var tenants: [Tenant] = []
    private var indices: [TenantName: Int] = [:]
    /// Per subscriber, by the tenant's index: the sequence number through which it has everything. Tenants behind the
    /// array's end have 0.
    package private(set) var cursors: [TenantName: [UInt64]] = [:]
    /// Per subscriber the number of its registration, 0 where that is not known. A journal that missed that a subscriber left
    /// and came again has another one, and its cursors there are of before.
    package private(set) var registrations: [TenantName: UInt32] = [:]
    /// The number that a tenant begins with who is not known: above 1 where damage may have swallowed tenants, whose
    /// numbers must not be given again.
    package private(set) var sequenceFloor: UInt64 = 1
    /// Length of all names in the checkpoint's records, so that its size is known without walking the state.
    private var tenantNamesLength = 0
    /// Bytes that checkpoints keep for records of drops and erasures, those that are still to come included.
    private var reservedForDrops = 0

    package init() {}

    /// The index of a known tenant.
    package func index(of tenant: TenantName) -> Int? { indices[tenant] }

    /// Through which number a tenant's records were erased, or are about to be; 0: none.
    package func erasedThrough(of tenant: TenantName) -> UInt64 {
        index(of: tenant).map { tenants[$0].erasedThrough } ?? 0
    }

    /// The index of a tenant, which becomes known if it is not.
    mutating func makeIndex(of tenant: TenantName) -> Int {
        if let index = indices[tenant] { return index }
        let index = tenants.count
        tenants.append(
            Tenant(
                name: tenant, nextSequence: sequenceFloor,
                backlog: TenantBacklog(behind: sequenceFloor - 1)))
        indices[tenant] = index
        tenantNamesLength += tenant.utf8.count
        return index
    }

    mutating func raiseSequenceFloor(to sequence: UInt64) { sequenceFloor = max(sequenceFloor, sequence) }

    mutating func setNextSequence(_ sequence: UInt64, at index: Int) { tenants[index].nextSequence = sequence }

    package var subscribers: [TenantName] { cursors.keys.sorted() }

    /// Through which sequence number a subscriber has a tenant's records; 0: none.
    package func acknowledgedThrough(_ subscriber: TenantName, tenant index: Int) -> UInt64 {
        guard let row = cursors[subscriber], index < row.count else { return 0 }
        return row[index]
    }

    /// Through which sequence number every subscriber has a tenant's records; 0 while there is no subscriber.
    func acknowledgedByAll(tenant index: Int) -> UInt64 {
        cursors.values.lazy.map { index < $0.count ? $0[index] : 0 }.min() ?? 0
    }

    /// Through which sequence number nobody is promised a tenant's records any more: every subscriber has them, or they
    /// were dropped.
    package func releasedThrough(tenant index: Int) -> UInt64 {
        max(acknowledgedByAll(tenant: index), tenants[index].droppedThrough)
    }

    /// Through which sequence number the journal need not keep a tenant's records: nobody is promised them, or segments
    /// hold them.
    func settledThrough(tenant index: Int) -> UInt64 {
        max(releasedThrough(tenant: index), tenants[index].segmentedThrough)
    }

    /// Bytes of a tenant's records that somebody is promised.
    func heldLength(tenant index: Int) -> UInt64 {
        tenants[index].backlog.length(above: releasedThrough(tenant: index))
    }

    /// Whether any record may be one that nobody is promised.
    var releasesRecords: Bool { !cursors.isEmpty || hasDrops }

    /// Whether anything in the journal may have been settled without a subscriber.
    var hasDrops: Bool { tenants.contains { $0.droppedThrough > 0 } }

    package var hasSegments: Bool { tenants.contains { $0.segmentedThrough > 0 } }

    /// Segments hold a tenant's records through a number. The tenant becomes known if it is not, and is given no number
    /// again that a segment has.
    mutating func setSegmented(_ tenant: TenantName, through sequence: UInt64) {
        let index = makeIndex(of: tenant)
        tenants[index].segmentedThrough = max(tenants[index].segmentedThrough, sequence)
        tenants[index].nextSequence = max(tenants[index].nextSequence, sequence + 1)
    }

    /// Records of a tenant through a number are in the log: `length` bytes of them.
    mutating func noteAppended(through sequence: UInt64, length: UInt64, received: UInt64, at index: Int) {
        if tenants[index].backlog.beginsStep(received: received) {
            let released = releasedThrough(tenant: index)
            tenants[index].backlog.release(through: min(released, tenants[index].backlog.lastSequence))
        }
        tenants[index].backlog.append(through: sequence, length: length, received: received)
    }

    #if Simulation
        mutating func countTwice(_ length: UInt64, at index: Int) {
            tenants[index].backlog.append(
                through: tenants[index].backlog.lastSequence + 1, length: length, received: 0)
        }
    #endif

    /// What nobody is promised now counts against no budget any more, whoever comes or leaves later.
    private mutating func releaseBacklogs() {
        for index in tenants.indices {
            let released = releasedThrough(tenant: index)
            tenants[index].backlog.release(through: min(released, tenants[index].backlog.lastSequence))
        }
    }

    /// A point of a tenant's backlog is known from elsewhere.
    mutating func refineBacklog(at sequence: UInt64, length: UInt64? = nil, received: UInt64, tenant index: Int) {
        tenants[index].backlog.refine(at: sequence, length: length, received: received)
    }

    /// The same, as a segment's summary says it. One that cannot be read says nothing: its records go with those behind it.
    mutating func refineBacklog(with summary: SegmentSummary?, tenant index: Int) {
        guard let summary, summary.received.upperBound > 0 else { return }
        refineBacklog(
            at: summary.covered.upperBound, received: summary.received.upperBound, tenant: index)
    }

    /// Keeps room in checkpoints for as many records of drops of a tenant. It is never given back.
    mutating func reserveDrops(_ count: Int, tenant index: Int) {
        let more = max(0, count - tenants[index].dropSlots)
        tenants[index].dropSlots += more
        reservedForDrops +=
            more * (RecordHeader.length + ControlRecord.droppedLength + tenants[index].name.utf8.count)
    }

    /// Keeps room in checkpoints for the erasure of a tenant. It is never given back.
    mutating func reserveErasure(tenant index: Int) {
        guard !tenants[index].hasErasureSlot else { return }
        tenants[index].hasErasureSlot = true
        reservedForDrops += RecordHeader.length + ControlRecord.erasureLength + tenants[index].name.utf8.count
    }

    /// Whether a tenant's erasure is not complete.
    func isBeingErased(tenant index: Int) -> Bool { tenants[index].erasure.map { !$0.isComplete } ?? false }

    /// Takes a control record in that was written at a time. Cursors and sequence numbers only ever move forward.
    package mutating func apply(_ record: ControlRecord, at time: UInt64 = 0) {
        switch record {
        case .cursor(let subscriber, let tenant, let acknowledgedThrough):
            // A subscriber that left has no cursors any more, whatever is still on its way.
            guard cursors[subscriber] != nil else { return }
            let index = makeIndex(of: tenant)
            // In place: a copy of the row for each cursor would cost the square of the tenants' number.
            Self.raise(&cursors[subscriber, default: []], at: index, to: acknowledgedThrough)
        case .tenantState(let tenant, let nextSequence, let summary):
            let index = makeIndex(of: tenant)
            if let summary {
                if tenants[index].backlog.isEmpty {
                    tenants[index].backlog = TenantBacklog(summary, nextSequence: nextSequence, received: time)
                } else if nextSequence > 0 {
                    tenants[index].backlog.reconcile(
                        through: nextSequence - 1, appendedLength: summary.appendedLength, received: time)
                }
            }
            tenants[index].nextSequence = max(tenants[index].nextSequence, nextSequence)
        case .subscriber(let name, let isRegistered, let registration):
            releaseBacklogs()
            // It left in between, and damage took what said so.
            let isAnother = Subscriptions.differ(registrations[name] ?? 0, registration)
            registrations[name] = isRegistered ? registration : nil
            if !isRegistered { cursors[name] = nil } else if cursors[name] == nil || isAnother { cursors[name] = [] }
        case .checkpoint(_, _, _, let floor):
            raiseSequenceFloor(to: floor)
        case .dropped(let tenant, let cause, let through, let total):
            let index = makeIndex(of: tenant)
            tenants[index].droppedThrough = max(tenants[index].droppedThrough, through)
            tenants[index].drops[cause] = tenants[index].drops[cause]?.later(total) ?? total
            reserveDrops(tenants[index].drops.count, tenant: index)
        case .erasure(let tenant, let through, let requested, let isComplete):
            let index = makeIndex(of: tenant)
            tenants[index].droppedThrough = max(tenants[index].droppedThrough, through)
            reserveErasure(tenant: index)
            let erasure = TenantErasure(through: through, requested: requested, isComplete: isComplete)
            tenants[index].erasure = tenants[index].erasure?.later(erasure) ?? erasure
        case .watermark:
            break
        }
    }

    /// Forgets subscribers and cursors: a whole checkpoint that follows names all that there are.
    package mutating func forgetSubscribers() {
        releaseBacklogs()
        cursors = [:]
        registrations = [:]
    }

    private static func raise(_ row: inout [UInt64], at index: Int, to sequence: UInt64) {
        if row.count <= index { row += repeatElement(0, count: index + 1 - row.count) }
        row[index] = max(row[index], sequence)
    }

    /// The state as records, the checkpoint record first.
    package func checkpoint() -> [ControlRecord] {
        var states: [ControlRecord] = []
        for (index, tenant) in tenants.enumerated() {
            let summary = tenant.backlog.summary(releasedThrough: releasedThrough(tenant: index))
            states.append(.tenantState(tenant: tenant.name, nextSequence: tenant.nextSequence, backlog: summary))
        }
        var rows: [ControlRecord] = []
        for subscriber in subscribers {
            for (index, through) in (cursors[subscriber] ?? []).enumerated() where through > 0 {
                rows.append(
                    .cursor(subscriber: subscriber, tenant: tenants[index].name, acknowledgedThrough: through))
            }
        }
        #if Simulation
            if DeliberateBug.isActive(.forgetTenantInCheckpoint), !states.isEmpty { states.removeLast() }
            if DeliberateBug.isActive(.forgetCursorsInCheckpoint) { rows = [] }
        #endif
        let names = subscribers.map {
            ControlRecord.subscriber(name: $0, isRegistered: true, registration: registrations[$0] ?? 0)
        }
        let head = ControlRecord.checkpoint(
            tenants: UInt64(states.count), cursors: UInt64(rows.count), subscribers: UInt64(names.count),
            sequenceFloor: sequenceFloor)
        return [head] + names + states + rows + drops() + erasures()
    }

    private func erasures() -> [ControlRecord] {
        tenants.compactMap { tenant in tenant.erasure.map { $0.record(of: tenant.name) } }
    }

    private func drops() -> [ControlRecord] {
        tenants.flatMap { tenant in
            DropCause.allCases.compactMap { cause in
                tenant.drops[cause].map {
                    // Through where is said by each cause: it is of the tenant.
                    .dropped(tenant: tenant.name, cause: cause, through: tenant.droppedThrough, total: $0)
                }
            }
        }
    }

    /// An upper bound of the checkpoint's records in bytes.
    package var checkpointBound: Int {
        let tenantRecords =
            tenants.count * (RecordHeader.length + 16 + BacklogSummary.length) + tenantNamesLength + reservedForDrops
        let cursorRecords = cursors.keys.reduce(0) {
            $0 + tenants.count * (RecordHeader.length + 16 + $1.utf8.count) + tenantNamesLength + RecordHeader.length
                + 8 + $1.utf8.count
        }
        return RecordHeader.length + 32 + tenantRecords + cursorRecords
    }
}
