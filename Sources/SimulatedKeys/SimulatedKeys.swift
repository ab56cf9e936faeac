import Foundation
import Synchronization
import TelemetryWAL
import WALFormat

/// A key for tests and simulations. It hides nothing from anybody: what it does, it does quickly and the same way each
/// time. But what it writes cannot be opened with another key, in another place, or when a byte of it was changed, and the
/// same bytes never look the same twice: so that whoever mixes up keys or places is found out.
public final class SimulatedKey: FrameKey {
    public let identifier: UInt64
    fileprivate let secret: UInt64
    private let count = Atomic<UInt64>(0)

    public init(identifier: UInt64, secret: UInt64) {
        self.identifier = identifier
        self.secret = secret
    }

    private static let nonceLength = 24

    public func seal(
        _ plain: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan, at offset: Int
    ) {
        let nonce = count.add(1, ordering: .relaxed).newValue
        target.zero(offset..<offset + Self.nonceLength)
        target.storeBytes(of: nonce, toByteOffset: offset, as: UInt64.self)
        let body = offset + Self.nonceLength
        target.store(plain, at: body)
        let end = body + plain.byteCount
        combine(&target, body..<end, nonce: nonce)
        let tag = tag(of: target.bytes.extracting(body..<end), associatedData, nonce: nonce)
        target.storeBytes(of: tag.0, toByteOffset: end, as: UInt64.self)
        target.storeBytes(of: tag.1, toByteOffset: end + 8, as: UInt64.self)
    }

    public func open(
        _ sealed: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan
    ) -> Bool {
        let length = sealed.byteCount - FrameSeal.overhead
        guard length == target.byteCount else { return false }
        let nonce = Self.load(sealed, 0)
        let body = sealed.extracting(Self.nonceLength..<Self.nonceLength + length)
        let tag = tag(of: body, associatedData, nonce: nonce)
        guard Self.load(sealed, 8) == 0, Self.load(sealed, 16) == 0,
            Self.load(sealed, Self.nonceLength + length) == tag.0,
            Self.load(sealed, Self.nonceLength + length + 8) == tag.1
        else { return false }
        target.store(body, at: 0)
        combine(&target, 0..<length, nonce: nonce)
        return true
    }

    private static func load(_ bytes: RawSpan, _ offset: Int) -> UInt64 {
        bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        // SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
        var mixed = value &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    private func combine(_ bytes: inout MutableRawSpan, _ range: Range<Int>, nonce: UInt64) {
        var state = Self.mix(secret ^ Self.mix(nonce))
        var offset = range.lowerBound
        while offset < range.upperBound {
            state = Self.mix(state)
            if offset + 8 <= range.upperBound {
                let word = Self.load(bytes.bytes, offset)
                bytes.storeBytes(of: word ^ state, toByteOffset: offset, as: UInt64.self)
                offset += 8
            } else {
                let byte = bytes.bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
                bytes.storeBytes(of: byte ^ UInt8(truncatingIfNeeded: state), toByteOffset: offset, as: UInt8.self)
                offset += 1
            }
        }
    }

    private func tag(of body: RawSpan, _ associatedData: RawSpan, nonce: UInt64) -> (UInt64, UInt64) {
        var hash = Self.mix(secret &+ nonce)
        for bytes in [associatedData.byteCount, body.byteCount] { hash = Self.mix(hash ^ UInt64(bytes)) }
        func take(_ bytes: RawSpan) {
            var offset = 0
            while offset + 8 <= bytes.byteCount {
                hash = Self.mix(hash ^ Self.load(bytes, offset))
                offset += 8
            }
            while offset < bytes.byteCount {
                hash = Self.mix(hash ^ UInt64(bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)))
                offset += 1
            }
        }
        take(associatedData)
        take(body)
        return (hash, Self.mix(hash ^ secret))
    }
}

/// A provider whose keys come and go as a test or a simulation wants it. Tenants that have none are not encrypted.
public final class SimulatedKeys: KeyProvider {
    private struct State {
        var keys: [UInt64: (tenant: TenantName, key: SimulatedKey?)] = [:]
        /// Forgotten ones, too.
        var everyKey: [UInt64: SimulatedKey] = [:]
        var current: [TenantName: UInt64] = [:]
        var failing: Set<TenantName> = []
        var missing: Set<UInt64> = []
        var next: UInt64 = 1
    }

