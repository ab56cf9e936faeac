import TelemetryWAL
import WALFormat

/// Knows what the log was given and what it promised, and holds it to that.
///
/// A record is *owed* from the moment an append returned for it, or a barrier behind it, or a subscriber read it: from
/// then on every recovery must bring it back, under the same number, until every subscriber has acknowledged it. One
/// whose append did not return may come back or not; if a recovery did not bring it back, it must never appear again.
final class Judge {
    /// One record that was handed to the log.
    struct Attempt {
        enum State {
            /// Its append has not returned, or failed after it may have been written.
            case undecided
            /// Was refused before anything was staged, or was not brought back by a recovery.
            case gone
            case owed
            /// The disk lost it, and the log said so.
            case lost
            /// It went with its key.
            case forgotten
        }

        var tenant: TenantName
        var producer: Int
        /// The first record's number of the batch that it was appended in.
        var batch: Int
        var batchCount: Int
        var state = State.undecided
        /// Bytes of the record, and when it was handed over.
        var length = 0
        var time: UInt64 = 0
        /// Its sequence number, where known.
        var sequence: UInt64?
        /// The log knows that the record was there: its number must not be given again.
        var isLossTold = false
    }

    /// What one subscriber did.
    struct Subscriber {
        /// Whether it was registered, or is about to be.
        var isRegistered = false
        /// Whether that must survive a crash.
        var isDurable = false
        /// Whether it may be gone all the same: somebody has begun to take it out.
        var mayBeGone = false
        /// By tenant, the highest number that it acknowledged, and that of which it knows to be on disk.
        var acknowledged: [TenantName: UInt64] = [:]
        var durable: [TenantName: UInt64] = [:]
        /// The same, once the call that says so has returned: what another thread may rely on.
        var isKnownToLog = false
        var given: [TenantName: UInt64] = [:]
        /// By tenant, the highest number that it ever acknowledged, whatever was forgotten since.
        var ever: [TenantName: UInt64] = [:]

        mutating func hasGiven(_ tenant: TenantName, through sequence: UInt64) {
            given[tenant] = max(given[tenant] ?? 0, sequence)
        }

        mutating func acknowledges(_ tenant: TenantName, through sequence: UInt64) {
            acknowledged[tenant] = max(acknowledged[tenant] ?? 0, sequence)
            ever[tenant] = max(ever[tenant] ?? 0, sequence)
        }
    }

    /// What a reader found: by tenant, sequence numbers and records, in order of reading.
    typealias Contents = [TenantName: [(sequence: UInt64, number: Int)]]

    private(set) var failure: String?
    private(set) var attempts: [Attempt] = []
    var subscribers: [TenantName: Subscriber] = [:]
    let kernel: SimulatedKernel
    let registry: CommitRegistry
    /// The disk has broken its word at least once: losses may be told, numbers skipped, cursors forgotten.
    private(set) var mediaFaults = false
    private(set) var recordsChecked = 0

    init(kernel: SimulatedKernel, registry: CommitRegistry) {
        self.kernel = kernel
        self.registry = registry
    }

    func fail(_ what: String) {
        kernel.note("FAILURE \(what)")
        if failure == nil { failure = what }
    }

    /// The log has told of a loss at some time: from then on it may skip numbers.
    var mayHaveSkipped = false

    func noteMediaFaults() {
        if FaultKind.allCases.contains(where: { $0.isMediaFault && kernel.plan.happened($0) > 0 }) {
            mediaFaults = true
        }
    }

    // MARK: - What is appended

    /// Records are about to be appended in one batch. Returns the first's number; the others follow.
    func attempt(_ tenant: TenantName, producer: Int, count: Int) -> Int {
        let first = attempts.count
        let now = kernel.scheduler.wallClock
        for _ in 0..<count {
            var attempt = Attempt(tenant: tenant, producer: producer, batch: first, batchCount: count)
            attempt.time = now
            attempts.append(attempt)
        }
        return first
    }

