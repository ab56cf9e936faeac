/// Tells one waiter that something has become durable since it waited last, so that nobody has to ask again and again.
/// Costs each commit a lock that nobody else holds.
///
/// Safe to share although unchecked: `lock` guards what changes.
package final class DurabilitySignal: @unchecked Sendable {
    private let lock = Lock()
    private var isRaised = false
    private var waiter: CheckedContinuation<Void, Never>?
    private var isCancelled = false

    package init() {}

    /// Something is durable. Does not block.
    package func raise() {
        lock.lock()
        isRaised = waiter == nil
        let waiting = waiter
        waiter = nil
        lock.unlock()
        waiting?.resume()
    }

    /// Returns when something has become durable since this returned last, or the task is cancelled. One waiter at a time.
    package func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                lock.lock()
                if isRaised || isCancelled || waiter != nil {
                    isRaised = false
                    lock.unlock()
                    continuation.resume()
                } else {
                    waiter = continuation
                    lock.unlock()
                }
            }
        } onCancel: {
            lock.lock()
            isCancelled = true
            let waiting = waiter
            waiter = nil
            lock.unlock()
            waiting?.resume()
        }
    }
}
