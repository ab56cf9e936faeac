import SystemPackage
import WALFormat
import WALStorage

/// Brings a damaged log back to where nothing in it is amiss, without giving up a record that can be read and somebody
/// lacks, and without deleting anything damaged.
///
/// Damage does no harm to what stands beside it: a log that has some goes on, and hands out what can be read. But it is
/// found again each time, its files keep their place until every subscriber has the rest, and files of which nothing can
/// be told stay for good. A repair ends that: what can be read of damaged journal files and segments is written anew, as
/// segments, in which what cannot be read is stated as *given up*; the damaged files go to `quarantine/`. Readers are
/// still told of each loss once, where it stands; `walctl verify` lists it and has no finding any more.
///
/// It goes by the compactor's own way: segments have their names durably before a journal file leaves the log, and a
/// segment's place is taken in one step. So a crash at any moment loses nothing, and a repair can be begun again.
public struct LogRepair<Storage: JournalStorage>: Sendable {
    private let storage: Storage
    private let options: WriteAheadLogOptions
    /// Whose own journal this is; nil: the shared one.
    private var dedicated: DedicatedRoot?
    /// The log's root, where this is a tenant's own journal: nobody opens the log meanwhile.
    private var logRoot: Storage?

    /// `options`: as the log is opened; `segmentLimit` must leave room for what moves into segments.
    public init(storage: Storage, options: WriteAheadLogOptions = WriteAheadLogOptions()) {
        self.storage = storage
        self.options = options
    }

    /// Repairs of the journals that tenants have of their own, or why there is none: a journal that is not there, or that
    /// nothing tells the format of. Each is a repair by itself, of one journal, and comes after that of the shared one, which
    /// says who subscribes. Throws like `plan`.
    public func ownJournals() throws(WALError) -> [(
        tenant: TenantName, path: String, repair: Result<LogRepair, WALError>
    )] {
        guard dedicated == nil else { return [] }
        let format = try LogRoot(storage: storage).openForReading()
        let root = PlacementRoot(storage: storage, format: format)
        var journals: [(tenant: TenantName, path: String, repair: Result<LogRepair, WALError>)] = []
        for residence in try root.table().residences {
            guard case .dedicated(let directory) = residence.home else { continue }
            let place = root.storage(of: residence.tenant, in: directory)
            let own = DedicatedRoot(
                logIdentifier: format.logIdentifier, tenant: residence.tenant, mayCreate: false)
            if journals.contains(where: { $0.path == place.rootDescription }) { continue }
            do throws(WALError) { _ = try LogRoot(storage: place, dedicated: own).openForReading() } catch {
                journals.append((residence.tenant, place.rootDescription, .failure(error)))
                continue
            }
            var repair = LogRepair(storage: place, options: options)
            repair.dedicated = own
            repair.logRoot = storage
            journals.append((residence.tenant, place.rootDescription, .success(repair)))
        }
        return journals
    }

    /// What a repair would do to this journal. Reads the whole log, every frame opened; changes nothing, and works beside a living writer,
    /// which may be mending some of it meanwhile. Blocks the calling thread. Throws `.notALog`, `.unsupportedFormat`,
    /// `.storage`.
    public func plan(progress: (@Sendable (UInt64, UInt64) -> Void)? = nil) throws(WALError) -> RepairPlan {
        let reader = try WriteAheadLogReader(
            storage: storage, dedicated: dedicated, scope: .wholeJournal, opensBodies: true,
            keyProvider: options.keyProvider, progress: progress, readsOthers: false)
        var plan = RepairPlan()
        if let fault = try formatFault() {
            plan.steps.append(.init(action: .rewriteFormat, path: "FORMAT", reasons: [fault]))
        }
        let live = Set(reader.journalFiles.map(\.name))
        for finding in reader.report.findings { plan.add(finding, isInLog: live.contains(finding.file)) }
        for segment in reader.segments {
            if let report = try reader.report(on: segment, opensFrames: true) { plan.add(report) }
        }
        return plan
    }

