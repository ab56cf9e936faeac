import CWALLinux
import Logging
import SimulatedKeys
import TelemetryWAL
import WALFormat
import WALStorage

/// One life of a log on a simulated machine: it is opened, used by some threads at a time, ends by closing, a crash or
/// a loss of power, is read, judged, and opened again, a few times.
public final class History {
    let options: HistoryOptions
    var plan: FaultPlan
    let kernel: SimulatedKernel
    let scheduler: Scheduler
    let disk: SimulatedDisk
    let judge: Judge
    let registry: CommitRegistry
    /// Draws what the history does; faults and switches have generators of their own.
    var random: SimulationRandom
    let logOptions: WriteAheadLogOptions
    let fileSizes: [UInt64]
    let rounds: Int
    let tenants: [TenantName]
    let producerCount: Int
    let subscriberNames: [TenantName]
    let taskCount: Int
    let hasOnlooker: Bool
    let hasEraser: Bool
    let hasMover: Bool
    /// The keys of tenants that are encrypted: from their first record on, or from some moment on.
    let keys = SimulatedKeys()
    let encrypted: Set<TenantName>
    let rotatesOneIn: Int?
    var keyRandom: SimulationRandom
    let losesKeysOneIn: Int?
    let forgetsOneIn: Int?
    var awayRandom: SimulationRandom
    /// Of whom nobody can say at the moment which keys they have, and when that ended.
    var tenantsWhoseKeysAreAway: Set<TenantName> = []
    var keysCameBack: [TenantName: UInt64] = [:]
    /// Draws when a subscriber delivers what it reads; nil: never.
    private var deliveries: SimulationRandom?
    /// Receivers have records that they never take.
    let hasPoison: Bool
    /// What has arrived at whose receiver.
    var farEnds: [TenantName: FarEnd] = [:]
    /// Draws when the log is repaired before it is opened; nil: never.
    var repairs: SimulationRandom?
    private var result: HistoryResult
    private var processes = 1
    /// What the last look at the whole log showed.
    private var lastLook: Look?
    /// How the present round ends.
    private(set) var ending = Ending.close
    /// The last round's process closed the log, and that did not fail.
    private var hasClosed = false
    /// The log was closed, and nobody has opened it since.
    private var isMarkedClosed = false
    static let root = "/log"

    enum Ending { case close, abandon, kill, powerCut }

    private init(_ options: HistoryOptions, pool: FiberPool) {
        self.options = options
        result = HistoryResult(seed: options.seed)
        var random = SimulationRandom(seed: options.seed)
        let setting = Setting(&random, seed: options.seed, without: options.without)
        plan = setting.plan
        var logOptions = setting.logOptions
        encrypted = setting.encrypted
        rotatesOneIn = setting.rotatesOneIn
        losesKeysOneIn = setting.losesKeysOneIn
        forgetsOneIn = setting.forgetsOneIn
        awayRandom = SimulationRandom(seed: options.seed &* 0x9E37_79B9_7F4A_7C15 &+ 9)
        keyRandom = SimulationRandom(seed: options.seed &* 0x9E37_79B9_7F4A_7C15 &+ 6)
        var deliveries = SimulationRandom(seed: options.seed &* 0x9E37_79B9_7F4A_7C15 &+ 10)
        hasPoison = deliveries.chance(oneIn: 3)
        self.deliveries = deliveries.chance(oneIn: 3) ? deliveries : nil
        if !encrypted.isEmpty || rotatesOneIn != nil { logOptions.keyProvider = keys }
        for tenant in encrypted.sorted() { keys.rotate(tenant) }
        self.logOptions = logOptions
        fileSizes = setting.fileSizes
        rounds = min(setting.rounds, options.mostRounds)
        tenants = setting.tenants
        producerCount = min(setting.producerCount, options.mostActors)
        subscriberNames = Array(setting.subscribers.prefix(options.mostActors))
        taskCount = min(setting.taskCount, options.mostActors)
        hasOnlooker = setting.hasOnlooker
        hasEraser = setting.hasEraser
        hasMover = setting.hasMover
        if setting.hasRepairer { repairs = SimulationRandom(seed: options.seed &* 0x9E37_79B9_7F4A_7C15 &+ 4) }
        disk = SimulatedDisk(capacity: setting.capacity)
        scheduler = Scheduler(
            random: random.split(), switchesOneIn: setting.switchesOneIn, stepLimit: 3_000_000, pool: pool,
            process: SimulatedProcess(number: 1))
        kernel = SimulatedKernel(
            disk: disk, scheduler: scheduler, random: random.split(), plan: setting.plan,
            alignment: setting.alignment, traces: options.traces)
        registry = CommitRegistry(blockSize: max(4096, setting.alignment), keys: keys)
        registry.encrypted = encrypted
        judge = Judge(kernel: kernel, registry: registry)
        judge.policy = { [logOptions] in logOptions.tenantRetention[$0] ?? logOptions.retention }
        self.random = random.split()
        kernel.onWrite = { [registry] write, path in registry.note(write, path: path) }
        disk.onDamage = { [registry] inode, range in registry.noteDamage(inode, range) }
        kernel.onWritten = { [registry] write in registry.noteWritten(write) }
        kernel.note("\(setting)")
    }

