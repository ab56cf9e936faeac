import Foundation
import Testing

/// When a test gives up waiting for what must come: far behind the time that it takes on a machine whose cores and
/// device are busy with all other tests under a sanitizer.
public func endOfPatience() -> Date { Date().addingTimeInterval(120) }

/// Waits until a condition holds; a failed expectation if it never does.
public func waitUntil(_ condition: () throws -> Bool) throws {
    let deadline = endOfPatience()
    while try !condition() {
        try #require(Date() < deadline, "it does not happen")
        Thread.sleep(forTimeInterval: 0.001)
    }
}
