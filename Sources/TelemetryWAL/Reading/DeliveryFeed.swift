import WALFormat
import WALStorage

/// What a subscriber lacks, for one who delivers it: each tenant's records in the order of their numbers, and no tenant
/// waiting for another.
///
/// A single walk through segments and journal, as `JoinedWalk` has it, gives what is new only when all that is old was
/// read, and stops where somebody does not take what he is given. Here a tenant is *live* as long as it keeps up: one walk
/// through the journal serves all who are. Who does not take his records, or has some in segments, is *behind*: that walk
/// passes him over, and he is read for alone, in turn with the others behind, from his segments, as much at a time as
/// he takes. When these end, what is left is in the journal: a second walk through it catches up for all who have come
/// so far together. At its end it has read all that is durable, and they are live again. Nothing is kept in memory of
/// who is behind but the number that he was given last.
///
/// Where tenants have, or had, journals of their own there is a pair of walks for each journal; a tenant with records in
/// an earlier residence is behind.
///
/// Safe to share although unchecked: its variables are touched by one caller at a time only, on the reader's thread.
package final class DeliveryFeed<Storage: JournalStorage>: @unchecked Sendable {
    /// How far a tenant has come that is not live.
    private enum Stage: Equatable {
        /// It is read for from its segments.
        case segments
        /// What is left is in the journal, and the next walk that catches up has it.
        case journal
        /// The walk of this number that catches up has it.
        case catchingUp(Int)
        /// Its records cannot be had now.
        case unavailable
        /// It was given all that it is to be given.
        case finished
    }

    /// A journal, and the walks through it.
    private final class Source {
        let core: LogCore<Storage>
        var live: SubscriberWalk<Storage>?
        var catchUp: (number: Int, walk: SubscriberWalk<Storage>)?
        /// The state of the segments as of which nobody who is live has records there.
        var generation = UInt64.max

        init(core: LogCore<Storage>) { self.core = core }
    }

    private let journals: Journals<Storage>
    private let subscriber: TenantName
    private let ceilings: [TenantName: UInt64]?
    private var sources: [Source] = []
    /// By tenant, the last number that was given or is not to be had. Who is not there has its cursor's.
    private var positions: [TenantName: UInt64] = [:]
    /// Who is not live.
    private var stages: [TenantName: Stage] = [:]
    /// Those in `.segments`, the next one first. `head`: who was before it has had a turn.
    private var turns: [TenantName] = []
    private var inTurns: Set<TenantName> = []
    /// How many walks that catch up there were.
    private var catchUps = 0
    private var head = 0
    private var full: Set<TenantName> = []
    private var reading = DeliveryReading()
    private var hasRegistered = false
    private var beginsWithBacklog = false
    /// Raised when records have become durable.
    package let signal = DurabilitySignal()
    /// Bytes of one tenant that are read from its segments in a turn.
    private static var quantum: Int { 512 << 10 }

    /// `ceilings`: through which numbers tenants are given records; nobody else is given any. nil: all are, without end.
    init(journals: Journals<Storage>, subscriber: TenantName, ceilings: [TenantName: UInt64]?) {
        self.journals = journals
        self.subscriber = subscriber
        self.ceilings = ceilings
        journals.add(signal)
    }

    deinit { journals.remove(signal) }

    /// Through which numbers acknowledgements are durable, of the tenants that are asked for.
    package func durablyAcknowledged(_ tenants: [TenantName]) -> [TenantName: UInt64] {
        tenants.reduce(into: [:]) { durable, tenant in
            durable[tenant] =
                journals.openCores(with: tenant).map { core in
                    core.lock.withLock {
                        core.state.index(of: tenant).map { core.state.acknowledgedThrough(subscriber, tenant: $0) } ?? 0
                    }
                }.max()
        }
    }

    /// Reads on until so many bytes were given or all was. `full`: tenants that take nothing at the moment. Blocks the
    /// calling thread. Throws what keeps everybody from reading: `.closed`, `.failed`, `.storage`, `.journalFull`,
    /// `.tooManySubscribers`; what was read by then is given with the next call.
    package func readBlocking(byteLimit: Int, full: Set<TenantName>) throws(WALError) -> DeliveryReading {
        if !hasRegistered { try journals.register(subscriber) }
        hasRegistered = true
        self.full = full
        layOutSources()
        // What is old must not keep what is new waiting, nor the other way round.
        beginsWithBacklog.toggle()
        if beginsWithBacklog { try readBacklog(limit: byteLimit / 2) }
        for source in sources { try readLive(source, limit: byteLimit) }
        try readBacklog(limit: byteLimit)
        reading.isAtEnd =
            reading.byteCount < byteLimit
            && stages.allSatisfy { $0.value == .unavailable || $0.value == .finished || full.contains($0.key) }
        defer { reading = DeliveryReading() }
        return reading
    }

    /// The same on the log's own reader thread.
    /// `again`: see `retryBlocking`.
    package func read(
        byteLimit: Int, full: Set<TenantName>, again: [(tenant: TenantName, behind: UInt64?)] = []
    ) async throws(WALError) -> DeliveryReading {
        let result = await journals.shared.readQueue.run { [self] () -> Result<DeliveryReading, WALError> in
            for (tenant, sequence) in again { retryBlocking(tenant, behind: sequence) }
            do throws(WALError) { return .success(try readBlocking(byteLimit: byteLimit, full: full)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Tries again for a tenant whose records could not be had, or has the records behind a number read again that were
    /// given and could not be kept.
    package func retryBlocking(_ tenant: TenantName, behind sequence: UInt64? = nil) {
        #if Simulation
            if sequence != nil, DeliberateBug.isActive(.forgetDroppedQueue) { return }
        #endif
        if let sequence {
            positions[tenant] = min(position(of: tenant), sequence)
            // What a call that failed has read comes again.
            let isOfTenant = { (item: DeliveryReading.Item) in
                if case .batch(let batch) = item { batch.tenant == tenant } else { false }
            }
            for case .batch(let batch) in reading.items where batch.tenant == tenant {
                reading.byteCount -= batch.byteCount + DeliveryReading.batchOverhead
            }
            reading.items.removeAll(where: isOfTenant)
        }
        if sequence != nil || stages[tenant] == .unavailable { fallBehind(tenant) }
    }

    // MARK: - Who stands where

    private func position(of tenant: TenantName) -> UInt64 {
        if let known = positions[tenant] { return known }
        let through = journals.openCores(with: tenant).map { core in
            core.lock.withLock { core.wantedBehind(subscriber, tenant) }
        }
        positions[tenant] = through.max() ?? 0
        return through.max() ?? 0
    }

    /// Whether a tenant is to be given something behind a number.
    private func isFinished(_ tenant: TenantName, at position: UInt64) -> Bool {
        guard let ceilings else { return false }
        return position >= ceilings[tenant] ?? 0
    }

    private func fallBehind(_ tenant: TenantName) {
        if isFinished(tenant, at: position(of: tenant)) {
            stages[tenant] = .finished
            return
        }
        guard stages[tenant] != .segments else { return }
        stages[tenant] = .segments
        if inTurns.insert(tenant).inserted { turns.append(tenant) }
    }

    private func give(_ whole: RecordBatch) {
        positions[whole.tenant] = max(position(of: whole.tenant), whole.sequences.upperBound)
        let ceiling = ceilings.map { $0[whole.tenant] ?? 0 } ?? .max
        if whole.sequences.upperBound >= ceiling { stages[whole.tenant] = .finished }
        guard let batch = whole.through(ceiling) else { return }
        reading.items.append(.batch(batch))
        reading.byteCount += batch.byteCount + DeliveryReading.batchOverhead
    }

    /// Notes what could not be read. `reader`: whom it was read for; `takes`: how those stand that the walk serves that read it, nil
    /// for live. What is met of others, who fell behind since, they will meet again. Throws what nobody can go on from.
    private func note(_ error: WALError, of reader: TenantName?, takes: Stage?) throws(WALError) {
        switch error {
        case .keyForgotten(let tenant, let sequences, _):
            if reader == nil, stages[tenant] != takes { return }
            pass(through: sequences.upperBound, of: tenant, inResidenceOf: sequences.lowerBound)
            reading.items.append(.failure(error, tenant: tenant))
        case .keyUnavailable(let tenant, _, _), .journalUnavailable(let tenant, _, _):
            stages[tenant] = .unavailable
            reading.items.append(.failure(error, tenant: tenant))
        case .storage where reader != nil:
            stages[reader!] = .unavailable
            reading.items.append(.failure(error, tenant: reader))
        case .damaged: reading.items.append(.failure(error, tenant: reader))
        default: throw error
        }
    }

    // MARK: - Journals

    private func layOutSources() {
        let cores = journals.all
        sources.removeAll { source in
            if cores.contains(where: { $0 === source.core }) { return false }
            endCatchUp(source)
            return true
        }
        for core in cores where !sources.contains(where: { $0.core === core }) {
            let source = Source(core: core)
            source.live = walk(through: source) { [unowned self, unowned source] tenant, sequence in
                takesLive(tenant, sequence, from: source.core)
            }
            sources.append(source)
        }
        // No walk comes by who has a journal that cannot be used.
        for (residence, core) in journals.residences where core == nil && stages[residence.tenant] == nil {
            fallBehind(residence.tenant)
        }
    }

    /// A walk through a journal that asks each time who is given what.
    private func walk(
        through source: Source, catchUp: Int? = nil, wants: @escaping (TenantName, UInt64) -> Bool
    ) -> SubscriberWalk<Storage> {
        let core = source.core
        var walk = core.walkSource(of: nil, for: subscriber)
        walk.wants = wants
        walk.position = { [unowned self] in position(of: $0) }
        walk.supply = { [unowned self, unowned source] place, _, _ in
            core.lock.withLock {
                notePartition(source)
                let members = catchUp.flatMap { membersOfCatchUp($0, core) }
                if let members, members.isEmpty { return .init() }
                return core.journalSupply(of: members, behind: place)
            }
        }
        return SubscriberWalk(core: core, tenant: nil, source: walk)
    }

    /// Who has records in segments since the last time is behind. Under the journal's lock.
    private func notePartition(_ source: Source) {
        let core = source.core
        guard source.generation != core.segmentGeneration else { return }
        source.generation = core.segmentGeneration
        for (index, tenant) in core.state.tenants.enumerated() {
            let through = positions[tenant.name] ?? core.wantedBehind(subscriber, tenant: index)
            guard tenant.segmentedThrough > through, stages[tenant.name] != .unavailable,
                stages[tenant.name] != .finished, !isFinished(tenant.name, at: through)
            else { continue }
            if stages[tenant.name] == .segments { continue }
            stages[tenant.name] = .segments
            if inTurns.insert(tenant.name).inserted { turns.append(tenant.name) }
        }
    }

    /// The tenants that a walk catches up for, and what they have; nil for more than it is worth to ask each file for.
    /// Under the journal's lock.
    private func membersOfCatchUp(_ number: Int, _ core: LogCore<Storage>) -> [(index: Int, from: UInt64)]? {
        let members = stages.filter { $0.value == .catchingUp(number) }
        if members.count > 64 { return nil }
        return members.compactMap { member in
            core.state.index(of: member.key).map { ($0, (positions[member.key] ?? 0) + 1) }
        }
    }

    /// Whether the walk of those who are live gives a tenant's record of a number. Who does not take it is behind.
    private func takesLive(_ tenant: TenantName, _ sequence: UInt64, from core: LogCore<Storage>) -> Bool {
        guard stages[tenant] == nil else { return false }
        if isFinished(tenant, at: position(of: tenant)) {
            stages[tenant] = .finished
            return false
        }
        if let residence = journals.residence(of: tenant, at: sequence) {
            // The numbers before it may be elsewhere.
            let next = journals.residence(of: tenant, at: position(of: tenant) + 1)
            if residence.core !== core { return false }
            if next?.firstSequence != residence.firstSequence {
                fallBehind(tenant)
                return false
            }
        } else if core !== journals.shared {
            return false
        }
        if full.contains(tenant) {
            fallBehind(tenant)
            return false
        }
        return true
    }

    private func readLive(_ source: Source, limit: Int) throws(WALError) {
        guard let walk = source.live else { return }
        while reading.byteCount < limit {
            do throws(WALError) {
                guard let batch = try walk.next() else { return }
                // It fell behind since the batch's commit was read.
                // Or it did, and has caught up: then it has the batch.
                if stages[batch.tenant] == nil, batch.sequences.upperBound > position(of: batch.tenant) { give(batch) }
            } catch {
                if isEnding(error, source) { return }
                try note(error, of: nil, takes: nil)
            }
        }
    }

    // MARK: - Who is behind

    private func readBacklog(limit: Int) throws(WALError) {
        // Each has a turn, and nobody two: who is full may have room with the next call.
        var left = turns.count - head
        while left > 0, reading.byteCount < limit {
            left -= 1
            let tenant = turns[head]
            head += 1
            if head > 1024, head > turns.count / 2 {
                turns.removeFirst(head)
                head = 0
            }
            inTurns.remove(tenant)
            guard stages[tenant] == .segments else { continue }
            let isDone = full.contains(tenant) ? false : try readSegments(of: tenant, limit: limit)
            if !isDone, inTurns.insert(tenant).inserted { turns.append(tenant) }
        }
        for source in sources where reading.byteCount < limit { try catchUp(source, limit: limit) }
    }

    /// The journal with a tenant's next number; nil: it cannot be used.
    private func home(of tenant: TenantName) -> LogCore<Storage>? {
        guard let residence = journals.residence(of: tenant, at: position(of: tenant) + 1) else {
            return journals.shared
        }
        // What is before its first residence nobody lacks.
        return residence.firstSequence == 0 ? journals.shared : residence.core
    }

    /// Whether a number of a tenant's is in the residence of its next one, and that in a journal: what it has in a later
    /// one comes later, in the same journal or in another.
    private func isNext(_ tenant: TenantName, _ sequence: UInt64, in core: LogCore<Storage>) -> Bool {
        guard let residence = journals.residence(of: tenant, at: sequence) else { return core === journals.shared }
        return residence.core === core
            && residence.firstSequence == journals.residence(of: tenant, at: position(of: tenant) + 1)?.firstSequence
    }

    /// The last number of a tenant's residence that a number is in.
    private func residenceEnd(of tenant: TenantName, at sequence: UInt64) -> UInt64 {
        guard journals.mayHavePlacements else { return .max }
        let starts = journals.table.residences(of: tenant).map(\.firstSequence)
        return starts.first { $0 > sequence }.map { $0 - 1 } ?? .max
    }

    /// Notes that a tenant's records through a number were given, or are not to be had, as far as they are in the residence
    /// of `sequence`.
    private func pass(through last: UInt64, of tenant: TenantName, inResidenceOf sequence: UInt64) {
        positions[tenant] = max(position(of: tenant), min(last, residenceEnd(of: tenant, at: sequence)))
    }

    /// Reads from a tenant's segments as much as it has a turn for. Returns whether it leaves those in turn.
    private func readSegments(of tenant: TenantName, limit: Int) throws(WALError) -> Bool {
        guard let core = home(of: tenant) else {
            do throws(WALError) {
                _ = try journals.cores(with: tenant)
                stages[tenant] = .unavailable
            } catch { try note(error, of: tenant, takes: .segments) }
            return true
        }
        let first = position(of: tenant) + 1
        // What is not found of these is gone.
        let last = core.lock.withLock { core.segmentedThrough(tenant) }
        var source = core.walkSource(of: tenant, for: subscriber)
        var hasBegun = false
        source.supply = { _, _, _ in
            defer { hasBegun = true }
            return hasBegun ? .init() : .init(tenants: [tenant])
        }
        source.position = { [unowned self] in position(of: $0) }
        if journals.mayHavePlacements {
            source.wants = { [unowned self] tenant, sequence in isNext(tenant, sequence, in: core) }
            source.boundaries = { [journals] in journals.table.residences(of: $0).map(\.firstSequence) }
        }
        let walk = SubscriberWalk(core: core, tenant: tenant, source: source)
        let end = min(limit, reading.byteCount + Self.quantum)
        while reading.byteCount < end {
            do throws(WALError) {
                guard let batch = try walk.next() else {
                    // What its segments do not have although they say so was told of.
                    pass(through: max(last, walk.given(of: tenant)), of: tenant, inResidenceOf: first)
                    // In its next residence it has segments again.
                    if position(of: tenant) >= residenceEnd(of: tenant, at: first) { return false }
                    stages[tenant] = .journal
                    #if Simulation
                        if DeliberateBug.isActive(.passOverCatchUp) { stages[tenant] = nil }
                    #endif
                    return true
                }
                give(batch)
                if stages[tenant] == .finished { return true }
            } catch {
                try note(error, of: tenant, takes: .segments)
                if stages[tenant] == .unavailable { return true }
                pass(through: walk.given(of: tenant), of: tenant, inResidenceOf: first)
            }
        }
        return false
    }

    /// Reads the journal for those whose segments have ended.
    private func catchUp(_ source: Source, limit: Int) throws(WALError) {
        let core = source.core
        if source.catchUp == nil {
            let ready = stages.filter {
                $0.value == .journal && !full.contains($0.key) && home(of: $0.key) === core
            }.keys.sorted()
            // Some may have come to segments since theirs were read.
            let segmented = core.lock.withLock { ready.map { core.segmentedThrough($0) } }
            catchUps += 1
            let number = catchUps
            for (tenant, through) in zip(ready, segmented) {
                if through > position(of: tenant) { fallBehind(tenant) } else { stages[tenant] = .catchingUp(number) }
            }
            if !stages.values.contains(.catchingUp(number)) { return }
            let catchUp = walk(through: source, catchUp: number) { [unowned self] tenant, sequence in
                guard stages[tenant] == .catchingUp(number), isNext(tenant, sequence, in: core) else { return false }
                if full.contains(tenant) {
                    fallBehind(tenant)
                    return false
                }
                return true
            }
            source.catchUp = (number, catchUp)
        }
        guard let (number, walk) = source.catchUp else { return }
        while reading.byteCount < limit {
            do throws(WALError) {
                guard let batch = try walk.next() else {
                    source.catchUp = nil
                    let members = stages.filter { $0.value == .catchingUp(number) }
                    // In an order that does not depend on hashing.
                    for tenant in members.keys.sorted() { endCatchUp(of: tenant, source) }
                    return
                }
                if stages[batch.tenant] == .catchingUp(number) { give(batch) }
            } catch {
                if isEnding(error, source) { return endCatchUp(source) }
                try note(error, of: nil, takes: .catchingUp(number))
            }
        }
    }

    /// A walk that catches up will not come to its end: its journal is no more.
    private func endCatchUp(_ source: Source) {
        guard let number = source.catchUp?.number else { return }
        source.catchUp = nil
        for tenant in stages.filter({ $0.value == .catchingUp(number) }).keys.sorted() { fallBehind(tenant) }
    }

    /// All of a tenant that is durable in the journal of its next number was given: it is live, or goes on in its next
    /// residence.
    private func endCatchUp(of tenant: TenantName, _ source: Source) {
        // It may have come to the next one with its last record.
        let isThrough = home(of: tenant) !== source.core
        let end = residenceEnd(of: tenant, at: position(of: tenant) + 1)
        if isThrough || end < .max {
            if !isThrough { positions[tenant] = end }
            fallBehind(tenant)
            return
        }
        stages[tenant] = nil
        source.live?.readmit(tenant)
    }

    /// A journal that everybody had everything of, and that has no tenant any more.
    private func isEnding(_ error: WALError, _ source: Source) -> Bool {
        guard case .closed = error, source.core !== journals.shared else { return false }
        return !journals.all.contains { $0 === source.core }
    }
}

extension WriteAheadLogEngine {
    /// What a subscriber lacks, for a replayer. Registers the subscriber with the first read.
    /// `ceilings`: through which numbers tenants are given records; nobody else is given any.
    package func deliveryFeed(
        subscriber: TenantName, ceilings: [TenantName: UInt64]? = nil
    ) -> DeliveryFeed<Storage> {
        DeliveryFeed(journals: journals, subscriber: subscriber, ceilings: ceilings)
    }
}