    /// Lives through a history on the calling thread. `nil` in a build without the trait `Simulation`.
    public static func run(_ options: HistoryOptions, pool: HistoryThread) -> HistoryResult? {
        let history = History(options, pool: pool.fibers)
        guard history.kernel.enter() else { return nil }
        defer { SimulatedKernel.leave() }
        let ended = history.scheduler.run { [unowned history] in history.live() }
        return history.conclude(ended: ended)
    }

    private func conclude(ended: Bool) -> HistoryResult {
        result.failure = judge.failure ?? kernel.violation ?? scheduler.standstill
        result.isStuck = !ended
        result.trace = kernel.trace
        for kind in FaultKind.allCases { result.faults[kind] = kernel.plan.happened(kind) }
        result.recordsAppended = judge.attempts.count
        result.recordsChecked = judge.recordsChecked
        result.recordsLost = judge.attempts.reduce(0) { $0 + ($1.state == .lost ? 1 : 0) }
        result.steps = scheduler.steps
        result.fingerprint = disk.fingerprint &+ UInt64(scheduler.steps) &* 0x9E37_79B9_7F4A_7C15 &+ scheduler.now
        if !ended { _ = Unmanaged.passRetained(self) }
        return result
    }

    var losesKeys: Bool { losesKeysOneIn != nil }

    /// Whether a subscriber delivers this time what it reads.
    func delivers(_ name: TenantName) -> Bool { deliveries?.chance(oneIn: 2) ?? false }

    var hasFailed: Bool { judge.failure != nil || kernel.violation != nil }

    // MARK: - Rounds

    private func live() {
        for round in 0..<rounds where !hasFailed { oneRound(number: round, isLast: round == rounds - 1) }
        if !hasFailed { epilogue() }
    }

    private func oneRound(number: Int, isLast: Bool) {
        let last = ending
        ending = random.pick([.close, .abandon, .kill, .kill, .powerCut, .powerCut, .powerCut])
        if logOptions.durability == .processCrash, ending == .powerCut { ending = .kill }
        if options.without.contains(.powerCut), ending == .powerCut { ending = .close }
        if options.without.contains(.kill), ending == .kill { ending = .close }
        let isShort = random.chance(oneIn: 5)
        let endOperation = kernel.operations + random.pick(isShort ? 1...25 : 10...220)
        kernel.note("=== round \(number): \(ending)")
        let before = view(isClean: true)
        // What is seen where closing failed may go with the next loss of power.
        if last == .powerCut || last == .close && hasClosed { judge.keepSeen() }
        let process = newProcess()
        let thread = scheduler.spawn("log", in: process) { [unowned self] in
            switch ending {
            case .kill: kernel.end = (endOperation, .kill)
            case .powerCut: kernel.end = (endOperation, .powerCut)
            case .close, .abandon: kernel.end = nil
            }
            use(before)
        }
        scheduler.join(thread)
        scheduler.joinAll(of: process)
        for companion in kernel.companions { scheduler.joinAll(of: companion) }
        kernel.companions = []
        kernel.end = nil
        restart(process)
    }

    private func newProcess() -> SimulatedProcess {
        processes += 1
        return SimulatedProcess(number: processes)
    }

