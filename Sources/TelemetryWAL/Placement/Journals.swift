import Logging
import Synchronization
import WALFormat
import WALStorage

/// The journals of a log: the one at its root, which tenants share, and those of single tenants. Each is a whole engine of
/// its own, `LogCore` with its threads; this class knows who is where, and moves tenants between them.
///
/// A tenant's numbers go on from one journal to the next, and `PLACEMENTS` says which are where (`PlacementTable`).
/// Records stay where they were appended until everybody has them: a move writes no record twice, and costs the tenant
/// some milliseconds. First the journal that it leaves takes no more of it; when all that was staged there is durable, its
/// next number is made durable in the journal that it comes to; then the table is replaced, which is the moment of the
/// move; then appends go on. A crash before that leaves a number that nobody has; after it, the move.
///
/// Readers go by residences (`JoinedWalk`): all of a tenant's first, then all of its second.
///
/// Safe to share although unchecked: `lock` guards what changes.
final class Journals<Storage: JournalStorage>: @unchecked Sendable {
    let shared: LogCore<Storage>
    /// False as long as no tenant has, or had, a journal of its own: asked by each append.
    let hasPlacements: Atomic<Bool>
    let root: PlacementRoot<Storage>
    let options: WriteAheadLogOptions

    /// Of whoever has subscribers come or leave in several journals. Taken before all others.
    private let subscribersLock = Lock()
    /// Subscribers that have left since the log was opened. Guarded by `subscribersLock`.
    private var departed: Set<TenantName> = []
    let lock = Lock()
    let moveEnds = Condition()
    // Guarded by `lock`.
    var currentTable: PlacementTable {
        didSet { residencesByTenant = Dictionary(grouping: currentTable.residences, by: \.tenant) }
    }
    var residencesByTenant: [TenantName: [PlacementTable.Residence]]
    var dedicated: [Key: Journal] = [:]
    /// Tenants that are in the table, and where their records are appended.
    var current: [TenantName: Journal] = [:]
    var byNumber: [UInt32: LogCore<Storage>] = [:]
    var lastNumber: UInt32 = 0
    /// Who is being moved, and refused where it was.
    var moving: TenantName?
    /// A move goes on, or what one left is being removed; one at a time.
    var isMoving = false
    /// How many erasures go on: nobody is moved meanwhile.
    var erasures = 0
    var waiters: [Waiter] = []
    var isClosed = false
    private var signals: [DurabilitySignal] = []

    /// A journal of a tenant's own.
    struct Key: Hashable, Comparable {
        var tenant: TenantName
        var directory: String

        init(tenant: TenantName, directory: String) {
            self.tenant = tenant
            self.directory = directory
        }

        static func < (left: Key, right: Key) -> Bool {
            (left.tenant, left.directory) < (right.tenant, right.directory)
        }

        /// nil for the shared journal.
        init?(_ residence: PlacementTable.Residence) {
            guard case .dedicated(let directory) = residence.home else { return nil }
            self.init(tenant: residence.tenant, directory: directory)
        }
    }

    enum Journal {
        case open(LogCore<Storage>, RecoveryReport)
        case unavailable(WALError)

        var core: LogCore<Storage>? { if case .open(let core, _) = self { core } else { nil } }
    }

    /// Opens the journals of tenants' own. One that cannot be opened keeps nobody else from appending. Not `opensOthers`: the
    /// shared journal is to be repaired, nothing more.
    init(
        shared: LogCore<Storage>, root: PlacementRoot<Storage>, options: WriteAheadLogOptions, opensOthers: Bool = true
    ) throws(WALError) {
        self.shared = shared
        self.root = root
        self.options = options
        currentTable =
            opensOthers ? try root.table() : PlacementTable(logIdentifier: root.format.logIdentifier)
        residencesByTenant = Dictionary(grouping: currentTable.residences, by: \.tenant)
        hasPlacements = Atomic(!currentTable.residences.isEmpty)
        for residence in currentTable.residences {
            guard case .dedicated(let directory) = residence.home else { continue }
            let key = Key(tenant: residence.tenant, directory: directory)
            if dedicated[key] != nil { continue }
            if dedicated.count < options.dedicatedJournalLimit {
                dedicated[key] = openAsItIs(key)
            } else {
                let path = root.storage(of: key.tenant, in: directory).rootDescription
                dedicated[key] = .unavailable(
                    .journalUnavailable(
                        tenant: key.tenant, path: path,
                        reason: "dedicatedJournalLimit is \(options.dedicatedJournalLimit); raise it"))
            }
        }
        for residence in currentTable.residences { current[residence.tenant] = journal(of: residence) }
        spreadErasures()
        for residence in currentTable.residences {
            guard let core = journal(of: residence).core,
                currentTable.residences(of: residence.tenant).last == residence
            else { continue }
            do throws(WALError) { try core.arriveAgain(residence.tenant, from: residence.firstSequence) } catch {
                current[residence.tenant] = .unavailable(
                    .journalUnavailable(
                        tenant: residence.tenant, path: core.storage.rootDescription, reason: "\(error)"))
            }
        }
        // In an order that does not depend on hashing, here and below.
        for (tenant, journal) in current.sorted(by: { $0.key < $1.key }) {
            for core in all where core !== journal.core { core.lock.withLock { _ = core.depart(tenant) } }
            joinCursors(of: tenant, in: openCores(with: tenant))
        }
        vacate()
    }

