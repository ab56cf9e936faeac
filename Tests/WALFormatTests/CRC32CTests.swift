import Testing
import WALFormat

@Suite struct CRC32CTests {
    /// RFC 3720, appendix B.4, and the check value that catalogues of CRCs give.
    private static let published: [(bytes: [UInt8], checksum: UInt32)] = [
        ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
        ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
        (Array(0...31), 0x46DD_794E),
        (Array((0...31).reversed()), 0x113F_DB5C),
        (iSCSIRead, 0xD996_3A56),
        (Array("123456789".utf8), 0xE306_9283),
        ([], 0),
    ]

    /// An iSCSI SCSI Read (10) command PDU.
    private static let iSCSIRead: [UInt8] = [
        0x01, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
        0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ]

    @Test func publishedVectorsComeOut() {
        for (bytes, checksum) in Self.published {
            #expect(crc(bytes) == checksum)
            #expect(crcByTable(bytes, 0..<bytes.count) == checksum)
        }
    }

    @Test func goesOnBehindWhatStandsBefore() {
        var generator = SeededGenerator(seed: 2)
        let bytes = generator.bytes(64)
        for length in 0...64 {
            let behind = crc(bytes, 0..<length)
            #expect(crc(bytes, length..<64, behind: behind) == crc(bytes))
            #expect(crcByTable(bytes, length..<64, behind: behind) == crc(bytes))
        }
    }

    /// On a CPU without the instruction both sides are the table; the published vectors still hold it.
    @Test func instructionAndTableAgreeAtEveryLengthAndAlignment() {
        var generator = SeededGenerator(seed: 1)
        let bytes = generator.bytes(320)
        for start in 0..<8 {
            for length in 0...300 {
                let range = start..<start + length
                #expect(crc(bytes, range) == crcByTable(bytes, range), "\(range)")
            }
        }
    }

    @Test func instructionAndTableAgreeOnAMebibyte() {
        let bytes = compressibleBytes(1 << 20)
        #expect(crc(bytes) == crcByTable(bytes, 0..<bytes.count))
    }

    @Test func checksumDependsOnTheBytesAlone() {
        var generator = SeededGenerator(seed: 2)
        let bytes = generator.bytes(100)
        let checksum = crc(bytes)
        for shift in 0..<16 {
            let moved = [UInt8](repeating: 0xAA, count: shift) + bytes + [1, 2, 3]
            #expect(crc(moved, shift..<shift + 100) == checksum)
        }
    }

    /// What makes a CRC worth having: no single flipped bit goes unnoticed, wherever it is.
    @Test func everyFlippedBitOfABlockChangesTheChecksum() {
        var bytes = compressibleBytes(4096)
        let checksum = crc(bytes)
        for bit in 0..<bytes.count * 8 {
            bytes.flip(bit: bit)
            if crc(bytes) == checksum { Issue.record("bit \(bit)") }
            bytes.flip(bit: bit)
        }
    }
}