    /// A process beside the log's that ends with it.
    func newCompanion() -> SimulatedProcess {
        let process = newProcess()
        process.isDead = kernel.process.isDead
        kernel.companions.append(process)
        return process
    }

    /// In the log's process: opens the log, has it used, closes it.
    private func use(_ before: Judge.Contents?) {
        hasClosed = false
        if repairs?.chance(oneIn: 2) ?? false, before != nil {
            isMarkedClosed = false
            repair()
            if hasFailed || kernel.process.isDead { return }
        }
        guard let log = open(before) else { return }
        let commitsBefore = log.durableCommit
        let actors = Actors(self, log)
        let numbers = actors.start()
        for number in numbers { scheduler.join(number) }
        if hasFailed || kernel.process.isDead { return }
        if ending == .close {
            do throws(WALError) {
                let requested = judge.subscribers
                try log.closeBlocking()
                kernel.note("closed")
                hasClosed = true
                // After a failed write, or before the shared journal's first one, there may be no file left for the mark.
                isMarkedClosed = log.durableCommit > commitsBefore && log.statistics.failedWrites == 0
                judge.flushed(requested)
            } catch {
                // What was refused is told; what was acknowledged stays.
                kernel.note("close: \(error)")
            }
        } else if ending == .kill || ending == .powerCut, !kernel.process.isDead {
            // All calls were through before the end came.
            kernel.endProcess(ending == .kill ? .kill : .powerCut)
        }
    }

    private func open(_ before: Judge.Contents?) -> WriteAheadLog? {
        let faults = kernel.plan
        isMarkedClosed = false
        let hadJournal = disk.entries.keys.contains {
            $0.hasPrefix(Self.root + "/journal/") && $0.hasSuffix(".journal")
        }
        var logOptions = logOptions
        if fileSizes.count > 1 {
            logOptions.journalFileSize = random.pick(fileSizes)
            let least = logOptions.journalFileSize * UInt64(logOptions.spareFiles + 2)
            logOptions.journalLimit = max(logOptions.journalLimit, least)
        }
        do throws(WALError) {
            let log = try WriteAheadLog.openBlocking(at: Self.root, options: logOptions)
            result.opens += 1
            kernel.note("opened, \(log.writePath.rawValue)")
            if kernel.process.isDead { return log }
            judge.noteMediaFaults()
            if let before { judge.settle(before) }
            judge.checkPlacements { log.placement(of: $0) }
            let unavailable = anyFaultHappened ? log.residences().filter { $0.fault != nil }.map(\.tenant) : []
            judge.checkCursors(log.subscribers, unavailable: Set(unavailable)) {
                [tenants = log.tenants] subscriber, tenant in
                tenants.first { $0.name == tenant }?.acknowledgedThrough[subscriber] ?? 0
            }
            let losses = log.recoveryReport.findings.filter(\.what.isLoss).map(\.file).joined(separator: "; ")
            if log.recoveryReport.hasLoss, !judge.mediaFaults, !readErrors(since: faults), !judge.isBegunInParts(losses)
            {
                judge.fail("opening tells a loss that there is none: \(log.recoveryReport.findings.map(\.detail))")
            }
            return log
        } catch {
            kernel.note("open: \(error)")
            if kernel.process.isDead { return nil }
            let isExcused = FaultKind.allCases.contains {
                $0 != .slowWrite && ($0 != .noSpace || !hadJournal)
                    && kernel.plan.happened($0) > faults.happened($0)
            }
            if !isExcused, !hasUnreadableHeaders(error) { judge.fail("the log does not open: \(error)") }
            return nil
        }
    }