    /// The policy of a tenant.
    var policy: (TenantName) -> RetentionPolicy = { _ in RetentionPolicy() }
    /// By tenant, how many records had been appended when its last erasure returned, .max while it is under way; and
    /// through which number the log has said that they were erased.
    var erasureMarks: [TenantName: Int] = [:]
    /// Where tenants were moved to; several places where a move may or may not have come about.
    var placements: [TenantName: Set<Placement>] = [:]
    var erasedThrough: [TenantName: UInt64] = [:]
    /// The same, of those that returned.
    var completeThrough: [TenantName: UInt64] = [:]
    /// What of that and of `dropped` must stay: a log was opened on it. (What a killed process had not made durable may
    /// be seen, and go with the power.)
    private(set) var kept: (erased: [TenantName: UInt64], dropped: [TenantName: UInt64]) = ([:], [:])
    /// The same, as the last view has shown it.
    var seen: (erased: [TenantName: UInt64], dropped: [TenantName: UInt64]) = ([:], [:])
    /// A look has found a file whose headers are lost.
    var headersWereLost = false
    /// Tenants of whose keys some were destroyed.
    var tenantsWithoutKeys: Set<TenantName> = []
    /// By tenant, through which number the log has said that it dropped records.
    var dropped: [TenantName: UInt64] = [:]

    func setLength(_ length: Int, of number: Int) { attempts[number].length = length }

    func owes(_ numbers: Range<Int>, from sequence: UInt64? = nil) {
        confirm()
        for (offset, number) in numbers.enumerated() {
            if attempts[number].state == .gone {
                fail("record \(number) was acknowledged although it had been given up")
            }
            if attempts[number].state == .undecided { attempts[number].state = .owed }
            if let sequence { setSequence(sequence + UInt64(offset), of: number) }
        }
    }

    /// The append was refused before it changed anything.
    func refused(_ numbers: Range<Int>) {
        for number in numbers where attempts[number].state == .undecided { attempts[number].state = .gone }
    }

    private func setSequence(_ sequence: UInt64, of number: Int) {
        if let known = attempts[number].sequence, known != sequence {
            fail("record \(number) of \(attempts[number].tenant) has sequence number \(known) and \(sequence)")
        }
        attempts[number].sequence = sequence
        let tenant = attempts[number].tenant
        if let other = numbers[tenant, default: [:]].updateValue(number, forKey: sequence), other != number {
            // (One that was not seen at the last look, and whose loss was not told, the log need not know of.)
            let isKnown =
                attempts[other].state == .owed && (lastSeen.contains(other) || other >= attemptsAtLastLook)
                || attempts[other].state == .forgotten && !mediaFaults
            // An earlier state of a file that stands for it knows fewer.
            let isMistaken = mediaFaults && kernel.plan.happened(.staleFile) > 0
            if !isMistaken, isKnown || attempts[other].isLossTold {
                fail("\(tenant)/\(sequence) is given to record \(number) and was record \(other)'s")
            }
        }
    }

    /// What the last look at the whole log found, and how many records had been appended by then.
    private var lastSeen: Set<Int> = []
    private var attemptsAtLastLook = 0
    /// By tenant and sequence number, the record that had it last.
    private var numbers: [TenantName: [UInt64: Int]] = [:]

    /// Where a record that is owed stands on the disk.
    var owedPlace: CommitRegistry.Place? {
        for number in attempts.indices where attempts[number].state == .owed && !mayBeReclaimed(attempts[number]) {
            if let place = registry.place(of: number), place.isIntact { return place }
        }
        return nil
    }

    // MARK: - What is read

    /// A record that somebody reads: one that was appended, for that tenant.
    func recognize(_ payload: some Collection<UInt8>, tenant: TenantName, sequence: UInt64) -> Int? {
        guard let number = PayloadCode.number(of: payload), number < attempts.count else {
            fail("\(tenant)/\(sequence) was never appended")
            return nil
        }
        recordsChecked += 1
        if attempts[number].tenant != tenant {
            fail("\(tenant)/\(sequence) is a record of \(attempts[number].tenant)")
        }
        // Where a file could not be read and an earlier state of it stands beside it, what was given up can come back; and
        // where a segment is set aside of which the disk spoiled a part, while the journal still has the records; and a commit
        // whose write failed, where the headers of the next file are lost, which say that it is none.
        let mayComeBack = kernel.plan.happened(.staleFile) > 0 || registry.wasSpoiled(number) || headersWereLost
        // A segment whose records were dropped may come back with a loss of power, before it is removed for good.
        let wasDropped = sequence <= dropped[tenant] ?? 0
        if attempts[number].state == .gone, !wasDropped, !mediaFaults || !mayComeBack {
            fail("\(tenant)/\(sequence), record \(number), had been given up and is back")
        }
        if let known = attempts[number].sequence, known != sequence {
            fail("record \(number) of \(tenant) has sequence number \(known) and is read as \(sequence)")
        }
        return number
    }

