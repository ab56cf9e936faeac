/// How a frame's body is stored.
public enum FrameCodec: UInt8, Sendable {
    /// The records as they are.
    case raw = 1
    /// One standard LZ4 frame (lz4_Frame_format.md 1.6.x), readable by the `lz4` tool.
    case lz4 = 2
}

/// The header of a frame: one tenant's records inside a commit. All frame headers of a commit stand together behind
/// the commit's header, all bodies behind them, in the same order.
///
/// ```
///  0  u32  checksum: CRC32C of bytes 4 ..< header length
///  4  u16  header length, bytes, multiple of 8
///  6  u8   kinds, one bit a record kind; 0x80: control
///  7  u8   codec: 1 raw, 2 LZ4 frame
///  8  u64  first sequence number (0 in control frames)
/// 16  u32  record count, at least 1
/// 20  u32  stored body length, bytes
/// 24  u32  raw body length, bytes
/// 28  u32  body checksum: CRC32C of the stored body
/// 32  u64  lowest timestamp, ns
/// 40  u64  highest timestamp, ns
/// 48  u64  key identifier, 0: not encrypted
/// 56  u16  tenant name length, bytes (0 in control frames)
/// 58  u8   1: carried (`CarriedFrame`), in segments only
/// 59  5    zero
/// 64       tenant name, zero-padded to the header length
/// ```
public struct FrameHeader: Equatable, Sendable {
    /// Bytes before the tenant's name.
    public static let fixedLength = 64

    /// Whose records these are; nil in control frames.
    public var tenant: TenantName?
    public var kinds: RecordKindSet
    public var codec: FrameCodec
    /// Sequence number of the first record; the others follow without a gap.
    public var firstSequence: UInt64
    public var recordCount: Int
    public var storedLength: Int
    public var rawLength: Int
    public var bodyChecksum: UInt32
    public var lowestTimestamp: UInt64
    public var highestTimestamp: UInt64
    /// Which key the body is encrypted with (`FrameSeal`); 0: it is not.
    public var keyIdentifier: UInt64
    /// Whether a segment has it as the journal had it (`CarriedFrame`); never in the journal itself.
    public var isCarried: Bool

    public init(
        tenant: TenantName?, kinds: RecordKindSet, codec: FrameCodec, firstSequence: UInt64, recordCount: Int,
        storedLength: Int, rawLength: Int, bodyChecksum: UInt32, lowestTimestamp: UInt64, highestTimestamp: UInt64,
        keyIdentifier: UInt64 = 0, isCarried: Bool = false
    ) {
        self.tenant = tenant
        self.kinds = kinds
        self.codec = codec
        self.firstSequence = firstSequence
        self.recordCount = recordCount
        self.storedLength = storedLength
        self.rawLength = rawLength
        self.bodyChecksum = bodyChecksum
        self.lowestTimestamp = lowestTimestamp
        self.highestTimestamp = highestTimestamp
        self.keyIdentifier = keyIdentifier
        self.isCarried = isCarried
    }

    public var isControl: Bool { kinds == .control }
    /// Whether a key is needed to read the body.
    public var isSealed: Bool { keyIdentifier != 0 }
    /// Sequence number of the last record.
    public var lastSequence: UInt64 { firstSequence + UInt64(recordCount) - 1 }

    /// Bytes of the header of a tenant whose name has so many bytes.
    public static func length(tenantLength: Int) -> Int { (fixedLength + tenantLength).roundedUp(toMultipleOf: 8) }
    /// Bytes of this header.
    public var length: Int { Self.length(tenantLength: tenant?.utf8.count ?? 0) }

