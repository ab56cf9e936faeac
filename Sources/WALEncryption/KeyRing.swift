import Foundation
import TelemetryWAL
import WALFormat

/// Keys that are known from the start: of single tenants, and of all that have none of their own.
///
/// A tenant is encrypted with its current key; with the current one for all if it has no key of its own; and not at all if
/// there is none for all either. A tenant that has keys, and none of them current, is refused: nobody's records become
/// plain because a key was taken away.
public struct KeyRing: KeyProvider {
    /// A key and what it is for.
    public struct Entry: Sendable {
        public enum State: Sendable {
            /// New records are encrypted with it.
            case current(AESFrameKey)
            /// Only what was encrypted with it is read.
            case retired(AESFrameKey)
            /// It is destroyed, and what was encrypted with it: readers pass over that instead of waiting for the key.
            case forgotten
        }

        public var identifier: UInt64
        /// Whose key; nil: all tenants' that have none of their own.
        public var tenant: TenantName?
        public var state: State

        public init(identifier: UInt64, tenant: TenantName? = nil, state: State) {
            self.identifier = identifier
            self.tenant = tenant
            self.state = state
        }

        fileprivate var key: AESFrameKey? {
            switch state {
            case .current(let key), .retired(let key): key
            case .forgotten: nil
            }
        }
    }

    /// Where the keys are from, for errors.
    private let source: String
    private let entries: [UInt64: Entry]
    /// Tenants with keys of their own; nil stands for all others. No key: none is current.
    private let current: [TenantName?: AESFrameKey?]

    /// A ring of keys. `source` says in errors where they are from. Throws where an identifier is 0, stands twice, or is not
    /// its key's, and where a tenant has two current keys.
    public init(_ entries: [Entry], source: String = "the key ring") throws(KeyProviderError) {
        var known: [UInt64: Entry] = [:]
        var current: [TenantName?: AESFrameKey?] = [:]
        for entry in entries {
            guard entry.identifier > 0, entry.key.map({ $0.identifier == entry.identifier }) ?? true else {
                throw KeyProviderError("\(source): key \(entry.identifier) has an identifier of 0 or not its own")
            }
            guard known.updateValue(entry, forKey: entry.identifier) == nil else {
                throw KeyProviderError("\(source): two keys have the identifier \(entry.identifier)")
            }
            guard case .current(let key) = entry.state else {
                if current[entry.tenant] == nil { current[entry.tenant] = .some(nil) }
                continue
            }
            if let other = current[entry.tenant], let other {
                let whose = entry.tenant.map { "tenant \($0)" } ?? "all tenants"
                throw KeyProviderError(
                    "\(source): keys \(other.identifier) and \(key.identifier) of \(whose) are both current")
            }
            current[entry.tenant] = key
        }
        self.source = source
        self.entries = known
        self.current = current
    }

    public func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? {
        guard let known = current[tenant] ?? current[nil] else { return nil }
        guard let known else {
            let whose = current[tenant] == nil ? "the keys for all tenants" : "the keys of tenant \(tenant)"
            throw KeyProviderError("\(source): of \(whose) none is current")
        }
        return known
    }

    public func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        guard let entry = entries[identifier] else {
            throw KeyProviderError("\(source): there is no key \(identifier)")
        }
        guard entry.tenant == nil || entry.tenant == tenant else {
            throw KeyProviderError("\(source): key \(identifier) is another tenant's")
        }
        return entry.key.map { .found($0) } ?? .forgotten
    }
}
