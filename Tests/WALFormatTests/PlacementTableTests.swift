import Testing
import WALFormat

@Suite struct PlacementTableTests {
    private static let sample: PlacementTable = {
        var generator = SeededGenerator(seed: 7)
        return PlacementTable(
            logIdentifier: LogIdentifier(using: &generator), generation: 3,
            residences: [
                .init(tenant: "acme", home: .shared, firstSequence: 1),
                .init(tenant: "ümlaut/..", home: .dedicated(directory: "/mnt/fast"), firstSequence: 1),
                .init(tenant: "acme", home: .dedicated(directory: ""), firstSequence: 1001),
                .init(tenant: "acme", home: .shared, firstSequence: 5001),
            ],
            accounts: [
                .init(
                    tenant: "acme", cause: .age, through: 900,
                    total: DropTotal(records: 10, length: 2000, firstReceived: 5, lastReceived: 7)),
                .init(tenant: "acme", cause: nil, through: 800, total: DropTotal(firstReceived: 3)),
            ],
            removals: [.init(tenant: "gone", directory: "/mnt/old"), .init(tenant: "gone", directory: "")])
    }()
    /// Where the second residence begins.
    private static let second = 56 + 16 + 4
    private static let account = second + 35 + 16 + 4 + 16 + 4

    private func decode(_ bytes: [UInt8]) throws(FormatError) -> PlacementTable {
        try bytes.withRawSpan { (span: RawSpan) throws(FormatError) in try PlacementTable.decode(span) }
    }

    /// Both copies after the same change, with their checksums right again.
    private func cause(_ change: (inout [UInt8], Int) -> Void) -> FormatError.Cause? {
        var bytes = Self.sample.encoded()
        for base in [0, bytes.count / 2] {
            change(&bytes, base)
            bytes.seal(base + 12..<base + 4096, at: base + 8)
        }
        return WALFormatTests.cause { () throws(FormatError) in try decode(bytes) }
    }

    @Test func roundTrip() throws {
        #expect(try decode(Self.sample.encoded()) == Self.sample)
        #expect(Self.sample.residences(of: "acme").map(\.firstSequence) == [1, 1001, 5001])
        let empty = PlacementTable(logIdentifier: Self.sample.logIdentifier)
        #expect(try decode(empty.encoded()) == empty)
    }

    /// The layout that SPEC.md states, field by field.
    @Test func layout() {
        let bytes = Self.sample.encoded()
        #expect(bytes.count == 8192 && Array(bytes[..<4096]) == Array(bytes[4096...]))
        #expect(Array(bytes[0..<8]) == Array("TWALPLC1".utf8))
        #expect(bytes.integer(UInt32.self, at: 8) == crc(bytes, 12..<4096))
        #expect(bytes.integer(UInt32.self, at: 12) == 2)
        #expect(bytes.integer(UInt64.self, at: 32) == 3)
        #expect(bytes.integer(UInt32.self, at: 40) == 4096)
        #expect(bytes.integer(UInt32.self, at: 44) == 4)
        #expect(bytes.integer(UInt32.self, at: 48) == 2 && bytes.integer(UInt32.self, at: 52) == 2)
        #expect(bytes.integer(UInt64.self, at: 56) == 1 && bytes[64] == 1 && bytes[65] == 0)
        #expect(bytes.integer(UInt16.self, at: 66) == 4 && bytes.integer(UInt32.self, at: 68) == 0)
        #expect(Array(bytes[72..<76]) == Array("acme".utf8))
        let place = Self.second
        #expect(bytes[place + 8] == 2 && bytes.integer(UInt16.self, at: place + 10) == 10)
        #expect(bytes.integer(UInt32.self, at: place + 12) == 9)
        #expect(Array(bytes[place + 16..<place + 35]) == Array("ümlaut/../mnt/fast".utf8))
        #expect(bytes[Self.account] == 2 && bytes.integer(UInt16.self, at: Self.account + 2) == 4)
        #expect((0..<5).map { bytes.integer(UInt64.self, at: Self.account + 8 + 8 * $0) } == [900, 10, 2000, 5, 7])
        #expect(Array(bytes[Self.account + 48..<Self.account + 52]) == Array("acme".utf8))
        let removal = Self.account + 2 * 52
        #expect(bytes.integer(UInt32.self, at: removal) == 8 && bytes.integer(UInt16.self, at: removal + 4) == 4)
        #expect(Array(bytes[removal + 8..<removal + 20]) == Array("gone/mnt/old".utf8))
        #expect(bytes.integer(UInt32.self, at: removal + 20) == 0 && bytes[removal + 32] == 0 && bytes[4095] == 0)
    }

