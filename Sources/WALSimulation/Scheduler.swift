import CWALFibers

/// Runs simulated threads, one at a time, on one real thread, and says whose turn it is: the order in which threads
/// meet follows from the seed alone. Time is simulated too: it stands still while anybody can run, and then goes on to
/// the next moment for which somebody waits.
///
/// A switch can happen wherever a thread asks something of the system: at a lock, a wait, a file operation. Between
/// two such places a thread runs alone, so races of unguarded memory do not show here (ThreadSanitizer finds those).
final class Scheduler {
    /// One simulated thread.
    final class Thread {
        let number: UInt64
        let name: String
        /// Which process the thread belongs to.
        let process: SimulatedProcess
        fileprivate let fiber: Fiber
        fileprivate var state = State.runnable
        /// When it stops waiting, whatever happens.
        fileprivate var deadline = UInt64.max
        fileprivate(set) var timedOut = false

        fileprivate init(number: UInt64, name: String, process: SimulatedProcess, fiber: Fiber) {
            self.number = number
            self.name = name
            self.process = process
            self.fiber = fiber
        }
    }

    fileprivate enum State {
        case runnable
        /// Waits to be called at an address.
        case waiting(UInt)
        case sleeping
        case joining(UInt64)
        case finished
    }

    private(set) var now: UInt64 = 1_000_000_000
    /// The same as nanoseconds since 1970 (UTC).
    var wallClock: UInt64 { now + 1_700_000_000_000_000_000 }
    private(set) var current: Thread
    private(set) var threads: [Thread]
    /// Why the simulation cannot go on: nobody can run, or too much has happened.
    private(set) var standstill: String?
    private(set) var steps = 0
    private let stepLimit: Int
    private var nextNumber: UInt64 = 1
    private var random: SimulationRandom
    /// One in so many questions to the system lets another thread go first.
    private let switchesOneIn: Int
    private let pool: FiberPool
    private let host: Fiber

    /// `body` is the first thread, of a process of its own.
    init(random: SimulationRandom, switchesOneIn: Int, stepLimit: Int, pool: FiberPool, process: SimulatedProcess) {
        self.random = random
        self.switchesOneIn = switchesOneIn
        self.stepLimit = stepLimit
        self.pool = pool
        host = pool.host
        current = Thread(number: 0, name: "history", process: process, fiber: pool.take())
        threads = [current]
    }

    /// Runs the first thread to its end. Returns whether it got there; if not, `standstill` says why, and what all
    /// threads held is leaked.
    func run(_ body: @escaping () -> Void) -> Bool {
        current.fiber.job = job(body)
        pool.switchFromHost(to: current.fiber)
        if standstill != nil {
            pool.abandon()
            return false
        }
        return true
    }

    private func job(_ body: @escaping () -> Void) -> () -> Void {
        var body: (() -> Void)? = body
        return { [unowned self] in
            body?()
            // The fiber goes on only when it is used again: what the body holds is let go before.
            body = nil
            finish()
        }
    }

    /// Starts a thread.
    func spawn(_ name: String, in process: SimulatedProcess? = nil, _ body: @escaping () -> Void) -> UInt64 {
        let thread = Thread(
            number: nextNumber, name: name, process: process ?? current.process, fiber: pool.take())
        nextNumber += 1
        thread.fiber.job = job(body)
        threads.append(thread)
        preempt()
        return thread.number
    }

    /// Waits for a thread's end.
    func join(_ number: UInt64) {
        while threads.contains(where: { $0.number == number }) {
            current.state = .joining(number)
            switchAway()
        }
    }

    /// Waits until no thread of a process is left but the calling one.
    func joinAll(of process: SimulatedProcess) {
        while let other = threads.first(where: { $0.process === process && $0 !== current }) { join(other.number) }
    }

    /// Lets another thread go first, now and then.
    func preempt() {
        if random.chance(oneIn: switchesOneIn) { switchAway() }
    }

    /// Lets everybody else who can run go first.
    func yield() { switchAway() }

    /// A moment passes.
    func tick() { now += 100 }

    /// Lets time pass for the calling thread.
    func sleep(_ nanoseconds: UInt64) {
        current.state = .sleeping
        current.deadline = now + nanoseconds
        switchAway()
    }

    /// Waits to be called at an address. Returns whether it was, false if the deadline passed first.
    @discardableResult
    func wait(at address: UInt, until deadline: UInt64 = .max) -> Bool {
        current.state = .waiting(address)
        current.deadline = deadline
        switchAway()
        return !current.timedOut
    }