    /// A subscriber of the living log read a record: it is durable.
    func delivered(_ number: Int, sequence: UInt64) {
        if attempts[number].state == .undecided { attempts[number].state = .owed }
        setSequence(sequence, of: number)
    }

    /// By tenant, the highest number of a record that is owed, and whose key is there.
    var promisedThrough: [TenantName: UInt64] {
        var promised: [TenantName: UInt64] = [:]
        for (number, attempt) in attempts.enumerated() where attempt.state == .owed && !registry.isForgotten(number) {
            guard let sequence = attempt.sequence else { continue }
            promised[attempt.tenant] = max(promised[attempt.tenant] ?? 0, sequence)
        }
        return promised
    }

    // MARK: - Recovery

    /// By tenant, through which number the log may have reclaimed records at some time: every subscriber had them, on
    /// disk. It never goes back, whoever comes or leaves later.
    private var reclaimable: [TenantName: UInt64] = [:]

    /// Notes that the log may reclaim what all of these subscribers have.
    private func mayReclaim(_ cursors: [[TenantName: UInt64]]) {
        guard let first = cursors.first else { return }
        for (tenant, through) in first {
            let all = cursors.dropFirst().reduce(through) { min($0, $1[tenant] ?? 0) }
            reclaimable[tenant] = max(reclaimable[tenant] ?? 0, all)
        }
    }

    /// The log may give up all through a number.
    func mayReclaim(_ tenant: TenantName, through sequence: UInt64) {
        reclaimable[tenant] = max(reclaimable[tenant] ?? 0, sequence)
    }

    var numbersReclaimed: [TenantName: UInt64] { reclaimable }

    func reclaimedThrough(_ tenant: TenantName) -> UInt64 { reclaimable[tenant] ?? 0 }

    private func mayBeReclaimed(_ attempt: Attempt) -> Bool {
        let through = reclaimable[attempt.tenant] ?? 0
        // Where nobody knows a record's number, it may be one of those.
        return attempt.sequence.map { $0 <= through } ?? (through > 0)
    }

    /// A subscriber is about to come: what all others have by now it may not get.
    func registers(_ name: TenantName) {
        if subscribers[name]?.isRegistered != true {
            mayReclaim(subscribers.values.filter { $0.isRegistered && !$0.mayBeGone }.map(\.acknowledged))
        }
        subscribers[name, default: .init()].isRegistered = true
    }

    /// A subscriber is about to be taken out: what the others have may be reclaimed from then on, and what all had,
    /// before.
    func unregisters(_ name: TenantName) {
        let known = subscribers.values.filter { $0.isRegistered && !$0.mayBeGone }
        mayReclaim(known.map(\.acknowledged))
        subscribers[name]?.mayBeGone = true
        let staying = subscribers.values.filter { $0.isRegistered && !$0.mayBeGone }
        mayReclaim(staying.map(\.acknowledged))
        // Several that leave at one moment may leave in any order: where nobody stays, each of them may be the last.
        guard staying.isEmpty else { return }
        for leaving in subscribers.values where leaving.isRegistered { mayReclaim([leaving.acknowledged]) }
    }

