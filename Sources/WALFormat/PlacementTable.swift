/// The file `PLACEMENTS` of a log's root: which tenants have, or had, a journal of their own, and from which number on. It
/// is there once a tenant was placed. Stored twice, one copy behind the other; replaced whole with each change.
///
/// ```
///  0  8    magic "TWALPLC1"
///  8  u32  checksum: CRC32C of bytes 12 ..< length
/// 12  u32  format version
/// 16  16   log UUID
/// 32  u64  generation: one more with each change
/// 40  u32  length of a copy, bytes: a multiple of 4096
/// 44  u32  residences that follow
/// 48  u32  accounts that follow these
/// 52  u32  removals that follow these
/// 56       residences, each:
///            0  u64  first sequence number
///            8  u8   1: in the shared journal, 2: in one of its own
///            9  u8   zero
///           10  u16  length of the tenant's name
///           12  u32  length of the directory; 0: the one below `dedicated/` that is named after the tenant
///           16       tenant's name, directory
///          accounts, each:
///            0  u8   cause of drops; 0: the tenant was erased
///            1  u8   zero
///            2  u16  length of the tenant's name
///            4  u32  zero
///            8  u64  dropped, or erased, through
///           16       `DropTotal`; of an erasure only the time of the request, as the first one received
///           48       tenant's name
///          removals, each:
///            0  u32  length of the directory, as in a residence
///            4  u16  length of the tenant's name
///            6  u16  zero
///            8       tenant's name, directory
///          zero up to length
/// ```
///
/// Accounts are of journals that were removed: what had been dropped there of the tenant stays counted. Removals are
/// journals that are no part of the log any more, and whose files may still be there.
///
/// A tenant that is not in it was always in the shared journal. One that is has all its residences there, in the order of
/// their first numbers; the last is where its records are appended now.
public struct PlacementTable: Equatable, Sendable {
    /// Where a tenant's records are appended.
    public enum Home: Hashable, Sendable {
        /// The journal at the log's root, which all tenants share that have none of their own.
        case shared
        /// A journal of its own: in a directory named after the tenant for "", or in the one at an absolute path.
        case dedicated(directory: String)
    }

    /// A tenant's records from a number on are in one place, up to the first number of its next residence.
    public struct Residence: Equatable, Sendable {
        public var tenant: TenantName
        public var home: Home
        public var firstSequence: UInt64

        public init(tenant: TenantName, home: Home, firstSequence: UInt64) {
            self.tenant = tenant
            self.home = home
            self.firstSequence = firstSequence
        }
    }

    /// What was dropped of a tenant, or erased, in a journal of its own that was removed.
    public struct Account: Equatable, Sendable {
        public var tenant: TenantName
        /// nil: the tenant was erased.
        public var cause: DropCause?
        public var through: UInt64
        public var total: DropTotal

        public init(tenant: TenantName, cause: DropCause?, through: UInt64, total: DropTotal) {
            self.tenant = tenant
            self.cause = cause
            self.through = through
            self.total = total
        }
    }

    /// A journal of a tenant's own whose files are to be removed.
    public struct Removal: Hashable, Sendable {
        public var tenant: TenantName
        public var directory: String

        public init(tenant: TenantName, directory: String) {
            self.tenant = tenant
            self.directory = directory
        }
    }

    /// Copies are multiples of this many bytes.
    public static let blockLength = 4096
    /// Most bytes of a copy.
    public static let maximumLength = 1 << 20
    /// Most residences, of all tenants together.
    public static let mostResidences = 4096
    /// Most accounts.
    public static let mostAccounts = 8192
    /// Most bytes of a directory's path.
    public static let maximumDirectoryLength = 4096
    private static let magic: UInt64 = 0x3143_4C50_4C41_5754  // "TWALPLC1" read as little-endian
    private static let headerLength = 56
    private static let residenceLength = 16
    private static let accountLength = 48
    private static let removalLength = 8

    public var logIdentifier: LogIdentifier
    public var generation: UInt64
    public var residences: [Residence]
    public var accounts: [Account]
    public var removals: [Removal]

