/// Runs Swift's tasks as a simulated thread: a pool of one, which stands in for Swift's own. A task that is resumed
/// goes on when its turn comes, and the seed says whose turn that is.
///
/// One for each process at most, and one process with tasks at a time: Swift keeps what the running task is in a
/// variable of the real thread, which all simulated ones share.
///
/// Safe to share although unchecked: all of a simulation runs on one real thread.
final class TaskPool: TaskExecutor, @unchecked Sendable {
    private let scheduler: Scheduler
    private var random: SimulationRandom
    private var jobs: [UnownedJob] = []
    /// Tasks that have not come to their end.
    private var running = 0

    init(_ scheduler: Scheduler, random: SimulationRandom) {
        self.scheduler = scheduler
        self.random = random
    }

    private var address: UInt { UInt(bitPattern: ObjectIdentifier(self).hashValue) }

    func enqueue(_ job: consuming ExecutorJob) {
        jobs.append(UnownedJob(job))
        scheduler.call(at: address, all: true)
    }

    /// Begins a task, which runs once `run` does.
    func begin(_ body: @escaping @Sendable () async -> Void) {
        running += 1
        Task(executorPreference: self) {
            await body()
            self.running -= 1
        }
    }

    /// The simulated thread's body: returns when all tasks have come to their end.
    func run() {
        while running > 0 || !jobs.isEmpty {
            if jobs.isEmpty {
                scheduler.wait(at: address)
            } else {
                let job = jobs.remove(at: random.below(jobs.count))
                job.runSynchronously(on: asUnownedTaskExecutor())
                scheduler.preempt()
            }
        }
    }
}