    func openAsItIs(_ key: Key) -> Journal {
        do throws(WALError) { return try openJournal(key, mayCreate: false) } catch {
            let path = root.storage(of: key.tenant, in: key.directory).rootDescription
            options.logger.error(
                "a tenant's own journal cannot be opened: the tenant has to wait",
                metadata: ["tenant": "\(key.tenant)", "path": "\(path)", "error": "\(error)"])
            return .unavailable(.journalUnavailable(tenant: key.tenant, path: path, reason: "\(error)"))
        }
    }

    func openJournal(_ key: Key, mayCreate: Bool) throws(WALError) -> Journal {
        var options = self.options
        options.maximumTenants = 1
        options.isEncrypted = shared.options.isEncrypted
        options.descriptorLimit = ReaderFiles.leastLimit(spareFiles: options.spareFiles)
        options.retention = shared.lock.withLock { shared.retention.policy(of: key.tenant) }
        options.tenantRetention = [:]
        let storage = root.storage(of: key.tenant, in: key.directory)
        let (core, report) = try WriteAheadLogEngine<Storage>.openJournal(
            storage: storage, options: options,
            dedicated: DedicatedRoot(
                logIdentifier: root.format.logIdentifier, tenant: key.tenant, mayCreate: mayCreate),
            beforeStart: { (core, _) throws(WALError) in
                if core.state.tenants.contains(where: { $0.name != key.tenant }) {
                    throw .notALog(
                        path: storage.rootDescription, reason: "it has records of others than tenant \(key.tenant)")
                }
                core.encryptionMark = shared.encryptionMark
                // Before its threads begin: nothing is given up that a subscriber lacks of whom it did not know yet.
                try takeSubscribers(core)
            })
        let signals = lock.withLock {
            lastNumber += 1
            core.number = lastNumber
            byNumber[lastNumber] = core
            return self.signals
        }
        for signal in signals { core.raise(signal) }
        return .open(core, report)
    }

    /// Has a journal know who subscribes, as the shared one says durably.
    func takeSubscribers(_ core: LogCore<Storage>) throws(WALError) {
        try subscribersLock.withLock { () throws(WALError) in
            try settleSubscribers()
            try core.adopt(subscriptions)
        }
    }

    var subscriptions: Subscriptions {
        Subscriptions(
            registrations: shared.lock.withLock { shared.state.registrations },
            mayLackSome: shared.mayLackSubscribers)
    }

    /// Whoever has a record has all before it, in whatever journal that was noted.
    func joinCursors(of tenant: TenantName, in cores: [LogCore<Storage>]) {
        guard cores.count > 1 else { return }
        // Nobody comes or leaves meanwhile.
        subscribersLock.withLock {
            let subscriptions = subscriptions
            var through: [TenantName: UInt64] = [:]
            for core in cores { through.merge(core.cursors(of: tenant, subscriptions)) { max($0, $1) } }
            for core in cores {
                core.lock.withLock {
                    for (subscriber, sequence) in through.sorted(by: { $0.key < $1.key }) {
                        core.acknowledge(subscriber, tenant: tenant, through: sequence)
                    }
                }
            }
        }
    }

    // MARK: - Who is where

    /// False as long as no tenant has, or had, a journal of its own.
    var mayHavePlacements: Bool { hasPlacements.load(ordering: .acquiring) }

