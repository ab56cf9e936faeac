import TelemetryWAL
import WALFormat
import WALKeys

extension KeyFile {
    /// The keys. Throws as `KeyRing.init` does.
    public func ring(source: String) throws(KeyProviderError) -> KeyRing {
        var ring: [KeyRing.Entry] = []
        for entry in entries {
            let state: KeyRing.Entry.State
            if let secret = entry.secret {
                let key = try AESFrameKey(identifier: entry.identifier, secret: secret)
                state = entry.state == .current ? .current(key) : .retired(key)
            } else {
                state = .forgotten
            }
            ring.append(.init(identifier: entry.identifier, tenant: entry.tenant, state: state))
        }
        return try KeyRing(ring, source: source)
    }
}