    /// Calls one of those who wait at an address, or all.
    func call(at address: UInt, all: Bool) {
        var waiting = threads.filter { if case .waiting(address) = $0.state { true } else { false } }
        if !all, waiting.count > 1 { waiting = [random.pick(waiting)] }
        for thread in waiting { wake(thread, timedOut: false) }
    }

    private func wake(_ thread: Thread, timedOut: Bool) {
        thread.state = .runnable
        thread.deadline = .max
        thread.timedOut = timedOut
    }

    private func finish() {
        let thread = current
        thread.state = .finished
        threads.removeAll { $0 === thread }
        for other in threads {
            if case .joining(thread.number) = other.state { wake(other, timedOut: false) }
        }
        if thread.number == 0 {
            if !threads.isEmpty { standstill = "the history ended and left threads behind: \(description)" }
            pool.giveBackWhenLeft(thread.fiber)
            // Comes back when the fiber is used again, by another scheduler.
            pool.switchToHost(from: thread.fiber)
            return
        }
        switchAway()
    }

    /// Goes on with a thread that can run, which may be the calling one.
    private func switchAway() {
        steps += 1
        if steps > stepLimit { halt("more than \(stepLimit) steps: \(description)") }
        var next: Thread?
        while next == nil {
            var runnable = 0
            for thread in threads {
                guard case .runnable = thread.state else { continue }
                runnable += 1
                // Each with the same chance, in one pass.
                if runnable == 1 || random.below(runnable) == 0 { next = thread }
            }
            if next != nil { break }
            guard let soonest = threads.map(\.deadline).min(), soonest != .max else {
                halt("nobody can run: \(description)")
            }
            now = max(now, soonest)
            for thread in threads where thread.deadline <= now { wake(thread, timedOut: true) }
        }
        guard let next, next !== current else { return }
        let previous = current
        current = next
        if case .finished = previous.state { pool.giveBackWhenLeft(previous.fiber) }
        pool.switch(from: previous.fiber, to: next.fiber)
    }

    /// Ends the simulation where it stands.
    func halt(_ reason: String) -> Never {
        standstill = reason
        pool.switchToHost(from: current.fiber)
        preconditionFailure("a halted simulation went on")
    }

    /// Who waits for what.
    private var description: String {
        threads.map { thread in
            switch thread.state {
            case .runnable: "\(thread.name) can run"
            case .waiting(let address): "\(thread.name) waits at \(String(address, radix: 16))"
            case .sleeping: "\(thread.name) sleeps"
            case .joining(let number): "\(thread.name) waits for thread \(number)"
            case .finished: "\(thread.name) has ended"
            }
        }.joined(separator: "; ")
    }
}

/// A stack on which one simulated thread after the other runs.
final class Fiber {
    fileprivate var pointer: OpaquePointer
    fileprivate var job: (() -> Void)?

    fileprivate init(_ pointer: OpaquePointer) { self.pointer = pointer }
}

/// Stacks of one real thread, used again from history to history.
final class FiberPool {
    fileprivate let host: Fiber
    private var free: [Fiber] = []
    /// Ended on its own stack, which may only be used again once it has been left.
    private var leaving: Fiber?
    private static let stackLength = 512 << 10

    init() { host = Fiber(cwal_fiber_of_thread()) }

    deinit {
        for fiber in free { cwal_fiber_free(fiber.pointer) }
        cwal_fiber_free(host.pointer)
    }

    fileprivate func take() -> Fiber {
        if let fiber = free.popLast() { return fiber }
        let fiber = Fiber(host.pointer)
        let context = Unmanaged.passRetained(fiber).toOpaque()
        let made = cwal_fiber_make(
            Self.stackLength,
            { argument in
                guard let argument = argument else { return }
                let fiber = Unmanaged<Fiber>.fromOpaque(argument).takeUnretainedValue()
                while true {
                    let job = fiber.job
                    fiber.job = nil
                    job?()
                }
            }, context)
        guard let made = made else { fatalError("no memory for a simulated thread's stack") }
        fiber.pointer = made
        return fiber
    }

    fileprivate func giveBackWhenLeft(_ fiber: Fiber) {
        // One that ended before was left for this one.
        takeBack()
        leaving = fiber
    }

    private func takeBack() {
        if let fiber = leaving { free.append(fiber) }
        leaving = nil
    }

    fileprivate func `switch`(from: Fiber, to: Fiber) {
        cwal_fiber_switch(from.pointer, to.pointer)
        takeBack()
    }

    fileprivate func switchFromHost(to fiber: Fiber) { self.switch(from: host, to: fiber) }

    fileprivate func switchToHost(from fiber: Fiber) { self.switch(from: fiber, to: host) }

    /// What runs on the stacks is never ended: they are not used again.
    fileprivate func abandon() {
        free = []
        leaving = nil
    }
}
