import Foundation
import Logging
import Synchronization
import TelemetryWAL
import WALFormat
import WALKeys

/// Keys out of a `KeyFile` on the disk that only its owner may read. A changed file is read again within a second or so,
/// without the log being opened anew: that is how keys are rotated and forgotten. A change that cannot be read leaves the
/// keys as they were, and is logged.
public final class FileKeyProvider: KeyProvider {
    private let path: String
    private let logger: Logger
    private let state: Mutex<State>

    private struct State {
        var ring: KeyRing
        var stamp: OwnersFile.Stamp
        var nextLook: ContinuousClock.Instant
    }

    /// How often the file is looked at.
    private static let pause = Duration.seconds(1)

    /// Reads the file. Throws where it cannot be read, others than its owner may read or change it, or it is no key file.
    public init(path: String, logger: Logger = Logger(label: "telemetry-wal")) throws(KeyProviderError) {
        self.path = path
        self.logger = logger
        state = Mutex(try Self.read(path))
    }

    public func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? {
        try ring.currentKey(of: tenant)
    }

    public func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        try ring.key(identifier, of: tenant)
    }

    /// Reads the file now, whether it is known to have changed or not. Throws as `init` does; then the keys stay as they
    /// were.
    public func reload() throws(KeyProviderError) {
        let read = try Self.read(path)
        state.withLock { $0 = read }
    }

    private static func read(_ path: String) throws(KeyProviderError) -> State {
        let (text, stamp) = try OwnersFile.read(path)
        return State(
            ring: try KeyFile(parsing: text, source: path).ring(source: path), stamp: stamp, nextLook: .now + pause)
    }

    private var ring: KeyRing {
        let now = ContinuousClock.now
        let (ring, isDue) = state.withLock { state in
            let isDue = now >= state.nextLook
            // One thread at a time looks; the others go on with the keys that there were.
            if isDue { state.nextLook = now + Self.pause }
            return (state.ring, isDue)
        }
        return isDue ? lookAgain(ring) : ring
    }

    private func lookAgain(_ known: KeyRing) -> KeyRing {
        let stamp = OwnersFile.stamp(of: path)
        guard state.withLock({ stamp != $0.stamp }) else { return known }
        do throws(KeyProviderError) {
            try reload()
            logger.notice("keys read again", metadata: ["file": "\(path)"])
            return state.withLock { $0.ring }
        } catch {
            logger.error(
                "the key file was changed and cannot be read: keys stay as they were", metadata: ["error": "\(error)"])
            // Told once for each change.
            if let stamp { state.withLock { $0.stamp = stamp } }
            return known
        }
    }
}