    public init(
        logIdentifier: LogIdentifier, generation: UInt64 = 0, residences: [Residence] = [], accounts: [Account] = [],
        removals: [Removal] = []
    ) {
        self.logIdentifier = logIdentifier
        self.generation = generation
        self.residences = residences
        self.accounts = accounts
        self.removals = removals
    }

    /// Of tenants that have moved since an earlier table was written, the first number that they have where they were not
    /// then.
    public func firstSequences(notIn earlier: PlacementTable) -> [TenantName: UInt64] {
        var first: [TenantName: UInt64] = [:]
        for residence in residences where first[residence.tenant] == nil {
            let last =
                earlier.residences.last { $0.tenant == residence.tenant }
                ?? Residence(tenant: residence.tenant, home: .shared, firstSequence: 1)
            let isNew =
                residence.firstSequence > last.firstSequence
                || (residence.firstSequence == last.firstSequence && residence.home != last.home)
            if isNew { first[residence.tenant] = residence.firstSequence }
        }
        return first
    }

    /// Adds what was dropped in a journal to the tenant's account.
    public mutating func add(_ account: Account) {
        guard let place = accounts.firstIndex(where: { $0.tenant == account.tenant && $0.cause == account.cause })
        else { return accounts.append(account) }
        let before = accounts[place]
        accounts[place].through = max(before.through, account.through)
        if account.cause != nil {
            accounts[place].total = before.total.adding(account.total)
        } else if account.through >= before.through {
            accounts[place].total = account.total
        }
    }

    /// A tenant's residences, the present one last; empty for one that was always in the shared journal.
    public func residences(of tenant: TenantName) -> [Residence] { residences.filter { $0.tenant == tenant } }

    /// The last number that a residence can have; nil for a tenant's last one.
    public func lastSequence(of residence: Residence) -> UInt64? {
        let next = residences.first { $0.tenant == residence.tenant && $0.firstSequence > residence.firstSequence }
        return next.map { $0.firstSequence - 1 }
    }

    // MARK: - Bytes

    /// Bytes of a copy; too many of them if above `maximumLength`.
    public var copyLength: Int {
        let length =
            residences.reduce(Self.headerLength) {
                $0 + Self.residenceLength + $1.tenant.utf8.count + $1.home.directory.utf8.count
            } + accounts.reduce(0) { $0 + Self.accountLength + $1.tenant.utf8.count }
            + removals.reduce(0) { $0 + Self.removalLength + $1.tenant.utf8.count + $1.directory.utf8.count }
        return (length + Self.blockLength - 1) / Self.blockLength * Self.blockLength
    }

    /// The file's bytes.
    public func encoded() -> [UInt8] {
        let length = copyLength
        var copy = [UInt8](repeating: 0, count: length)
        copy.withMutableRawSpan { (bytes: inout MutableRawSpan) in
            bytes.store(littleEndian: Self.magic, at: 0)
            bytes.store(littleEndian: FormatLimits.formatVersion, at: 12)
            logIdentifier.encode(into: &bytes, at: 16)
            bytes.store(littleEndian: generation, at: 32)
            bytes.store(littleEndian: UInt32(length), at: 40)
            bytes.store(littleEndian: UInt32(residences.count), at: 44)
            bytes.store(littleEndian: UInt32(accounts.count), at: 48)
            bytes.store(littleEndian: UInt32(removals.count), at: 52)
            var place = Self.headerLength
            for residence in residences {
                let directory = Array(residence.home.directory.utf8)
                bytes.store(littleEndian: residence.firstSequence, at: place)
                bytes.store(littleEndian: UInt8(residence.home == .shared ? 1 : 2), at: place + 8)
                bytes.store(littleEndian: UInt16(residence.tenant.utf8.count), at: place + 10)
                bytes.store(littleEndian: UInt32(directory.count), at: place + 12)
                place += Self.residenceLength
                bytes.store(residence.tenant.utf8 + directory, at: place)
                place += residence.tenant.utf8.count + directory.count
            }
            for account in accounts {
                bytes.store(littleEndian: account.cause?.rawValue ?? 0, at: place)
                bytes.store(littleEndian: UInt16(account.tenant.utf8.count), at: place + 2)
                bytes.store(littleEndian: account.through, at: place + 8)
                account.total.encode(into: &bytes, at: place + 16)
                bytes.store(account.tenant.utf8, at: place + Self.accountLength)
                place += Self.accountLength + account.tenant.utf8.count
            }
            for removal in removals {
                let name = removal.tenant.utf8 + Array(removal.directory.utf8)
                bytes.store(littleEndian: UInt32(removal.directory.utf8.count), at: place)
                bytes.store(littleEndian: UInt16(removal.tenant.utf8.count), at: place + 4)
                bytes.store(name, at: place + Self.removalLength)
                place += Self.removalLength + name.count
            }
            bytes.store(littleEndian: CRC32C.checksum(bytes.bytes.extracting(12..<length)), at: 8)
        }
        return copy + copy
    }

