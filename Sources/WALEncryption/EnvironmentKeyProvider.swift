import Foundation
import TelemetryWAL
import WALFormat
import WALKeys

/// Keys out of an environment variable that holds the text of a `KeyFile`, read once.
public struct EnvironmentKeyProvider: KeyProvider {
    private let ring: KeyRing

    /// Throws where the variable is not set, or its text is no key file's.
    public init(variable: String) throws(KeyProviderError) {
        guard let text = ProcessInfo.processInfo.environment[variable] else {
            throw KeyProviderError("the environment variable \(variable) is not set")
        }
        ring = try KeyFile(parsing: Data(text.utf8), source: variable).ring(source: variable)
    }

    public func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? {
        try ring.currentKey(of: tenant)
    }

    public func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        try ring.key(identifier, of: tenant)
    }
}
