/// The UUID of a log, given at its creation (RFC 9562, version 4). Every file of the log repeats it.
public struct LogIdentifier: Hashable, Sendable, CustomStringConvertible {
    private let high: UInt64
    private let low: UInt64
    /// CRC32C of the 16 bytes: what the checksums of the log's commits begin with.
    let checksum: UInt32

    /// A new random identifier.
    public init(using generator: inout some RandomNumberGenerator) {
        // A copy, since ThreadSanitizer takes all generators without a state of their own for one variable.
        var copy = generator
        high = copy.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        low = copy.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        generator = copy
        var bytes = [UInt8](repeating: 0, count: 16)
        let (high, low) = (high, low)
        checksum = bytes.withMutableRawSpan { span in
            Self.encode(high, low, into: &span, at: 0)
            return CRC32C.checksum(span.bytes)
        }
    }

    /// The identifier whose 16 bytes stand at an offset, in the order in which the text form shows them.
    init(decoding bytes: RawSpan, at offset: Int) {
        high = UInt64(bigEndian: UInt64(littleEndian: bytes.littleEndian(at: offset)))
        low = UInt64(bigEndian: UInt64(littleEndian: bytes.littleEndian(at: offset + 8)))
        checksum = CRC32C.checksum(bytes.extracting(offset..<offset + 16))
    }

    func encode(into bytes: inout MutableRawSpan, at offset: Int) { Self.encode(high, low, into: &bytes, at: offset) }

    private static func encode(_ high: UInt64, _ low: UInt64, into bytes: inout MutableRawSpan, at offset: Int) {
        bytes.storeBytes(of: high.bigEndian, toByteOffset: offset, as: UInt64.self)
        bytes.storeBytes(of: low.bigEndian, toByteOffset: offset + 8, as: UInt64.self)
    }

    /// `xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx`, lowercase.
    public var description: String {
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: digits - text.count) + text
        }
        return [
            hex(high >> 32, 8), hex(high >> 16 & 0xFFFF, 4), hex(high & 0xFFFF, 4), hex(low >> 48, 4),
            hex(low & 0xFFFF_FFFF_FFFF, 12),
        ].joined(separator: "-")
    }
}