    /// Reads the first copy that is whole. Throws `FormatError`: `.version` only where a checksum holds.
    public static func decode(_ bytes: RawSpan) throws(FormatError) -> PlacementTable {
        var failure = FormatError(.truncated, "the file is \(bytes.byteCount) bytes long")
        // Copies are alike: the second begins in the middle, whatever the first one says.
        for base in [0, bytes.byteCount / 2] where bytes.byteCount - base >= blockLength {
            do { return try decodeCopy(bytes.extracting(base..<bytes.byteCount)) } catch {
                if error.cause == .version { throw error }
                failure = error
            }
        }
        throw failure
    }

    private static func decodeCopy(_ bytes: RawSpan) throws(FormatError) -> PlacementTable {
        guard bytes.littleEndian(UInt64.self, at: 0) == magic else {
            throw FormatError(.magic, "it does not begin with TWALPLC1")
        }
        let length = Int(bytes.littleEndian(UInt32.self, at: 40))
        guard length >= blockLength, length <= min(bytes.byteCount, maximumLength), length % blockLength == 0 else {
            throw FormatError(.field, "its length \(length) is out of bounds")
        }
        let checksum = CRC32C.checksum(bytes.extracting(12..<length))
        guard checksum == bytes.littleEndian(UInt32.self, at: 8) else {
            throw FormatError(.checksum, "it fails its CRC32C")
        }
        let version: UInt32 = bytes.littleEndian(at: 12)
        guard version == FormatLimits.formatVersion else {
            throw FormatError(.version, "it is of format version \(version)")
        }
        var table = PlacementTable(
            logIdentifier: LogIdentifier(decoding: bytes, at: 16), generation: bytes.littleEndian(at: 32))
        var place = headerLength
        let count = Int(bytes.littleEndian(UInt32.self, at: 44))
        guard count <= mostResidences else { throw FormatError(.field, "it has \(count) residences") }
        for _ in 0..<count {
            guard place + residenceLength <= length else { throw FormatError(.truncated, "its residences are cut off") }
            let residence = try decodeResidence(bytes.extracting(place..<length), at: &place)
            if let before = table.residences.last(where: { $0.tenant == residence.tenant }),
                before.firstSequence >= residence.firstSequence || before.home == residence.home
            {
                throw FormatError(.field, "residences of tenant \(residence.tenant) are not in order")
            }
            table.residences.append(residence)
        }
        let accounts = Int(bytes.littleEndian(UInt32.self, at: 48))
        guard accounts <= mostAccounts else { throw FormatError(.field, "it has \(accounts) accounts") }
        for _ in 0..<accounts {
            guard place + accountLength <= length else { throw FormatError(.truncated, "its accounts are cut off") }
            table.accounts.append(try decodeAccount(bytes.extracting(place..<length), at: &place))
        }
        let removals = Int(bytes.littleEndian(UInt32.self, at: 52))
        guard removals <= mostResidences else { throw FormatError(.field, "it has \(removals) removals") }
        for _ in 0..<removals {
            guard place + removalLength <= length else { throw FormatError(.truncated, "its removals are cut off") }
            let bytes = bytes.extracting(place..<length)
            let directoryLength = Int(bytes.littleEndian(UInt32.self, at: 0))
            let (tenant, directory) = try decodeNames(
                bytes, at: removalLength, Int(bytes.littleEndian(UInt16.self, at: 4)), directoryLength)
            guard bytes.littleEndian(UInt16.self, at: 6) == 0 else {
                throw FormatError(.field, "a removal has fields out of bounds")
            }
            table.removals.append(Removal(tenant: tenant, directory: directory))
            place += removalLength + tenant.utf8.count + directoryLength
        }
        return table
    }

