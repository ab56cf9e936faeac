import WALFormat

/// What tells a record of a made-up log from all others, so that each of its bytes can be found again.
struct RecordMark: Hashable {
    private let first: UInt64
    private let second: UInt64

    /// Bytes in which a payload repeats itself.
    static let length = 16

    init(of tenant: TenantName, _ sequence: UInt64) {
        let number = JournalBuilder.tenants.firstIndex(of: tenant) ?? JournalBuilder.tenants.count
        first = Self.mixed(sequence &* 8 &+ UInt64(number))
        second = Self.mixed(first)
    }

    /// Any 16 bytes as they stand somewhere.
    init(_ first: UInt64, _ second: UInt64) { (self.first, self.second) = (first, second) }

    /// SplitMix64: no two numbers give the same.
    private static func mixed(_ number: UInt64) -> UInt64 {
        var word = number &+ 0x9E37_79B9_7F4A_7C15
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }

    /// Times of records: they do not rise with the numbers, and many have the same.
    static func time(_ sequence: UInt64) -> UInt64 { times.lowerBound + sequence &* 37 % UInt64(times.count) }
    static let times: ClosedRange<UInt64> = 100...163

    private var bytes: [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: first >> UInt64(8 * $0)) }
            + (0..<8).map { UInt8(truncatingIfNeeded: second >> UInt64(8 * $0)) }
    }

    func payload(length: Int) -> [UInt8] {
        let bytes = bytes
        return (0..<length).map { bytes[$0 % Self.length] }
    }

    /// All that 16 bytes in a row of such a payload can be.
    var windows: [RecordMark] {
        let twice = bytes + bytes
        return (0..<Self.length).map { start in
            func word(_ offset: Int) -> UInt64 {
                twice[start + offset..<start + offset + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            }
            return RecordMark(word(0), word(8))
        }
    }
}