    /// Whether the log is refused because the disk fails to read both headers of a journal file, and rightly so: nothing
    /// that is owed stands in any other.
    private func hasUnreadableHeaders(_ error: WALError) -> Bool {
        guard case .damaged(_, 0, let reason) = error, reason.contains("fails to read its header") else { return false }
        let blockSize = judge.registry.blockSize
        // Each copy, or one of them and the other is damaged.
        func isUnreadable(_ inode: SimulatedDisk.Inode) -> Bool {
            let copies = [0..<blockSize, blockSize..<2 * blockSize]
            return copies.contains { inode.isUnreadable($0) }
                && copies.allSatisfy { copy in
                    inode.isUnreadable(copy) || inode.damage.contains { $0.overlaps(copy) }
                }
        }
        let isAnyElsewhere = judge.owedPlaces.contains { place in
            place.isIntact && place.inode.path.hasPrefix(Self.root + "/journal/") && !isUnreadable(place.inode)
        }
        return !isAnyElsewhere
            && disk.entries.contains { path, inode in
                path.hasPrefix(Self.root + "/journal/") && path.hasSuffix(".journal") && isUnreadable(inode)
            }
    }

    private var mediaFaultsHappened: Bool {
        FaultKind.allCases.contains { $0.isMediaFault && kernel.plan.happened($0) > 0 }
    }

    /// Whether the machine has failed in any way that a program is told of.
    var anyFaultHappened: Bool {
        FaultKind.allCases.contains { $0 != .slowWrite && kernel.plan.happened($0) > 0 }
    }

    private func readErrors(since faults: FaultPlan) -> Bool {
        kernel.plan.happened(.readError) > faults.happened(.readError)
    }

    /// What happens to the disk while nobody uses it.
    private func restart(_ process: SimulatedProcess) {
        if !process.isDead {
            process.isDead = true
            // A log that was let go is closed by the end of its process; the disk goes on.
            if ending == .abandon { disk.kill(random: &kernel.random) }
        }
        for inode in disk.entries.values { inode.lockHolder = nil }
        if awayRandom.chance(oneIn: 2) { for tenant in tenants { setKeys(of: tenant, areAway: false) } }
        var media = MediaFaults(kernel: kernel, registry: registry)
        media.happen(&random)
        if options.isCanary, let place = judge.owedPlace {
            kernel.disk.spoilInSecret(place.inode, at: place.range.lowerBound)
        }
    }

    // MARK: - Looking at it

    /// Reads the whole log as another process would, and has it judged. nil where there is no log yet.
    @discardableResult
    private func view(isClean: Bool) -> Judge.Contents? {
        guard disk.entries[Self.root + "/FORMAT"] != nil else { return nil }
        let process = newProcess()
        var contents: Judge.Contents?
        kernel.plan.isPaused = true
        let thread = scheduler.spawn("view", in: process) { [unowned self] in
            guard let first = read(scope: .wholeJournal) else { return }
            if isMarkedClosed, !mediaFaultsHappened, let report = first.report, !report.wasClosed {
                judge.fail("the log was closed and does not say so")
            }
            judge.checkErasures(first.tenants, on: disk)
            let harmless: [FaultKind] = [.kill, .powerCut, .slowWrite, .ringRefused]
            if FaultKind.allCases.allSatisfy({ harmless.contains($0) || self.kernel.plan.happened($0) == 0 }) {
                judge.checkEncryptionMark(of: Self.root, on: disk, registry)
            }
            judge.checkDrops(first.tenants, first.records, at: scheduler.wallClock)
            judge.check(
                first.contents, cursors: first.cursors, tellsLoss: first.tellsLoss, told: first.told)
            // Damage in what everybody has is no loss, yet numbers may have been skipped for it.
            let excused: [RecoveryCase] = [.damagedDelivered, .fileMissingDelivered]
            if excused.contains(where: { first.report?.cases[$0] ?? 0 > 0 }) { judge.mayHaveSkipped = true }
            contents = first.contents
            lastLook = first
            if hasFailed { return }
            // The same again, and what opening reads by default.
            if let second = read(scope: random.chance(oneIn: 2) ? .wholeJournal : .sinceCheckpoint) {
                compare(first, second)
            }
        }
        scheduler.join(thread)
        scheduler.joinAll(of: process)
        kernel.plan.isPaused = false
        return contents
    }

    struct Look {
        var contents: Judge.Contents = [:]
        var tellsLoss = false
        var told = ""
        /// Everything read, in order: tenant, sequence number, record's number, length.
        var records: [(TenantName, UInt64, Int, Int)] = []
        var report: RecoveryReport?
        /// Of all journals.
        var findings: [RecoveryReport.Finding] = []
        var tenants: [TenantStatus] = []
        /// Of each subscriber, by tenant.
        var cursors: [[TenantName: UInt64]] = []
    }