    /// A tenant's name, and the path of a directory behind it.
    private static func decodeNames(
        _ bytes: RawSpan, at base: Int, _ nameLength: Int, _ directoryLength: Int
    ) throws(FormatError) -> (TenantName, String) {
        let end = base + nameLength + directoryLength
        guard nameLength <= FormatLimits.maximumNameLength, directoryLength <= maximumDirectoryLength,
            end <= bytes.byteCount
        else { throw FormatError(.truncated, "a name is cut off") }
        func text(_ range: Range<Int>) -> [UInt8] { range.map { bytes.littleEndian(UInt8.self, at: $0) } }
        guard let tenant = try? TenantName(utf8: text(base..<base + nameLength)) else {
            throw FormatError(.field, "a tenant's name is not valid")
        }
        let path = text(base + nameLength..<end)
        guard !path.contains(0), let directory = String(validating: path, as: UTF8.self),
            directory.isEmpty || directory.hasPrefix("/")
        else { throw FormatError(.field, "the directory of tenant \(tenant) is no absolute path") }
        return (tenant, directory)
    }

    private static func decodeAccount(_ bytes: RawSpan, at place: inout Int) throws(FormatError) -> Account {
        let code: UInt8 = bytes.littleEndian(at: 0)
        let nameLength = Int(bytes.littleEndian(UInt16.self, at: 2))
        let through: UInt64 = bytes.littleEndian(at: 8)
        guard nameLength <= FormatLimits.maximumNameLength, accountLength + nameLength <= bytes.byteCount else {
            throw FormatError(.truncated, "an account is cut off")
        }
        let name = (0..<nameLength).map { bytes.littleEndian(UInt8.self, at: accountLength + $0) }
        let cause = DropCause(rawValue: code)
        guard let tenant = try? TenantName(utf8: name), cause != nil || code == 0,
            bytes.littleEndian(UInt8.self, at: 1) == 0, bytes.littleEndian(UInt32.self, at: 4) == 0,
            through <= FormatLimits.maximumNumber
        else { throw FormatError(.field, "an account has fields out of bounds") }
        place += accountLength + nameLength
        return Account(
            tenant: tenant, cause: cause, through: through, total: try DropTotal.decode(bytes, at: 16))
    }

    private static func decodeResidence(
        _ bytes: RawSpan, at place: inout Int
    ) throws(FormatError) -> Residence {
        let first: UInt64 = bytes.littleEndian(at: 0)
        let kind: UInt8 = bytes.littleEndian(at: 8)
        let reserved: UInt8 = bytes.littleEndian(at: 9)
        let nameLength = Int(bytes.littleEndian(UInt16.self, at: 10))
        let directoryLength = Int(bytes.littleEndian(UInt32.self, at: 12))
        guard first >= 1, first <= FormatLimits.maximumNumber, reserved == 0, kind == 1 || kind == 2,
            kind == 2 || directoryLength == 0
        else { throw FormatError(.field, "a residence has fields out of bounds") }
        let (tenant, directory) = try decodeNames(bytes, at: residenceLength, nameLength, directoryLength)
        place += residenceLength + nameLength + directoryLength
        return Residence(
            tenant: tenant, home: kind == 1 ? .shared : .dedicated(directory: directory), firstSequence: first)
    }
}

extension PlacementTable.Home {
    /// As the file has it; "" for the shared journal.
    package var directory: String {
        switch self {
        case .shared: ""
        case .dedicated(let directory): directory
        }
    }
}