    /// Writes the header, checksum included, at an offset. Returns the checksum.
    @discardableResult
    public func encode(into bytes: inout MutableRawSpan, at offset: Int) -> UInt32 {
        let length = self.length
        bytes.zero(offset..<offset + length)
        bytes.store(littleEndian: UInt16(length), at: offset + 4)
        bytes.store(littleEndian: kinds.rawValue, at: offset + 6)
        bytes.store(littleEndian: codec.rawValue, at: offset + 7)
        bytes.store(littleEndian: firstSequence, at: offset + 8)
        bytes.store(littleEndian: UInt32(recordCount), at: offset + 16)
        bytes.store(littleEndian: UInt32(storedLength), at: offset + 20)
        bytes.store(littleEndian: UInt32(rawLength), at: offset + 24)
        bytes.store(littleEndian: bodyChecksum, at: offset + 28)
        bytes.store(littleEndian: lowestTimestamp, at: offset + 32)
        bytes.store(littleEndian: highestTimestamp, at: offset + 40)
        bytes.store(littleEndian: keyIdentifier, at: offset + 48)
        bytes.store(littleEndian: UInt8(isCarried ? 1 : 0), at: offset + 58)
        if let tenant {
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: offset + 56)
            bytes.store(tenant.utf8, at: offset + Self.fixedLength)
        }
        let checksum = CRC32C.checksum(bytes.bytes.extracting(offset + 4..<offset + length))
        bytes.store(littleEndian: checksum, at: offset)
        return checksum
    }

    /// The checksum that stands in bytes which this header was read from.
    public func checksum(in bytes: RawSpan) -> UInt32 { bytes.littleEndian(at: 0) }

    /// Reads and checks the header at an offset.
    public static func decode(_ bytes: RawSpan, at offset: Int) throws(FormatError) -> FrameHeader {
        guard offset >= 0, offset <= bytes.byteCount - fixedLength else {
            throw FormatError(.truncated, "frame header at \(offset) is cut off")
        }
        let length = Int(bytes.littleEndian(UInt16.self, at: offset + 4))
        let tenantLength = Int(bytes.littleEndian(UInt16.self, at: offset + 56))
        guard tenantLength <= FormatLimits.maximumNameLength, length == Self.length(tenantLength: tenantLength),
            offset <= bytes.byteCount - length
        else { throw FormatError(.field, "frame header at \(offset) has impossible lengths") }
        let checksum = CRC32C.checksum(bytes.extracting(offset + 4..<offset + length))
        guard checksum == bytes.littleEndian(UInt32.self, at: offset) else {
            throw FormatError(.checksum, "frame header at \(offset) fails its CRC32C")
        }
        // From here on the bytes are as they were written; what follows guards against a writer's error.
        guard let codec = FrameCodec(rawValue: bytes.littleEndian(UInt8.self, at: offset + 7)) else {
            throw FormatError(.version, "frame header at \(offset) names an unknown codec")
        }
        let kinds = RecordKindSet(rawValue: bytes.littleEndian(UInt8.self, at: offset + 6))
        let tenant: TenantName?
        if kinds == .control, tenantLength == 0 {
            tenant = nil
        } else if !kinds.isEmpty, kinds.isSubset(of: .user),
            let name = try? TenantName(
                utf8: bytes.array(offset + fixedLength..<offset + fixedLength + tenantLength))
        {
            tenant = name
        } else {
            throw FormatError(.field, "frame header at \(offset) has kinds and tenant that do not go together")
        }
        let header = FrameHeader(
            tenant: tenant, kinds: kinds, codec: codec, firstSequence: bytes.littleEndian(at: offset + 8),
            recordCount: Int(bytes.littleEndian(UInt32.self, at: offset + 16)),
            storedLength: Int(bytes.littleEndian(UInt32.self, at: offset + 20)),
            rawLength: Int(bytes.littleEndian(UInt32.self, at: offset + 24)),
            bodyChecksum: bytes.littleEndian(at: offset + 28),
            lowestTimestamp: bytes.littleEndian(at: offset + 32),
            highestTimestamp: bytes.littleEndian(at: offset + 40),
            keyIdentifier: bytes.littleEndian(at: offset + 48),
            isCarried: bytes.littleEndian(UInt8.self, at: offset + 58) == 1)
        let plainLength =
            header.storedLength - (header.isSealed ? FrameSeal.overhead : 0)
            - (header.isCarried ? CarriedFrame.epochLength : 0)
        guard (1...FormatLimits.maximumRecordCount).contains(header.recordCount),
            header.rawLength <= FormatLimits.maximumFrameRawLength,
            header.rawLength >= header.recordCount * RecordHeader.length,
            plainLength >= 1, plainLength <= header.rawLength,
            codec == .lz4 || plainLength == header.rawLength,
            header.isControl == (header.firstSequence == 0), !(header.isControl && header.isSealed),
            bytes.littleEndian(UInt8.self, at: offset + 58) <= (header.isSealed ? 1 : 0),
            header.firstSequence <= FormatLimits.maximumNumber - UInt64(header.recordCount)
        else { throw FormatError(.field, "frame header at \(offset) has fields out of bounds") }
        return header
    }
}
