import CWALLinux
import Glibc

/// A mutual-exclusion lock on pthreads. Not `Synchronization.Mutex`: conditions need a pthread mutex, and
/// ThreadSanitizer sees through this one.
@safe final class Lock: Sendable {
    // Safe to share: pthreads synchronise all access to what these point to.
    fileprivate nonisolated(unsafe) let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        let status = unsafe pthread_mutex_init(mutex, nil)
        precondition(status == 0)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    func lock() { unsafe cwal_mutex_lock(mutex) }
    func unlock() { unsafe cwal_mutex_unlock(mutex) }

    /// Runs a closure under the lock.
    func withLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        lock()
        defer { unlock() }
        return try body()
    }
}

/// A condition to wait for under a `Lock`.
@safe final class Condition: Sendable {
    // Safe to share: pthreads synchronise all access to what this points to.
    private nonisolated(unsafe) let condition: UnsafeMutablePointer<pthread_cond_t>

    init() {
        unsafe condition = .allocate(capacity: 1)
        unsafe condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        let status = unsafe pthread_cond_init(condition, &attributes)
        precondition(status == 0)
        unsafe pthread_condattr_destroy(&attributes)
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe condition.deallocate()
    }

    /// Gives the lock up, waits for a signal, takes the lock again. May wake without one.
    func wait(_ lock: Lock) { unsafe cwal_condition_wait(condition, lock.mutex) }

    /// The same, until a moment of the monotonic clock at the latest.
    func wait(_ lock: Lock, until deadline: MonotonicTime) {
        unsafe cwal_condition_wait_until(condition, lock.mutex, deadline.nanoseconds)
    }

    func signal() { unsafe cwal_condition_signal(condition) }
    func broadcast() { unsafe cwal_condition_broadcast(condition) }
}
