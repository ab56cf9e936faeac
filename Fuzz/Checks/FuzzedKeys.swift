import SimulatedKeys
import TelemetryWAL
import WALFormat

/// The keys of encrypted frames: one for each identifier but 13, which nobody knows, and 14, which is forgotten.
struct FuzzedKeys: KeyProvider {
    func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { nil }

    func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        switch identifier {
        case 13: throw KeyProviderError("nobody knows it")
        case 14: .forgotten
        default: .found(Self.key(identifier))
        }
    }

    static func key(_ identifier: UInt64) -> SimulatedKey {
        SimulatedKey(identifier: identifier, secret: identifier &* 0xD6E8_FEB8_6659_FD93)
    }

    /// With what a frame of a fuzzed log is opened, and was written; nil: it is not encrypted.
    static func seal(for header: FrameHeader, blockSize: Int = 4096, epoch: UInt64) -> FrameSeal? {
        guard header.isSealed else { return nil }
        return FrameSeal(
            key: key(header.keyIdentifier), logIdentifier: RootFormat.fuzzed(blockSize: blockSize).logIdentifier,
            epoch: epoch)
    }
}
