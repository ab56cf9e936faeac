/// Why records were dropped, or not taken.
public enum DropCause: UInt8, CaseIterable, Sendable {
    /// The tenant's records were more bytes than its budget: the oldest went.
    case budget = 1
    /// They were older than the tenant's policy keeps them.
    case age = 2
    /// The log had no room left: the oldest went of a tenant whose policy allows it.
    case space = 3
    /// The tenant's budget was used up, and the newest were not taken.
    case newest = 4
    /// The tenant was erased.
    case erasure = 5
}

extension DropCause: CustomStringConvertible {
    /// The cause's name, as tools show it.
    public var description: String {
        switch self {
        case .budget: "budget"
        case .age: "age"
        case .space: "space"
        case .newest: "newest"
        case .erasure: "erasure"
        }
    }
}

/// What was dropped of a tenant for one cause since the log began.
public struct DropTotal: Equatable, Sendable {
    /// By their sequence numbers: numbers that were skipped after damage, or whose records were lost, count among them.
    public var records: UInt64
    /// Bytes of the records with their headers, uncompressed. An estimate where a drop began or ended amid records whose
    /// lengths were not known one by one.
    public var length: UInt64
    /// When the log had received the first and the last of them, nanoseconds since 1970 (UTC); 0 while there is none.
    public var firstReceived: UInt64
    public var lastReceived: UInt64

    public init(records: UInt64 = 0, length: UInt64 = 0, firstReceived: UInt64 = 0, lastReceived: UInt64 = 0) {
        self.records = records
        self.length = length
        self.firstReceived = firstReceived
        self.lastReceived = lastReceived
    }

    /// Bytes that it takes: four u64, in the order of the properties.
    static let length = 32

    func encode(into bytes: inout MutableRawSpan, at base: Int) {
        for (place, value) in [records, length, firstReceived, lastReceived].enumerated() {
            bytes.store(littleEndian: value, at: base + 8 * place)
        }
    }

    static func decode(_ bytes: RawSpan, at base: Int) throws(FormatError) -> DropTotal {
        let total = DropTotal(
            records: bytes.littleEndian(at: base), length: bytes.littleEndian(at: base + 8),
            firstReceived: bytes.littleEndian(at: base + 16), lastReceived: bytes.littleEndian(at: base + 24))
        guard total.records <= FormatLimits.maximumNumber, total.length <= FormatLimits.maximumNumber else {
            throw FormatError(.field, "a total of drops is out of bounds")
        }
        return total
    }

    /// Adds what was dropped besides.
    public mutating func add(records: UInt64, length: UInt64, received: ClosedRange<UInt64>) {
        firstReceived = self.records == 0 ? received.lowerBound : min(firstReceived, received.lowerBound)
        lastReceived = max(lastReceived, received.upperBound)
        self.records = min(self.records + min(records, FormatLimits.maximumNumber), FormatLimits.maximumNumber)
        self.length = min(self.length + min(length, FormatLimits.maximumNumber), FormatLimits.maximumNumber)
    }

    /// What was dropped here and elsewhere.
    public func adding(_ other: DropTotal) -> DropTotal {
        if other.records == 0 { return self }
        var sum = self
        sum.add(
            records: other.records, length: other.length,
            received: other.firstReceived...max(other.firstReceived, other.lastReceived))
        return sum
    }

    /// The same total, told at different times: the later one. A total only grows.
    public func later(_ other: DropTotal) -> DropTotal { other.records > records ? other : self }
}
