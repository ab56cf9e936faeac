import Foundation
import TelemetryWAL

/// A directory of a test's own on a real file system, removed with the value. Not on tmpfs, which has no direct I/O.
public final class TemporaryDirectory: Sendable {
    public let path: String

    public init() {
        let base = ProcessInfo.processInfo.environment["WAL_TEST_DIRECTORY"] ?? "/var/tmp"
        path = base + "/telemetry-wal-test-" + UUID().uuidString
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    public func appending(_ component: String) -> String { path + "/" + component }
}
