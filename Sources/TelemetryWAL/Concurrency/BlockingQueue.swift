/// Runs closures that block, one after the other, on a thread of its own that is started with the first of them and
/// ends with the queue.
final class BlockingQueue: Sendable {
    private final class State {
        var work: [@Sendable () -> Void] = []
        var isStopping = false
        var isBusy = false
        var thread: WorkerThread?
    }

    private let name: String
    private let lock = Lock()
    private let arrival = Condition()
    private let rest = Condition()
    // Safe to share: touched under `lock` only.
    private nonisolated(unsafe) let state = State()

    init(name: String) { self.name = name }

    deinit {
        let lock = self.lock
        let arrival = self.arrival
        lock.withLock {
            unsafe state.isStopping = true
            arrival.signal()
        }
    }

    /// Runs the closure on the queue's thread and returns what it does.
    func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            lock.withLock {
                unsafe state.work.append { continuation.resume(returning: body()) }
                if unsafe state.thread == nil { unsafe state.thread = start() }
                arrival.signal()
            }
        }
    }

    /// Has the closure run on the queue's thread, some time.
    func submit(_ body: @escaping @Sendable () -> Void) {
        lock.withLock {
            unsafe state.work.append(body)
            if unsafe state.thread == nil { unsafe state.thread = start() }
            arrival.signal()
        }
    }

    /// Waits until all that was submitted has run, but not for ever: not a moment longer than so many nanoseconds.
    func waitUntilIdle(atMost duration: UInt64) {
        let deadline = MonotonicTime.now + duration
        lock.withLock {
            while unsafe state.isBusy || !state.work.isEmpty, MonotonicTime.now < deadline {
                rest.wait(lock, until: deadline)
            }
        }
    }

    private func start() -> WorkerThread {
        nonisolated(unsafe) let state = unsafe self.state
        let lock = self.lock
        let (arrival, rest) = (self.arrival, self.rest)
        let thread = WorkerThread(name: name) {
            lock.lock()
            while true {
                if unsafe !state.work.isEmpty {
                    do {
                        let next = unsafe state.work.removeFirst()
                        unsafe state.isBusy = true
                        lock.unlock()
                        next()
                        // What the closure holds goes before the lock is taken: it may be this queue's last owner.
                    }
                    lock.lock()
                    unsafe state.isBusy = false
                    if unsafe state.work.isEmpty { rest.broadcast() }
                } else if unsafe state.isStopping {
                    break
                } else {
                    arrival.wait(lock)
                }
            }
            lock.unlock()
        }
        thread.detach()
        return thread
    }
}
