import Foundation
import TelemetryWAL
import WALFormat

/// The keys that records are encrypted with, as a text:
///
/// ```json
/// { "keys": [
///     { "identifier": 1, "state": "retired", "secret": "<32 bytes in base64>" },
///     { "identifier": 2, "state": "current", "secret": "…" },
///     { "identifier": 3, "state": "current", "secret": "…", "tenant": "acme" },
///     { "identifier": 4, "state": "forgotten", "tenant": "acme" }
/// ] }
/// ```
///
/// A key without a `tenant` is for all tenants that have none of their own. To rotate, a new entry becomes `current` and
/// the old one `retired`; when nothing of it is left in the log it may go. To destroy what was encrypted with a key, its
/// entry becomes `forgotten` and loses its secret, here and in all backups.
///
/// No field but these is taken: a misspelt `tenant` would make a key everybody's.
public struct KeyFile: Sendable {
    /// Bytes of a secret.
    public static let secretLength = 32
    /// Bytes that a text may have.
    public static let mostBytes = 16 << 20

    /// One entry, as it stands there.
    public struct Entry: Sendable, Equatable {
        public enum State: String, Sendable, CaseIterable { case current, retired, forgotten }

        public var identifier: UInt64
        public var tenant: TenantName?
        public var state: State
        /// 32 bytes; none if it is forgotten.
        public var secret: Data?

        public init(identifier: UInt64, tenant: TenantName?, state: State, secret: Data?) {
            self.identifier = identifier
            self.tenant = tenant
            self.state = state
            self.secret = secret
        }
    }

    public var entries: [Entry]

    public init(_ entries: [Entry] = []) { self.entries = entries }

    /// Reads the text. `source` says in errors where it is from; they name no secret. Throws where it is not as above, where
    /// two keys have one identifier, and where two of a tenant are current.
    public init(parsing text: Data, source: String) throws(KeyProviderError) {
        guard text.count <= Self.mostBytes else {
            throw KeyProviderError("\(source): a key file has \(Self.mostBytes) bytes at most")
        }
        let object: Any
        do { object = try JSONSerialization.jsonObject(with: text) } catch {
            // The parser's own words may quote what stands there.
            throw KeyProviderError("\(source): it is no JSON")
        }
        guard let fields = object as? [String: Any], fields.keys.allSatisfy({ $0 == "keys" }),
            let list = fields["keys"] as? [Any]
        else { throw KeyProviderError("\(source): expected an object with one field, \"keys\", a list") }
        entries = []
        for (index, item) in list.enumerated() {
            entries.append(try Self.entry(item, place: "\(source): key \(index + 1) of the list"))
        }
        try check(source: source)
    }

    /// Throws where two keys have one identifier, or two of a tenant are current.
    public func check(source: String) throws(KeyProviderError) {
        var identifiers: Set<UInt64> = []
        var current: [TenantName?: UInt64] = [:]
        for entry in entries {
            guard identifiers.insert(entry.identifier).inserted else {
                throw KeyProviderError("\(source): two keys have the identifier \(entry.identifier)")
            }
            guard entry.state == .current else { continue }
            if let other = current.updateValue(entry.identifier, forKey: entry.tenant) {
                let whose = entry.tenant.map { "tenant \($0)" } ?? "all tenants"
                throw KeyProviderError(
                    "\(source): keys \(other) and \(entry.identifier) of \(whose) are both current")
            }
        }
    }

    private static func entry(_ item: Any, place: String) throws(KeyProviderError) -> Entry {
        guard let fields = item as? [String: Any] else { throw KeyProviderError("\(place): it is no object") }
        let known = ["identifier", "tenant", "state", "secret"]
        if let stranger = fields.keys.sorted().first(where: { !known.contains($0) }) {
            throw KeyProviderError("\(place): there is no field \(stranger.debugDescription)")
        }
        guard let number = fields["identifier"] as? NSNumber,
            unsafe !["c", "B"].contains(String(cString: number.objCType)), let identifier = UInt64("\(number)"),
            identifier > 0
        else { throw KeyProviderError("\(place): \"identifier\" must be a whole number from 1 on") }
        guard let name = fields["state"] as? String, let state = Entry.State(rawValue: name) else {
            throw KeyProviderError("\(place): \"state\" must be current, retired or forgotten")
        }
        var tenant: TenantName?
        if let value = fields["tenant"] {
            guard let text = value as? String, let name = try? TenantName(text) else {
                throw KeyProviderError("\(place): \"tenant\" is no name that a tenant can have")
            }
            tenant = name
        }
        var secret: Data?
        if let value = fields["secret"] {
            guard let text = value as? String, let bytes = Data(base64Encoded: text),
                bytes.count == Self.secretLength
            else {
                throw KeyProviderError(
                    "\(place): \"secret\" must be \(Self.secretLength) bytes in base64 (openssl rand -base64 32)")
            }
            secret = bytes
        }
        guard (secret == nil) == (state == .forgotten) else {
            throw KeyProviderError(
                state == .forgotten
                    ? "\(place): it is forgotten and has a \"secret\"; take that out"
                    : "\(place): \"secret\" is missing")
        }
        return Entry(identifier: identifier, tenant: tenant, state: state, secret: secret)
    }

    /// Reads the file at a path. Throws where it cannot be read, others than its owner may read or change it, or its text is
    /// not as above.
    public init(contentsOf path: String) throws(KeyProviderError) {
        try self.init(parsing: try OwnersFile.read(path).text, source: path)
    }

    /// Has other processes that change key files of the same directory by this wait until this process ends, so that none of
    /// their changes is lost. Waits for those that came before. Throws where the directory cannot be locked.
    public static func beginChange(of path: String) throws(KeyProviderError) {
        try OwnersFile.lockDirectory(of: path)
    }

    /// Writes the file at a path, durably and in one step: whole, or not at all. Only its owner may read it. Throws where it
    /// cannot be written.
    public func write(to path: String) throws(KeyProviderError) { try OwnersFile.write(text, to: path) }

    /// The text, secrets included. The same entries give the same text.
    public var text: Data {
        let list = entries.map { entry -> [String: Any] in
            var fields: [String: Any] = ["identifier": entry.identifier, "state": entry.state.rawValue]
            if let tenant = entry.tenant { fields["tenant"] = "\(tenant)" }
            if let secret = entry.secret { fields["secret"] = secret.base64EncodedString() }
            return fields
        }
        let options: JSONSerialization.WritingOptions = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let text = try? JSONSerialization.data(withJSONObject: ["keys": list], options: options)
        return (text ?? Data()) + Data("\n".utf8)
    }
}