    /// The journal that a tenant's records are appended to. Throws `.journalUnavailable`.
    @inline(__always)
    func core(of tenant: TenantName) throws(WALError) -> LogCore<Storage> {
        guard hasPlacements.load(ordering: .acquiring) else { return shared }
        return try placedCore(of: tenant)
    }

    @inline(never)
    private func placedCore(of tenant: TenantName) throws(WALError) -> LogCore<Storage> {
        switch lock.withLock({ current[tenant] }) {
        case .open(let core, _): return core
        case .unavailable(let error): throw error
        case nil: return shared
        }
    }

    func core(numbered number: UInt32) -> LogCore<Storage>? {
        number == 0 ? shared : lock.withLock { byNumber[number] }
    }

    /// All journals that are open, the shared one first.
    var all: [LogCore<Storage>] {
        guard hasPlacements.load(ordering: .acquiring) else { return [shared] }
        return lock.withLock { [shared] + byNumber.sorted { $0.key < $1.key }.map(\.value) }
    }

    /// The journals that have, or may have, records of a tenant. Throws `.journalUnavailable` where one cannot be used.
    func cores(with tenant: TenantName) throws(WALError) -> [LogCore<Storage>] {
        var cores = [shared]
        for residence in table.residences(of: tenant) {
            switch lock.withLock({ journal(of: residence) }) {
            case .open(let core, _): if !cores.contains(where: { $0 === core }) { cores.append(core) }
            case .unavailable(let error): throw error
            }
        }
        return cores
    }

    /// The same without those that cannot be used.
    func openCores(with tenant: TenantName) -> [LogCore<Storage>] {
        guard hasPlacements.load(ordering: .acquiring) else { return [shared] }
        return lock.withLock {
            (residencesByTenant[tenant] ?? []).reduce(into: [shared]) { cores, residence in
                guard let core = journal(of: residence).core, !cores.contains(where: { $0 === core }) else { return }
                cores.append(core)
            }
        }
    }

    /// The residence that a tenant's number belongs to, and its journal; nil for a tenant that was never placed.
    func residence(
        of tenant: TenantName, at sequence: UInt64
    ) -> (firstSequence: UInt64, core: LogCore<Storage>?)? {
        guard hasPlacements.load(ordering: .acquiring) else { return nil }
        return lock.withLock {
            guard let residences = residencesByTenant[tenant] else { return nil }
            // What is before the first one nobody lacks any more.
            guard let residence = residences.last(where: { $0.firstSequence <= sequence }) else { return (0, nil) }
            return (residence.firstSequence, journal(of: residence).core)
        }
    }

    var table: PlacementTable { lock.withLock { currentTable } }

    /// The table, and the journals of its residences, in its order; nil for one that cannot be used.
    var residences: [(residence: PlacementTable.Residence, core: LogCore<Storage>?)] {
        guard hasPlacements.load(ordering: .acquiring) else { return [] }
        return lock.withLock { currentTable.residences.map { ($0, journal(of: $0).core) } }
    }

    /// What opening the tenants' own journals found.
    var reports: [(path: String, report: RecoveryReport)] {
        lock.withLock {
            dedicated.values.compactMap {
                if case .open(let core, let report) = $0 { (core.storage.rootDescription, report) } else { nil }
            }
        }.sorted { $0.path < $1.path }
    }

    /// Where a tenant's records are, or of all tenants that were ever placed.
    func residences(of tenant: TenantName?) -> [TenantResidence] {
        lock.withLock {
            TenantResidence.all(in: currentTable, of: tenant, root) { residence in
                if case .unavailable(let error) = journal(of: residence) { "\(error)" } else { nil }
            }
        }
    }

    /// Under the lock, or before there is another thread.
    func journal(of residence: PlacementTable.Residence) -> Journal {
        guard case .dedicated(let directory) = residence.home else { return .open(shared, RecoveryReport()) }
        return dedicated[Key(tenant: residence.tenant, directory: directory)] ?? .unavailable(.closed)
    }

    // MARK: - Of all journals

    /// Has a signal raised by each journal, those that come later included.
    func add(_ signal: DurabilitySignal) {
        let cores = lock.withLock {
            signals.append(signal)
            return [shared] + byNumber.values
        }
        for core in cores { core.raise(signal) }
    }

