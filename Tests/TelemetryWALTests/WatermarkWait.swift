import TestSupport
import WALStorage

@testable import TelemetryWAL

extension WriteAheadLogEngine {
    /// Waits until nothing is left to be vouched for: views show every durable record, and no commit is written for
    /// being idle until something else is committed.
    func waitForWatermark() throws { try waitUntil { core.lock.withLock { !core.needsWatermark } } }
}
