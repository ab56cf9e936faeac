import WALFormat

/// Where a tenant's segments lie, and what their names say: the sequence numbers that they cover.
package enum SegmentName {
    static let suffix = ".segment"
    static let root = "tenants"
    /// Ends the name of a file that the storage has not published.
    static let temporarySuffix = ".tmp"

    /// The directory of a tenant's segments, below the log's root.
    package static func directory(of tenant: TenantName) -> String {
        ([root] + tenant.pathComponents).joined(separator: "/")
    }

    package static func name(covering sequences: ClosedRange<UInt64>) -> String {
        digits(sequences.lowerBound) + "-" + digits(sequences.upperBound) + suffix
    }

    /// What a segment goes by while it is made, without the storage's suffix.
    static func temporary(of tenant: TenantName, from sequence: UInt64) -> String {
        directory(of: tenant) + "/" + digits(sequence)
    }

    /// Whether a file of this name is a segment in the making.
    static func isTemporary(_ name: String) -> Bool {
        name.hasSuffix(temporarySuffix) && number(name.dropLast(temporarySuffix.count)) != nil
    }

    /// The numbers that a file of this name covers; nil for any other name.
    package static func sequences(of name: String) -> ClosedRange<UInt64>? {
        guard name.hasSuffix(suffix) else { return nil }
        let parts = name.dropLast(suffix.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let first = number(parts[0]), let last = number(parts[1]), first >= 1, first <= last,
            last < FormatLimits.maximumNumber
        else { return nil }
        return first...last
    }

    private static func digits(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    private static func number(_ text: Substring) -> UInt64? {
        guard text.utf8.count == 16,
            text.utf8.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        return UInt64(text, radix: 16)
    }
}