    func remove(_ signal: DurabilitySignal) {
        let cores = lock.withLock {
            signals.removeAll { $0 === signal }
            return [shared] + byNumber.values
        }
        for core in cores { core.lock.withLock { core.durabilitySignals.removeAll { $0 === signal } } }
    }

    /// Adds up what each journal has, asked under its lock.
    func sum<Value: AdditiveArithmetic>(_ value: (LogCore<Storage>) -> Value) -> Value {
        all.reduce(.zero) { sum, core in sum + core.lock.withLock { value(core) } }
    }

    func register(_ subscriber: TenantName) throws(WALError) {
        try subscribersLock.withLock { () throws(WALError) in
            // The shared one first: a journal that comes meanwhile takes its subscribers from there.
            let others = all.dropFirst()
            // Where damage may have taken it from the shared journal only, it is the same one, if the others agree.
            let known = Set(others.compactMap { core in core.lock.withLock { core.state.registrations[subscriber] } })
            let registration = try shared.lock.withLock { () throws(WALError) in
                let isLost =
                    shared.mayLackSubscribers && !departed.contains(subscriber)
                    && shared.state.cursors[subscriber] == nil && known.count == 1
                try shared.register(subscriber, registration: isLost ? known.first : nil)
                return shared.state.registrations[subscriber]
            }
            if others.isEmpty { return }
            try settleSubscribers()
            for core in others {
                try core.lock.withLock { () throws(WALError) in
                    try core.register(subscriber, registration: registration)
                }
            }
        }
    }

    func unregister(_ subscriber: TenantName) {
        subscribersLock.withLock {
            departed.insert(subscriber)
            shared.lock.withLock { shared.unregister(subscriber) }
            let others = all.dropFirst()
            if others.isEmpty { return }
            do throws(WALError) {
                try settleSubscribers()
                for core in others { core.lock.withLock { core.unregister(subscriber) } }
            } catch {
                // They go on keeping for it what it lacks, until the log is opened again.
                options.logger.error(
                    "a subscriber has left the shared journal only",
                    metadata: ["subscriber": "\(subscriber)", "error": "\(error)"])
            }
        }
    }

    /// Makes durable who subscribes. Another journal must not give up anything on the word of a subscriber that a crash
    /// would have the log forget, nor for want of one that it would bring back.
    func settleSubscribers() throws(WALError) {
        if shared.lock.withLock({ shared.departuresAreUnderWay }) { try shared.flushAcknowledgements() }
    }

    func flushAcknowledgements() throws(WALError) {
        for core in all { try core.flushAcknowledgements() }
    }

    // MARK: - The end

    /// Closes all, the shared one last.
    func close() throws(WALError) {
        var failure: WALError?
        let others = lock.withLock {
            // A move that is under way ends first.
            while isMoving { moveEnds.wait(lock) }
            isClosed = true
            moveEnds.broadcast()
            return byNumber.sorted { $0.key < $1.key }.map(\.value)
        }
        for core in others {
            do throws(WALError) { try core.close() } catch { failure = failure ?? error }
        }
        do throws(WALError) { try shared.close() } catch { failure = failure ?? error }
        if let failure { throw failure }
    }

    func abandon() {
        lock.withLock { isClosed = true }
        for core in all { core.abandon() }
    }
}

extension TenantResidence {
    /// The residences of a tenant, or of all that are in a table.
    static func all<Storage: JournalStorage>(
        in table: PlacementTable, of tenant: TenantName?, _ root: PlacementRoot<Storage>,
        fault: (PlacementTable.Residence) -> String?
    ) -> [TenantResidence] {
        let known = table.residences.filter { tenant == nil || $0.tenant == tenant }
        var all = known.map { residence in
            let path =
                switch residence.home {
                case .shared: root.storage.rootDescription
                case .dedicated(let directory): root.storage(of: residence.tenant, in: directory).rootDescription
                }
            return TenantResidence(
                tenant: residence.tenant, placement: Placement(residence.home), path: path,
                firstSequence: residence.firstSequence,
                lastSequence: table.lastSequence(of: residence), fault: fault(residence))
        }
        if let tenant, all.isEmpty {
            all = [
                TenantResidence(
                    tenant: tenant, placement: .shared, path: root.storage.rootDescription, firstSequence: 1,
                    lastSequence: nil, fault: nil)
            ]
        }
        return all
    }
}