    @Test func accountsAddUp() {
        var table = Self.sample
        table.add(.init(tenant: "acme", cause: .age, through: 950, total: DropTotal(records: 1, length: 5)))
        table.add(.init(tenant: "acme", cause: nil, through: 700, total: DropTotal(firstReceived: 9)))
        table.add(.init(tenant: "other", cause: .age, through: 1, total: DropTotal(records: 1)))
        #expect(table.accounts.count == 3)
        #expect(table.accounts[0].through == 950 && table.accounts[0].total.records == 11)
        #expect(table.accounts[1].through == 800 && table.accounts[1].total.firstReceived == 3)
    }

    /// Tables longer than a block have copies of several.
    @Test func longTables() throws {
        var table = PlacementTable(logIdentifier: Self.sample.logIdentifier)
        for number in 0..<PlacementTable.mostResidences {
            table.residences.append(
                .init(tenant: try TenantName("tenant \(number)"), home: .dedicated(directory: ""), firstSequence: 1))
        }
        let bytes = table.encoded()
        #expect(bytes.count == 2 * table.copyLength && table.copyLength % 4096 == 0)
        #expect(try decode(bytes) == table)
        table.residences.append(.init(tenant: "one more", home: .dedicated(directory: ""), firstSequence: 1))
        #expect(throws: FormatError.self) { try decode(table.encoded()) }
    }

    @Test func everyFlippedBitIsDetectedAndTheOtherCopyServes() throws {
        var bytes = Self.sample.encoded()
        for bit in 0..<4096 * 8 {
            bytes.flip(bit: bit)
            let served = try? decode(bytes)
            bytes.flip(bit: 4096 * 8 + bit)
            let both = try? decode(bytes)
            bytes.flip(bit: bit)
            let first = try? decode(bytes)
            bytes.flip(bit: 4096 * 8 + bit)
            if served != Self.sample || first != Self.sample || both != nil { Issue.record("bit \(bit)") }
        }
    }

    @Test func fileCutOffAnywhereIsNotMisread() {
        let bytes = Self.sample.encoded()
        for length in 0..<bytes.count {
            if let read = try? decode(Array(bytes.prefix(length))), read != Self.sample {
                Issue.record("\(length) bytes")
            }
        }
    }

    @Test func fieldsOutOfBounds() {
        #expect(cause { _, _ in } == nil)
        #expect(cause { $0.put(FormatLimits.formatVersion + 1, at: $1 + 12) } == .version)
        for length in [0, 2048, 4097, 8192, UInt32.max] as [UInt32] {
            #expect(cause { $0.put(length, at: $1 + 40) } == .field)
        }
        #expect(cause { $0.put(UInt32(5000), at: $1 + 44) } == .field)
        #expect(cause { $0.put(UInt32(9000), at: $1 + 48) } == .field)
        #expect(cause { $0.put(UInt64(0), at: $1 + 56) } == .field)
        #expect(cause { $0.put(FormatLimits.maximumNumber + 1, at: $1 + 56) } == .field)
        for kind in [0, 3, 255] as [UInt8] { #expect(cause { $0[$1 + 64] = kind } == .field) }
        #expect(cause { $0[$1 + 65] = 1 } == .field)
        #expect(cause { $0.put(UInt16(0), at: $1 + 66) } != nil)
        #expect(cause { $0.put(UInt16(256), at: $1 + 66) } == .truncated)
        #expect(cause { $0[$1 + Self.account] = 77 } == .field)
        #expect(cause { $0[$1 + Self.account + 1] = 1 } == .field)
        #expect(cause { $0.put(FormatLimits.maximumNumber + 1, at: $1 + Self.account + 8) } == .field)
        #expect(cause { $0.put(FormatLimits.maximumNumber + 1, at: $1 + Self.account + 16) } == .field)
        #expect(cause { $0.put(UInt16(300), at: $1 + Self.account + 2) } == .truncated)
        #expect(cause { $0.put(UInt32(5000), at: $1 + 52) } == .field)
        #expect(cause { $0.put(UInt16(1), at: $1 + Self.account + 2 * 52 + 6) } == .field)
        #expect(cause { $0.put(UInt32(4000), at: $1 + Self.account + 2 * 52) } == .truncated)
        #expect(cause { $0[$1 + Self.account + 2 * 52 + 12] = UInt8(ascii: "m") } == .field)
        #expect(cause { $0.put(UInt32(4097), at: $1 + Self.second + 12) } == .truncated)
        // A tenant's name that is none, a directory that is no absolute path.
        #expect(cause { $0[$1 + 72] = 0 } == .field)
        #expect(cause { $0[$1 + Self.second + 16 + 10] = UInt8(ascii: "m") } == .field)
        // Numbers that do not grow from one residence to the next.
        #expect(cause { $0.put(UInt64(5001), at: $1 + Self.second + 35) } == .field)
    }
}