    /// Holds against the promises what a view of the whole log shows that nobody writes. `tellsLoss`: the view said
    /// that acknowledged records are lost or damaged; `cursors`: where it has the subscribers.
    func check(_ contents: Contents, cursors: [[TenantName: UInt64]], tellsLoss: Bool, told: String) {
        noteMediaFaults()
        mayReclaim(cursors)
        // Damage may have taken cursors back that the log had reclaimed by.
        if mediaFaults {
            mayReclaim(subscribers.values.filter { $0.isRegistered && !$0.mayBeGone }.map(\.acknowledged))
        }
        var found: [Int: UInt64] = [:]
        for (tenant, records) in contents.sorted(by: { $0.key < $1.key }) {
            checkOrder(records, tenant)
            if let first = records.first, first.sequence <= completeThrough[tenant] ?? 0, !mediaFaults {
                fail("\(tenant)/\(first.sequence) is read and was erased")
            }
            for record in records {
                if found.updateValue(record.sequence, forKey: record.number) != nil {
                    fail("record \(record.number) of \(tenant) is there twice, the second time as \(record.sequence)")
                }
            }
        }
        lastSeen = Set(found.keys)
        attemptsAtLastLook = attempts.count
        var missing: [Int] = []
        for number in attempts.indices where found[number] == nil && attempts[number].state == .owed {
            if registry.isForgotten(number) {
                attempts[number].state = .forgotten
            } else if !mayBeReclaimed(attempts[number]) {
                missing.append(number)
            }
        }
        checkBatches(found)
        if tellsLoss { mayHaveSkipped = true }
        if tellsLoss, !mediaFaults, !isBegunInParts(told) { fail("loss was told and there is none: \(told)") }
        checkLosses(missing, tellsLoss: tellsLoss || repairHasTold)
    }

    private func checkOrder(_ records: [(sequence: UInt64, number: Int)], _ tenant: TenantName) {
        var last: UInt64 = 0
        var lastOfProducer: [Int: Int] = [:]
        for (sequence, number) in records {
            if sequence <= last { fail("\(tenant)/\(sequence) is read behind \(last)") }
            // Numbers are given in order, so that a gap is a loss; damage makes the log skip some, and the first write
            // of a file's new life may be torn over records that everybody has.
            if last > 0, !mediaFaults,
                isGap(from: last, to: sequence, of: tenant, reclaimed: reclaimable[tenant] ?? 0)
            {
                fail("\(tenant)'s records jump from \(last) to \(sequence)")
            }
            last = sequence
            let producer = attempts[number].producer
            if let before = lastOfProducer[producer], before > number {
                fail("\(tenant): record \(number) comes behind record \(before) of the same producer")
            }
            lastOfProducer[producer] = number
        }
    }

    /// Whether who reads `sequence` behind `last` has missed something: not all between them were through what could be
    /// reclaimed, or went with their keys. Both may have taken a part.
    func isGap(from last: UInt64, to sequence: UInt64, of tenant: TenantName, reclaimed: UInt64) -> Bool {
        let missed = max(last, reclaimed)
        return missed + 1 < sequence && !wereForgotten(missed + 1..<sequence, of: tenant)
    }

    /// Whether records with these numbers, as far as they are known, went with their keys.
    private func wereForgotten(_ range: Range<UInt64>, of tenant: TenantName) -> Bool {
        tenantsWithoutKeys.contains(tenant)
            && range.allSatisfy { numbers[tenant]?[$0].map { registry.isForgotten($0) } ?? true }
    }

    private func checkBatches(_ found: [Int: UInt64]) {
        for (number, sequence) in found where attempts[number].batchCount > 1 && attempts[number].batch == number {
            for offset in 1..<attempts[number].batchCount where found[number + offset] != sequence + UInt64(offset) {
                fail("a batch of \(attempts[number].tenant) is there in part: \(number), not \(number + offset)")
            }
        }
        for (number, sequence) in found where found[attempts[number].batch] == nil {
            // Its first records may have been dropped, or acknowledged without the rest.
            let first = sequence - min(sequence, UInt64(number - attempts[number].batch))
            let tenant = attempts[number].tenant
            if first <= max(dropped[tenant] ?? 0, reclaimable[tenant] ?? 0) { continue }
            fail("a batch of \(tenant) is there in part: \(number), not its first")
        }
    }

