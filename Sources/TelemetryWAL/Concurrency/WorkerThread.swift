import CWALLinux

/// A thread of our own, for work that blocks and therefore must not run on Swift's cooperative threads.
@safe final class WorkerThread: Sendable {
    private let thread: UInt64

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts a thread. `name` shows in tools like `top -H`; Linux keeps its first 15 bytes. Traps where the system
    /// refuses one.
    convenience init(name: String, _ run: @escaping @Sendable () -> Void) {
        self.init(unlessRefused: name, run)!
    }

    /// The same; nil where the system refuses a thread.
    init?(unlessRefused name: String, _ run: @escaping @Sendable () -> Void) {
        let body = unsafe Unmanaged.passRetained(Body(run: run))
        var thread: UInt64 = 0
        let status = unsafe cwal_thread_start(
            &thread, name,
            { argument in
                guard let argument = unsafe argument else { return nil }
                unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, body.toOpaque())
        guard status == 0 else {
            unsafe body.release()
            return nil
        }
        self.thread = thread
    }

    /// Lets the thread end by itself. Instead of `join`.
    func detach() { cwal_thread_detach(thread) }

    /// Waits for the thread's end. Instead of `detach`.
    func join() { cwal_thread_join(thread) }
}