    private let lock = NSLock()
    /// Touched under `lock` only. (Not a Mutex: ThreadSanitizer does not see what that does.)
    nonisolated(unsafe) private var state = State()

    public init() {}

    /// Gives a tenant another key. Returns its identifier.
    @discardableResult
    public func rotate(_ tenant: TenantName) -> UInt64 {
        lock.withLock {
            let identifier = state.next
            state.next += 1
            // Secrets that have little in common.
            let secret = identifier &* 0xD6E8_FEB8_6659_FD93
            let key = SimulatedKey(identifier: identifier, secret: secret)
            state.keys[identifier] = (tenant, key)
            state.everyKey[identifier] = key
            state.current[tenant] = identifier
            return identifier
        }
    }

    /// Destroys a key.
    public func forget(_ identifier: UInt64) {
        lock.withLock { if let tenant = state.keys[identifier]?.tenant { state.keys[identifier] = (tenant, nil) } }
    }

    /// Keys of a tenant that are neither its present one nor forgotten, in the order of their identifiers.
    public func retiredIdentifiers(of tenant: TenantName) -> [UInt64] {
        lock.withLock {
            state.keys.filter { $0.value.tenant == tenant && $0.value.key != nil && $0.key != state.current[tenant] }
                .keys.sorted()
        }
    }

    /// All keys that there were, in the order of their identifiers; no secret for those that are forgotten.
    public var secrets: [(identifier: UInt64, tenant: TenantName, secret: UInt64?)] {
        lock.withLock {
            state.keys.sorted { $0.key < $1.key }.map { ($0.key, $0.value.tenant, $0.value.key?.secret) }
        }
    }

    /// A key that there was once, whatever has become of it.
    public func everyKey(_ identifier: UInt64) -> SimulatedKey? { lock.withLock { state.everyKey[identifier] } }

    /// Whether nobody can say at the moment which keys a tenant has.
    public func setFailing(_ isFailing: Bool, _ tenant: TenantName) {
        lock.withLock {
            if isFailing { state.failing.insert(tenant) } else { state.failing.remove(tenant) }
        }
    }

    /// Whether nobody can say at the moment what has become of a key.
    public func setMissing(_ isMissing: Bool, _ identifier: UInt64) {
        lock.withLock {
            if isMissing { state.missing.insert(identifier) } else { state.missing.remove(identifier) }
        }
    }

    /// A tenant's present key; nil: it has none.
    public func currentIdentifier(of tenant: TenantName) -> UInt64? { lock.withLock { state.current[tenant] } }

    /// The same keys, from somebody who always has them.
    public var reliable: any KeyProvider { Reliable(keys: self) }

    private struct Reliable: KeyProvider {
        let keys: SimulatedKeys

        func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? {
            keys.lock.withLock { keys.state.current[tenant].flatMap { keys.state.keys[$0]?.key } }
        }

        func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
            let entry = keys.lock.withLock { keys.state.keys[identifier] }
            guard let entry, entry.tenant == tenant else { throw KeyProviderError("there is no key \(identifier)") }
            return entry.key.map { .found($0) } ?? .forgotten
        }
    }

    public func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? {
        let found = lock.withLock { () -> Result<(any FrameKey)?, KeyProviderError> in
            if state.failing.contains(tenant) { return .failure(KeyProviderError("the key service is away")) }
            guard let identifier = state.current[tenant] else { return .success(nil) }
            guard let key = state.keys[identifier]?.key else {
                return .failure(KeyProviderError("the key of \(tenant) is forgotten"))
            }
            return .success(key)
        }
        return try found.get()
    }

    public func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        let found = lock.withLock { () -> Result<KeyLookup, KeyProviderError> in
            if state.failing.contains(tenant) { return .failure(KeyProviderError("the key service is away")) }
            guard let entry = state.keys[identifier], entry.tenant == tenant, !state.missing.contains(identifier) else {
                return .failure(KeyProviderError("there is no key \(identifier)"))
            }
            return .success(entry.key.map { .found($0) } ?? .forgotten)
        }
        return try found.get()
    }
}