    /// Repairs this journal: makes the plan, takes the log's lock, makes the plan again and carries it out, then looks once
    /// more. Moves undelivered records of all journal files up to the last damaged one; blocks the calling thread
    /// meanwhile. Does nothing where nothing is amiss. Where damage may have swallowed that a subscriber came, what
    /// others have may be what it lacks: then nothing leaves the journal (`RepairReport.mayLackSubscribers`), unless
    /// `forgetsSubscribers`.
    ///
    /// Throws like `plan`, `.storage` with `.locked` where another process writes the log, `.journalFull` where there is
    /// no room for segments or a fresh journal file, `.damaged` where what the device fails to read came to be more
    /// meanwhile, `.invalidOption`. Whatever was done until then is sound, and stays.
    public func run(
        forgetsSubscribers: Bool = false, progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> RepairReport {
        var report = RepairReport()
        try run(&report, forgetsSubscribers: forgetsSubscribers, progress: progress)
        return report
    }

    /// The same; what was done is in `report` also where this throws.
    public func run(
        _ report: inout RepairReport, forgetsSubscribers: Bool = false,
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) {
        let plan = try plan(progress: progress)
        report = RepairReport(plan: plan)
        if plan.isEmpty { return }
        if plan.lastFile > 0, options.segmentLimit == 0 {
            throw .invalidOption(
                "segmentLimit 0: there is nowhere to move to what can be read of damaged journal files")
        }
        let lock: Storage.Lock?
        do throws(StorageError) { lock = try logRoot?.lockForWriting() } catch { throw .storage(error) }
        defer { withExtendedLifetime(lock) {} }
        let before = try namesInQuarantine()
        do throws(WALError) { try carryOut(&report, forgetsSubscribers: forgetsSubscribers) } catch {
            do throws(WALError) { try noteSetAside(since: before, &report) } catch {}
            throw error
        }
        try noteSetAside(since: before, &report)
        report.remaining = try self.plan()
    }

    private func noteSetAside(since before: Set<String>, _ report: inout RepairReport) throws(WALError) {
        let known = report.setAside
        report.setAside += try namesInQuarantine().subtracting(before).filter { !known.contains($0) }.sorted()
    }

    private func carryOut(_ report: inout RepairReport, forgetsSubscribers: Bool) throws(WALError) {
        var log = try open(report: &report)
        report.mayLackSubscribers = log.core.mayLackSubscribers && !forgetsSubscribers
        var failure: WALError?
        do throws(WALError) { try move(&log, report) } catch { failure = error }
        report.recordsMoved += log.compactionStatistics.records
        report.recordsGivenUp += log.compactionStatistics.recordsLost
        // However it ends, the log is another's to open when this returns.
        do throws(WALError) { try log.closeBlocking() } catch { failure = failure ?? error }
        if let failure { throw failure }
    }

    /// Has what can be read of damaged journal files move, and the files leave. The log may be opened anew for that.
    private func move(_ log: inout WriteAheadLogEngine<Storage>, _ report: RepairReport) throws(WALError) {
        // Nothing leaves the journal before a checkpoint states anew who subscribes. The file that it goes to may be one
        // that the device fails to read.
        for _ in 0..<Self.mostOpenings where log.core.mayLackSubscribers {
            let core = log.core
            core.lock.lock()
            do throws(WALError) { try core.beginFreshFile() } catch {
                core.lock.unlock()
                throw error
            }
            core.lock.unlock()
            if report.mayLackSubscribers { return }
            try log.closeBlocking()
            var again = RepairReport(plan: RepairPlan())
            log = try open(report: &again)
        }
        let lastFile = max(report.plan.lastFile, log.core.found(log.recoveryReport).lastFile)
        if lastFile > 0 { try log.core.moveForRepair(through: lastFile) }
    }

    private func open(report: inout RepairReport) throws(WALError) -> WriteAheadLogEngine<Storage> {
        var options = options
        options.recoveryScope = .wholeJournal
        return try WriteAheadLogEngine.open(
            storage: storage, dedicated: dedicated, options: options, opensOthers: false, progress: nil
        ) {
            (core, found) throws(WALError) in
            // Others may have written the log since the plan was made without its lock.
            if !report.plan.isEmpty { report.plan = try plan() }
            // Who came while this journal was away is known to the shared one only.
            if let logRoot {
                let root = try WriteAheadLogReader(
                    storage: logRoot, dedicated: nil, scope: .sinceCheckpoint, opensBodies: false, keyProvider: nil,
                    progress: nil, readsOthers: false)
                var subscriptions = root.subscriptions
                subscriptions.mayLackSome = true
                try core.adopt(subscriptions)
            }
            try core.prepareRepair(found: found, &report)
        }
    }

    private static var mostOpenings: Int { 4 }

    /// Journal files that were set aside.
    private func namesInQuarantine() throws(WALError) -> Set<String> {
        do throws(StorageError) {
            guard try storage.exists("quarantine") else { return [] }
            return Set(
                try storage.entries(of: "quarantine").filter { $0 != SegmentName.root }.map { "quarantine/" + $0 })
        } catch { throw .storage(error) }
    }

    /// What is wrong with `FORMAT`, from which the log was told all the same.
    private func formatFault() throws(WALError) -> String? {
        do throws(StorageError) {
            guard try storage.exists("FORMAT") else { return "there is none; the journal files' headers say the same" }
            let copies = try storage.contents(of: "FORMAT", limit: RootFormat.fileLength)
                .withRawSpan { RootFormat.copies(in: $0) }
            let whole = copies.compactMap(\.self)
            if whole.count < copies.count { return "\(whole.count) of its two copies whole" }
            return whole.allSatisfy { $0 == whole[0] } ? nil : "its two copies differ; the first one is used"
        } catch {
            guard error.code == .ioFailure else { throw .storage(error) }
            return "the device fails to read it; the journal files' headers say the same"
        }
    }
}

extension LogRepair where Storage == DirectStorage {
    /// For the log in a directory.
    public init(at path: String, options: WriteAheadLogOptions = WriteAheadLogOptions()) {
        self.init(storage: DirectStorage(root: FilePath(path), direct: options.directIO), options: options)
    }
}
