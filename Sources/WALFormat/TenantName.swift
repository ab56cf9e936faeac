/// A tenant's name: 1 to 255 bytes of UTF-8 without NUL. Two names are the same when their bytes are the same;
/// Unicode's canonical equivalence, by which Swift compares strings, would merge tenants that are not one.
public struct TenantName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The name's bytes.
    public let utf8: [UInt8]
    /// A hash of the bytes with this process's random seed, taken once: each append looks its tenant up.
    @usableFromInline package let hash: Int

    /// Checks and takes a name. Throws `TenantNameError` for a name that is empty, too long or holds NUL.
    public init(_ name: some StringProtocol) throws(TenantNameError) {
        let bytes = Array(name.utf8)
        if let fault = Self.fault(in: bytes) { throw fault }
        self.init(checked: bytes)
    }

    /// Takes bytes that must be a valid name. Throws `TenantNameError` where they are not, ill-formed UTF-8 included.
    public init(utf8 bytes: [UInt8]) throws(TenantNameError) {
        if let fault = Self.fault(in: bytes) { throw fault }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
        self.init(checked: bytes)
    }

    private init(checked bytes: [UInt8]) {
        utf8 = bytes
        var hasher = Hasher()
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        hash = hasher.finalize()
    }

    @inlinable
    public static func == (left: TenantName, right: TenantName) -> Bool {
        left.hash == right.hash && left.utf8 == right.utf8
    }

    @inlinable
    public func hash(into hasher: inout Hasher) { hasher.combine(hash) }

    private static func fault(in bytes: [UInt8]) -> TenantNameError? {
        if bytes.isEmpty { return .empty }
        if bytes.count > FormatLimits.maximumNameLength { return .tooLong(bytes.count) }
        return bytes.contains(0) ? .containsNUL : nil
    }

    public var description: String { String(decoding: utf8, as: UTF8.self) }

    /// Orders names by their bytes.
    public static func < (left: TenantName, right: TenantName) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }

    /// The name as a relative path that stays below the directory it is put in: letters, digits, `-`, `_` and inner
    /// dots stand as they are, every other byte as `%XX`. What is longer than 200 characters is split into nested
    /// directories whose names end in `~`, a character that occurs nowhere else. Different names never share a path.
    public var pathComponents: [String] {
        var escaped: [UInt8] = []
        for byte in utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                escaped.append(byte)
            case UInt8(ascii: ".") where !escaped.isEmpty:
                escaped.append(byte)
            default:
                let digits = Array("0123456789ABCDEF".utf8)
                escaped += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        var components: [String] = []
        while escaped.count > 200 {
            components.append(String(decoding: escaped.prefix(200), as: UTF8.self) + "~")
            escaped.removeFirst(200)
        }
        // A piece that begins with a dot after a split would be a hidden file, or worse, "..".
        var last = String(decoding: escaped, as: UTF8.self)
        if last.hasPrefix(".") { last = "%2E" + last.dropFirst() }
        return components + [last]
    }

    /// The name whose path this is; nil for a path that is no name's.
    public init?(pathComponents components: [String]) {
        var escaped: [UInt8] = []
        for (place, component) in components.enumerated() {
            let isLast = place == components.count - 1
            guard component.hasSuffix("~") != isLast else { return nil }
            escaped += component.utf8.dropLast(isLast ? 0 : 1)
        }
        var bytes: [UInt8] = []
        var rest = escaped[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        // Other spellings of the same bytes are nobody's path.
        guard let name = try? TenantName(utf8: bytes), name.pathComponents == components else { return nil }
        self = name
    }
}

extension TenantName: ExpressibleByStringLiteral {
    /// A name written in source code. Traps where the literal is not a valid name.
    public init(stringLiteral literal: String) {
        do { try self.init(literal) } catch { preconditionFailure("tenant name literal: \(error)") }
    }
}

/// Why a tenant's or subscriber's name is refused.
public enum TenantNameError: Error, Equatable, CustomStringConvertible {
    case empty
    /// The length found, in bytes.
    case tooLong(Int)
    case containsNUL
    case notUTF8

    public var description: String {
        switch self {
        case .empty: "the name is empty; give 1 to \(FormatLimits.maximumNameLength) bytes"
        case .tooLong(let length):
            "the name has \(length) bytes; at most \(FormatLimits.maximumNameLength) are allowed"
        case .containsNUL: "the name holds a NUL byte; remove it"
        case .notUTF8: "the name is not UTF-8"
        }
    }
}
