import Testing
import WALFormat

@Suite struct RootFormatTests {
    private static let sample: RootFormat = {
        var generator = SeededGenerator(seed: 5)
        return RootFormat(logIdentifier: LogIdentifier(using: &generator), blockSize: 8192, created: 1_700_000_000)
    }()

    /// Both copies after the same change, with their checksums right again.
    private func cause(_ change: (inout [UInt8], Int) -> Void) -> FormatError.Cause? {
        var bytes = Self.sample.encoded()
        for base in [0, RootFormat.copyLength] {
            change(&bytes, base)
            bytes.seal(base + 12..<base + RootFormat.copyLength, at: base + 8)
        }
        return WALFormatTests.cause { () throws(FormatError) in try decodeRoot(bytes) }
    }

    @Test func roundTrip() throws {
        #expect(Self.sample.encoded().count == 8192)
        #expect(try decodeRoot(Self.sample.encoded()) == Self.sample)
    }

    /// The layout that SPEC.md states, field by field.
    @Test func layout() {
        let bytes = Self.sample.encoded()
        #expect(Array(bytes[..<4096]) == Array(bytes[4096...]))
        #expect(Array(bytes[0..<8]) == Array("TWALFMT1".utf8))
        #expect(bytes.integer(UInt32.self, at: 8) == crc(bytes, 12..<4096))
        #expect(bytes.integer(UInt32.self, at: 12) == 2)
        #expect(bytes.integer(UInt32.self, at: 32) == 8192)
        #expect(bytes.integer(UInt32.self, at: 36) == 0)
        #expect(bytes.integer(UInt64.self, at: 40) == 1_700_000_000)
        #expect(bytes[48..<4096].allSatisfy { $0 == 0 })
    }

    /// Flags that are not known are not looked at, and kept.
    @Test(arguments: [(0, false), (1, true), (2, false), (0xFFFF_FFFF, true)] as [(UInt32, Bool)])
    func flags(_ flags: UInt32, isEncrypted: Bool) throws {
        var bytes = Self.sample.encoded()
        for base in [0, RootFormat.copyLength] {
            bytes.put(flags, at: base + 36)
            bytes.seal(base + 12..<base + RootFormat.copyLength, at: base + 8)
        }
        let format = try decodeRoot(bytes)
        #expect(format.isEncrypted == isEncrypted)
        #expect(format.encoded() == bytes)
        var other = format
        other.isEncrypted.toggle()
        #expect(other.encoded()[36] == UInt8(flags & 0xFF) ^ 1)
    }

    /// One damaged copy does no harm, whichever it is; the same damage in both is noticed. All bits of a copy.
    @Test func everyFlippedBitIsDetectedAndTheOtherCopyServes() throws {
        var bytes = Self.sample.encoded()
        for bit in 0..<RootFormat.copyLength * 8 {
            bytes.flip(bit: bit)
            let served = Result { () throws(FormatError) in try decodeRoot(bytes) }
            bytes.flip(bit: RootFormat.copyLength * 8 + bit)
            let both = WALFormatTests.cause { () throws(FormatError) in try decodeRoot(bytes) }
            bytes.flip(bit: bit)
            let first = Result { () throws(FormatError) in try decodeRoot(bytes) }
            bytes.flip(bit: RootFormat.copyLength * 8 + bit)
            if served != .success(Self.sample) || first != .success(Self.sample) { Issue.record("bit \(bit)") }
            if both != (bit < 64 ? .magic : .checksum) { Issue.record("bit \(bit): \(String(describing: both))") }
        }
    }

    @Test func fileCutOffAnywhereIsNotMisread() {
        let bytes = Self.sample.encoded()
        for length in 0..<RootFormat.copyLength {
            let part = Array(bytes.prefix(length))
            if WALFormatTests.cause({ () throws(FormatError) in try decodeRoot(part) }) != .truncated {
                Issue.record("\(length) bytes")
            }
        }
        // From here on the first copy is whole, and is enough.
        for length in stride(from: RootFormat.copyLength, through: RootFormat.fileLength, by: 64) {
            let part = Array(bytes.prefix(length))
            #expect(WALFormatTests.cause { () throws(FormatError) in try decodeRoot(part) } == nil)
        }
    }

    @Test func zerosAreNeverAFormat() {
        let zeros = [UInt8](repeating: 0, count: 8192)
        #expect(WALFormatTests.cause { () throws(FormatError) in try decodeRoot(zeros) } == .magic)
    }

    @Test func foreignMagic() {
        #expect(cause { $0.replaceSubrange($1..<$1 + 8, with: "TWALFMT2".utf8) } == .magic)
    }

    /// Damage must never pass for a newer version, and a newer version never for damage that the other copy mends.
    @Test func versionIsTrustedOnlyBehindAGoodChecksum() {
        #expect(cause { $0.put(FormatLimits.formatVersion + 1, at: $1 + 12) } == .version)
        #expect(cause { $0.put(UInt32(0), at: $1 + 12) } == .version)
        #expect(cause { if $1 == 0 { $0.put(FormatLimits.formatVersion + 1, at: 12) } } == .version)
        var bytes = Self.sample.encoded()
        for base in [0, 4096] { bytes.put(FormatLimits.formatVersion + 1, at: base + 12) }
        #expect(WALFormatTests.cause { () throws(FormatError) in try decodeRoot(bytes) } == .checksum)
    }

    @Test func blockSize() {
        func cause(_ blockSize: UInt32) -> FormatError.Cause? { self.cause { $0.put(blockSize, at: $1 + 32) } }
        #expect(cause(4096) == nil)
        #expect(cause(2048) == .field)
        #expect(cause(65536) == nil)
        #expect(cause(131_072) == .field)
        for blockSize in [0, 1, 4095, 4097, 6144, 65535, UInt32.max] { #expect(cause(blockSize) == .field) }
    }
}
