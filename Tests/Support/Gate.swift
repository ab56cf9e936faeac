import Foundation

/// A write that waits until it is let go, and what it ends with: `plan.setWrite { _, _ in gate.admit() }`.
///
/// Safe to share although unchecked: its variables are under a lock, or never change.
public final class Gate: @unchecked Sendable {
    private let entered = DispatchSemaphore(value: 0)
    private let opened = DispatchSemaphore(value: 0)
    private let first = Counter(1)
    private let passed = NSLock()
    private var passedCount = 0
    private let outcome: FaultPlan.WriteFault?

    public init(_ outcome: FaultPlan.WriteFault? = nil) { self.outcome = outcome }

    /// Holds the first write; counts the others, which pass.
    public func admit() -> FaultPlan.WriteFault? {
        guard first.next() == 0 else {
            passed.withLock { passedCount += 1 }
            return nil
        }
        entered.signal()
        opened.wait()
        return outcome
    }

    public func waitUntilHeld() { entered.wait() }
    public func open() { opened.signal() }
    /// Writes that passed.
    public var others: Int { passed.withLock { passedCount } }
}
