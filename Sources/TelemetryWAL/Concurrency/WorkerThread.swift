import CWALLinux
import Glibc

/// A thread of our own, for work that blocks and therefore must not run on Swift's cooperative threads.
@safe final class WorkerThread: Sendable {
    private let thread: pthread_t

    private final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void
        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a thread. `name` shows in tools like `top -H`; Linux keeps its first 15 bytes. Traps where the system
    /// refuses one.
    convenience init(name: String, _ run: @escaping @Sendable () -> Void) {
        self.init(unlessRefused: name, run)!
    }

    /// The same; nil where the system refuses a thread.
    init?(unlessRefused name: String, _ run: @escaping @Sendable () -> Void) {
        let body = unsafe Unmanaged.passRetained(Body(name: name, run: run))
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                unsafe cwal_name_thread(body.name)
                body.run()
                return nil
            }, body.toOpaque())
        guard status == 0 else {
            unsafe body.release()
            return nil
        }
        self.thread = thread
    }

    /// Lets the thread end by itself. Instead of `join`.
    func detach() { _ = pthread_detach(thread) }

    /// Waits for the thread's end. Instead of `detach`.
    func join() { _ = pthread_join(thread, nil) }
}
