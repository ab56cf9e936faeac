import CWALLinux

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4): polynomial 0x1EDC6F41 reflected, initial value and final
/// exclusive-or 0xFFFFFFFF. By the CPU's instruction where there is one (SSE4.2, ARMv8), which is asked at run
/// time, and by tables of eight bytes a step otherwise.
public enum CRC32C {
    /// The checksum of a span of bytes; `behind` is that of bytes which stand before them and count, too. About
    /// 10 GB/s by the instruction, 1 to 2 GB/s by the table.
    @inlinable
    public static func checksum(_ bytes: RawSpan, behind: UInt32 = 0) -> UInt32 {
        hasInstruction ? checksumByInstruction(bytes, behind: behind) : checksumByTable(bytes, behind: behind)
    }

    /// Whether this CPU computes CRC32C itself.
    public static let hasInstruction = cwal_crc32c_instruction_available()

    @usableFromInline
    static func checksumByInstruction(_ bytes: RawSpan, behind: UInt32) -> UInt32 {
        unsafe bytes.withUnsafeBytes { buffer in
            unsafe ~cwal_crc32c_instruction(~behind, buffer.baseAddress, buffer.count)
        }
    }

    /// The same by tables, on any CPU.
    @usableFromInline
    package static func checksumByTable(_ bytes: RawSpan, behind: UInt32 = 0) -> UInt32 {
        var state = ~behind
        var offset = 0
        while offset + 8 <= bytes.byteCount {
            let word = bytes.littleEndian(UInt64.self, at: offset) ^ UInt64(state)
            state = 0
            for step in 0..<8 {
                state ^= tables[(7 - step) * 256 + Int(truncatingIfNeeded: word >> UInt64(8 * step)) & 0xFF]
            }
            offset += 8
        }
        while offset < bytes.byteCount {
            state = state >> 8 ^ tables[Int((state ^ UInt32(bytes.littleEndian(UInt8.self, at: offset))) & 0xFF)]
            offset += 1
        }
        return ~state
    }

    /// Eight tables of 256 entries: table n holds the effect of a byte n places before the end of a step.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
            tables[byte] = value
        }
        for index in 256..<tables.count {
            let shorter = tables[index - 256]
            tables[index] = shorter >> 8 ^ tables[Int(shorter & 0xFF)]
        }
        return tables
    }()
}