    /// Reads the whole log. `isVoid`: the machine has ended meanwhile, so that errors mean nothing.
    func read(scope: RecoveryScope, isVoid: () -> Bool = { false }) -> Look? {
        var look = Look()
        do throws(WALError) {
            let reader = try WriteAheadLogReader(at: Self.root, scope: scope, keyProvider: keys.reliable)
            look.tellsLoss = reader.hasLoss
            look.findings = reader.journals.flatMap { (try? $0.view.get())?.report.findings ?? [] }
            look.report = reader.report
            if reader.report.cases[.headerLost] ?? 0 > 0 { judge.headersWereLost = true }
            look.told = reader.report.findings.map { "\($0.what.rawValue) \($0.file) \($0.byteRange)" }
                .joined(separator: "; ")
            look.tenants = reader.tenants
            look.cursors = reader.subscribers.map { [tenants = reader.tenants] name in
                Dictionary(uniqueKeysWithValues: tenants.map { ($0.name, $0.acknowledgedThrough[name] ?? 0) })
            }
            kernel.note("view: through commit \(reader.lastCommit), \(look.told)")
            var records = reader.records()
            var failures = 0
            // Where the disk took what says that a tenant is erased, each of its frames is told as damaged.
            while failures < (hasEraser ? 1024 : 64) {
                do throws(WALError) {
                    guard let batch = try records.next() else { return look }
                    for record in batch.records {
                        guard
                            let number = judge.recognize(
                                record.payload, tenant: batch.tenant, sequence: record.sequence)
                        else { return look }
                        look.contents[batch.tenant, default: []].append((record.sequence, number))
                        look.records.append((batch.tenant, record.sequence, number, record.payload.count))
                    }
                } catch {
                    if isVoid() { return nil }
                    if case .keyForgotten(_, _, let identifier) = error, registry.forgottenKeys[identifier] != nil {
                        continue
                    }
                    failures += 1
                    look.told += "; \(error)"
                    if case .damaged = error { look.tellsLoss = true } else { judge.fail("reading: \(error)") }
                }
            }
            judge.fail("reading does not get on: \(look.told)")
        } catch { if !isVoid() { judge.fail("the log cannot be read: \(error)") } }
        return nil
    }

    private func compare(_ first: Look, _ second: Look) {
        for tenant in Set(first.contents.keys).union(second.contents.keys).sorted() {
            let one = (first.contents[tenant] ?? []).map(\.number)
            let other = (second.contents[tenant] ?? []).map(\.number)
            if one != other { judge.fail("two looks at the same files differ on \(tenant): \(one) and \(other)") }
        }
    }

    /// Without faults from now on, the log opens, takes an append, and gives back all that is owed.
    private func epilogue() {
        kernel.plan.isPaused = true
        kernel.note("=== epilogue")
        for tenant in tenants { setKeys(of: tenant, areAway: false) }
        ending = .close
        disk.capacity = .max
        let before = view(isClean: true)
        if hasFailed { return }
        if let folder = options.exportFolder, let look = lastLook {
            do { try Export.write(disk, look, keys, to: "\(folder)/\(options.seed)") } catch {
                judge.fail("the export: \(error)")
            }
        }
        let process = newProcess()
        let thread = scheduler.spawn("log", in: process) { [unowned self] in
            kernel.plan.isPaused = true
            guard let log = open(before) else { return }
            Actors(self, log).appendOne()
            do throws(WALError) { try log.closeBlocking() } catch {
                // Acknowledgements may find no room where the journal is at its limit.
                if case .journalFull = error { return }
                judge.fail("the last close: \(error)")
            }
        }
        scheduler.join(thread)
        scheduler.joinAll(of: process)
        restartQuietly(process)
        if !hasFailed { view(isClean: true) }
        if !hasFailed { judge.checkEncryption(of: encrypted, on: disk, registry) }
    }

    private func restartQuietly(_ process: SimulatedProcess) {
        process.isDead = true
        for inode in disk.entries.values { inode.lockHolder = nil }
    }
}

/// A real thread's means to run histories, used again from one to the next.
public final class HistoryThread {
    let fibers = FiberPool()
    public init() {}
}
