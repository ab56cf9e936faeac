import CWALLinux
import Glibc

/// Answers what simulated threads ask of the system: files on a `SimulatedDisk`, locks and clocks of a `Scheduler`.
/// Does wrong what its plan of faults says, and watches over the contract of direct I/O.
final class SimulatedKernel {
    let disk: SimulatedDisk
    let scheduler: Scheduler
    var random: SimulationRandom
    var plan: FaultPlan
    /// Told of each write as it begins, for the judge.
    var onWrite: ((SimulatedDisk.Write, _ path: String) -> Void)?
    /// Told of each write that was done as asked.
    var onWritten: ((SimulatedDisk.Write) -> Void)?
    /// A promise to the system that the program broke.
    private(set) var violation: String?
    private(set) var trace: [String] = []
    let traces: Bool
    /// Alignment that direct I/O asks for.
    let alignment: Int
    struct ReadPlace: Hashable {
        var thread: UInt64
        var inode: Int
        var offset: Int
    }

    /// Names of files that are stale copies of others.
    var staleCopies: [String] = []
    /// How often reading failed lately, by who read where.
    var readFailures: [ReadPlace: Int] = [:]
    /// Calls that did I/O.
    private(set) var operations = 0
    /// At which call the process ends, and how.
    var end: (operation: Int, kind: FaultKind)?
    /// What else runs on the machine and ends when the log's process does.
    var companions: [SimulatedProcess] = []

    private let table: UnsafeMutablePointer<cwal_simulation>

    init(
        disk: SimulatedDisk, scheduler: Scheduler, random: SimulationRandom, plan: FaultPlan, alignment: Int,
        traces: Bool
    ) {
        self.disk = disk
        self.scheduler = scheduler
        self.random = random
        self.plan = plan
        self.alignment = alignment
        self.traces = traces
        table = .allocate(capacity: 1)
        table.initialize(to: cwal_simulation())
        fill(&table.pointee)
    }

    deinit { table.deallocate() }

    /// Makes the calling real thread part of the simulation. Returns false in a build that cannot be simulated.
    func enter() -> Bool { cwal_simulation_enter(table) }
    static func leave() { _ = cwal_simulation_enter(nil) }

    var process: SimulatedProcess { scheduler.current.process }

    func note(_ text: @autoclosure () -> String) {
        if traces { trace.append("\(scheduler.now / 1000) µs \(scheduler.current.name): \(text())") }
    }

    func violated(_ what: String) {
        note("VIOLATION \(what)")
        if violation == nil { violation = what }
    }

    // MARK: - Faults

    /// Counts a call that does I/O; the process may end here. Returns whether it goes on.
    func beginOperation() -> Bool {
        if process.isDead { return false }
        operations += 1
        if let end, operations >= end.operation {
            endProcess(end.kind)
            return false
        }
        return true
    }

    /// Ends the calling thread's process.
    func endProcess(_ kind: FaultKind) {
        guard !process.isDead else { return }
        process.isDead = true
        for companion in companions { companion.isDead = true }
        end = nil
        plan.count(kind)
        note("--- \(kind.rawValue)")
        if kind == .kill { disk.kill(random: &random) } else { disk.cutPower(random: &random) }
    }

    func happens(_ kind: FaultKind) -> Bool {
        guard plan.draws(kind, &random) else { return false }
        note("fault: \(kind.rawValue)")
        return true
    }

    func latency() {
        scheduler.sleep(
            happens(.slowWrite) ? UInt64(random.pick(1...400)) * 1_000_000 : UInt64(random.pick(5...200)) * 1000)
    }

    /// Any of a write's sectors.
    func someSectors() -> (Int) -> Bool {
        let draws = random.next()
        return { (draws >> UInt64($0 & 63)) & 1 == 0 }
    }

    /// The disk breaks its word about a write that it acknowledges.
    func betray(_ write: SimulatedDisk.Write, path: String) -> Bool {
        guard path.hasSuffix(".journal") else { return false }
        if happens(.lostWrite) {
            // It may be lost in part.
            let keeps = random.below(2) == 0 ? { _ in false } : someSectors()
            disk.end(write, isDurable: true, keeping: keeps)
            disk.noteLost(write)
            return true
        }
        if happens(.misdirectedWrite) {
            let others = disk.entries.values.filter { !$0.isDirectory && $0.content.count >= write.bytes.count }
                .sorted { $0.number < $1.number }
            disk.end(write, isDurable: true, keeping: { _ in false })
            disk.noteLost(write)
            if !others.isEmpty {
                let victim = random.pick(others)
                let place = random.below((victim.content.count - write.bytes.count) / alignment + 1) * alignment
                let bytes = write.bytes
                disk.damage(victim, place..<place + bytes.count) { bytes[$0 - place] }
            }
            return true
        }
        return false
    }
}

/// How often what happens, and how often it has.
struct FaultPlan {
    /// One in so many occasions; a kind that is missing never happens.
    var oneIn: [FaultKind: Int] = [:]
    private(set) var counts: [FaultKind: Int] = [:]
    /// Nothing happens for the time being.
    var isPaused = false

    mutating func draws(_ kind: FaultKind, _ random: inout SimulationRandom) -> Bool {
        guard !isPaused, let oneIn = oneIn[kind], random.chance(oneIn: oneIn) else { return false }
        count(kind)
        return true
    }

    mutating func count(_ kind: FaultKind) { counts[kind, default: 0] += 1 }
    func happened(_ kind: FaultKind) -> Int { counts[kind] ?? 0 }
}
