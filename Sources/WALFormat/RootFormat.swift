/// The file `FORMAT` of a log's root: which log this is and how its files are laid out. Stored twice, each copy in a
/// 4,096-byte block of its own whatever the log's block size.
///
/// ```
///  0  8    magic "TWALFMT1"
///  8  u32  checksum: CRC32C of bytes 12 ..< 4096
/// 12  u32  format version
/// 16  16   log UUID
/// 32  u32  block size of journal files, bytes
/// 36  u32  flags: 1: records of the log have been encrypted
/// 40  u64  created, nanoseconds since 1970 (UTC)
/// 48  u16  length of a tenant's name; 0: this is a log. Otherwise it is that tenant's own journal, a part of the log
///          whose UUID it has: see `PlacementTable`
/// 50       the tenant's name
///          zero up to 4096
/// ```
public struct RootFormat: Equatable, Sendable {
    /// Bytes of one copy and of the whole file.
    public static let copyLength = 4096
    public static let fileLength = FormatLimits.headerCopies * copyLength
    private static let encryptedFlag: UInt32 = 1
    private static let magic: UInt64 = 0x3154_4D46_4C41_5754  // "TWALFMT1" read as little-endian

    public var logIdentifier: LogIdentifier
    public var blockSize: Int
    public var created: UInt64
    /// Whether records of the log have been encrypted: without keys nobody appends to it, in the open as that would be.
    public var isEncrypted: Bool {
        get { flags & Self.encryptedFlag != 0 }
        set { flags = newValue ? flags | Self.encryptedFlag : flags & ~Self.encryptedFlag }
    }
    /// Bits that are not known are kept.
    private var flags: UInt32 = 0
    /// Whose own journal this is; nil: it is a log.
    public var tenant: TenantName?

    public init(
        logIdentifier: LogIdentifier, blockSize: Int, created: UInt64, isEncrypted: Bool = false,
        tenant: TenantName? = nil
    ) {
        self.logIdentifier = logIdentifier
        self.blockSize = blockSize
        self.created = created
        self.tenant = tenant
        self.isEncrypted = isEncrypted
    }

    /// The file's bytes.
    public func encoded() -> [UInt8] {
        var array = [UInt8](repeating: 0, count: Self.fileLength)
        array.withMutableRawSpan { (bytes: inout MutableRawSpan) in
            for base in stride(from: 0, to: Self.fileLength, by: Self.copyLength) { encodeCopy(into: &bytes, at: base) }
        }
        return array
    }

    private func encodeCopy(into bytes: inout MutableRawSpan, at base: Int) {
        bytes.store(littleEndian: Self.magic, at: base)
        bytes.store(littleEndian: FormatLimits.formatVersion, at: base + 12)
        logIdentifier.encode(into: &bytes, at: base + 16)
        bytes.store(littleEndian: UInt32(blockSize), at: base + 32)
        bytes.store(littleEndian: flags, at: base + 36)
        bytes.store(littleEndian: created, at: base + 40)
        if let tenant {
            bytes.store(littleEndian: UInt16(tenant.utf8.count), at: base + 48)
            bytes.store(tenant.utf8, at: base + 50)
        }
        let checksum = CRC32C.checksum(bytes.bytes.extracting(base + 12..<base + Self.copyLength))
        bytes.store(littleEndian: checksum, at: base + 8)
    }

    /// Reads the first copy that is whole. Throws `FormatError`: `.version` only where a checksum holds.
    public static func decode(_ bytes: RawSpan) throws(FormatError) -> RootFormat {
        var failure = FormatError(.truncated, "the file is \(bytes.byteCount) bytes long, \(fileLength) expected")
        for base in stride(from: 0, to: fileLength, by: copyLength) where base + copyLength <= bytes.byteCount {
            do { return try decodeCopy(bytes, at: base) } catch {
                if error.cause == .version { throw error }
                failure = error
            }
        }
        throw failure
    }

    /// All copies, nil for each that is not whole.
    public static func copies(in bytes: RawSpan) -> [RootFormat?] {
        stride(from: 0, to: fileLength, by: copyLength).map { base in
            base + copyLength <= bytes.byteCount ? try? decodeCopy(bytes, at: base) : nil
        }
    }

    private static func decodeCopy(_ bytes: RawSpan, at base: Int) throws(FormatError) -> RootFormat {
        guard bytes.littleEndian(UInt64.self, at: base) == magic else {
            throw FormatError(.magic, "it does not begin with TWALFMT1")
        }
        let checksum = CRC32C.checksum(bytes.extracting(base + 12..<base + copyLength))
        guard checksum == bytes.littleEndian(UInt32.self, at: base + 8) else {
            throw FormatError(.checksum, "it fails its CRC32C")
        }
        let version: UInt32 = bytes.littleEndian(at: base + 12)
        guard version == FormatLimits.formatVersion else {
            throw FormatError(.version, "it is of format version \(version)")
        }
        let blockSize = Int(bytes.littleEndian(UInt32.self, at: base + 32))
        guard blockSize >= FormatLimits.defaultBlockSize, blockSize <= FormatLimits.maximumBlockSize,
            blockSize & (blockSize - 1) == 0
        else { throw FormatError(.field, "its block size \(blockSize) is out of bounds") }
        var format = RootFormat(
            logIdentifier: LogIdentifier(decoding: bytes, at: base + 16), blockSize: blockSize,
            created: bytes.littleEndian(at: base + 40), tenant: try tenant(bytes, at: base + 48))
        format.flags = bytes.littleEndian(at: base + 36)
        return format
    }

    private static func tenant(_ bytes: RawSpan, at base: Int) throws(FormatError) -> TenantName? {
        let length = Int(bytes.littleEndian(UInt16.self, at: base))
        if length == 0 { return nil }
        guard length <= FormatLimits.maximumNameLength,
            let name = try? TenantName(utf8: (0..<length).map { bytes.littleEndian(UInt8.self, at: base + 2 + $0) })
        else { throw FormatError(.field, "it has a tenant's name that is not valid") }
        return name
    }
}