    /// Each missing record must have been on sectors that the disk spoiled, and the loss must have been told as soon as
    /// anything vouched for it.
    private func checkLosses(_ missing: [Int], tellsLoss: Bool) {
        // What vouched for a lost record may be lost later: then nobody knows of it any more.
        for number in attempts.indices where attempts[number].isLossTold {
            let commit = registry.places[number]?.last?.commitNumber ?? .max
            attempts[number].isLossTold = commit <= registry.vouchedThrough
        }
        var vouched: UInt64?
        for number in missing {
            let name = "record \(number) of \(attempts[number].tenant) (\(attempts[number].sequence ?? 0))"
            // Where a write failed and was repeated in the next file, the last is the one that was acknowledged.
            let place = registry.place(of: number)
            let through = vouched ?? registry.vouchedThrough
            vouched = through
            if let place, place.isIntact {
                // Nothing vouches for it, and one before it is spoiled: it looks like one that was under way beside a
                // torn one.
                if registry.hasSpoiledCommit(in: through + 1..<max(through + 1, place.commitNumber)) {
                    attempts[number].state = .lost
                    continue
                }
                if tellsLoss, registry.looksUnvouched(place) {
                    attempts[number].state = .lost
                    continue
                }
                // A stale copy whose headers are whole, or that reaches further, stands for a file of which the disk
                // spoiled something; or another file's commits lie in it, and it is left alone. What it lacks is told.
                let isMistaken = [FaultKind.staleFile, .misdirectedWrite].contains { kernel.plan.happened($0) > 0 }
                // Nor is such a copy read while it is left alone, although an erasure may have written commits of it.
                let isInCopy = kernel.staleCopies.contains {
                    kernel.disk.entries[History.root + "/journal/" + $0] === place.inode
                }
                if tellsLoss, isMistaken, place.isInDamagedFile || isInCopy {
                    attempts[number].state = .lost
                    continue
                }
                // Without its index a segment is read up to the first damage.
                if tellsLoss, place.header == nil, place.isInDamagedFile {
                    attempts[number].state = .lost
                    continue
                }
                fail("\(name), acknowledged, is whole in file \(place.inode.number) at \(place.range) and not read")
                continue
            }
            guard let place, place.isDamaged else {
                if !registry.wasSpoiled(number) {
                    fail("\(name), acknowledged, is lost")
                } else if !tellsLoss {
                    fail("\(name) was lost on its way into a segment, and nobody says so")
                }
                attempts[number].state = .lost
                continue
            }
            if place.commitNumber <= through, !tellsLoss {
                fail(
                    "\(name) is lost in commit \(place.commitNumber), vouched for by \(through), and nobody says so"
                )
            }
            kernel.note("record \(number) was lost by the disk")
            attempts[number].state = .lost
            attempts[number].isLossTold = place.commitNumber <= through
        }
    }

    /// A repair has told of losses of which it can't be told whose they were, and from then on nobody else does.
    var repairHasTold = false

    /// Where owed records stand.
    var owedPlaces: [CommitRegistry.Place] {
        attempts.indices.lazy.filter { self.attempts[$0].state == .owed }.compactMap { self.registry.place(of: $0) }
    }

    /// What the last view has shown is durable.
    func keepSeen() { kept = seen }

    /// How many records had been appended when the log was opened last; by tenant, when it was before an erasure that is
    /// complete: what was appended by then, and has no number, is not to be found any more.
    private(set) var attemptsAtOpening = 0
    var goneBefore: [TenantName: Int] = [:]

    /// The log was opened on what `check` saw: what came back is owed from now on, what did not is gone.
    func settle(_ contents: Contents) {
        keepSeen()
        attemptsAtOpening = attempts.count
        missing = []
        var found: [Int: UInt64] = [:]
        for records in contents.values { for record in records { found[record.number] = record.sequence } }
        for number in attempts.indices where attempts[number].state == .undecided {
            if let sequence = found[number] {
                attempts[number].state = .owed
                setSequence(sequence, of: number)
            } else {
                missing.append(number)
            }
        }
    }

    /// Records that the last recovery did not bring back. Until the log has written something durable since, another
    /// recovery may: a write that failed can come out differently at each look.
    private var missing: [Int] = []

    /// Something that the log wrote in this session is durable: what it did not find when it was opened is gone.
    private func confirm() {
        for number in missing where attempts[number].state == .undecided { attempts[number].state = .gone }
        missing = []
    }
}
