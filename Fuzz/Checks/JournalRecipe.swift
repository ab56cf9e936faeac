// How bytes describe a journal. A journal file of random bytes is never more than damage, and a mutated one hardly
// anything else: each structure has a checksum, and each refers to others. So the input is a recipe: a byte of choices,
// and steps that begin files, append commits as the writer would, and then do what disks, crashes and other writers do
// to them. A step is a byte, modulo the number of steps, and its arguments; whatever bytes come, they mean something.

/// What is done to a journal in the making. The raw value is the byte of an input, modulo their number; arguments are
/// bytes if nothing else is said. Indices are taken modulo what there is.
enum JournalStep: UInt8, CaseIterable {
    /// Begins the next file: choices (`JournalBuilder.Beginning`).
    case begin
    /// A commit of records: tenant, count, payload length, choices (`JournalBuilder.Appending`).
    case append
    /// A commit of control records: count; of each record type, subscriber, tenant and a number.
    case control
    /// The commit of a clean close.
    case close
    /// A file that waits for use.
    case spare
    /// Bytes written over: file, block, offset in it (two bytes), count, the bytes.
    case overwrite
    /// Blocks of zeros: file, block, count.
    case zero
    /// Blocks put where they do not belong: file, block, file, block, count.
    case misdirect
    /// A file cut or extended: file, blocks, 1 for a length that is no whole number of blocks.
    case resize
    /// Another name: file, the number in it.
    case rename
    case remove
    /// Blocks that the device fails to read: file, block, count.
    case fail
    /// A field of a commit's header set, its checksum made right: file, commit, field, number.
    case patchCommit
    /// The same in a file's header: file, copies, field, number.
    case patchHeader
    /// The same in a frame's header: file, commit, frame, field, number.
    case patchFrame
    /// A byte of a commit's bodies, checksums made right: file, commit, offset (two bytes), the byte.
    case patchBody
    /// The file `FORMAT`: count, bytes written over its start.
    case overwriteFormat
}

/// Reads a recipe's bytes; behind its end there are zeros.
struct RecipeReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }
    /// What `byte` gives next.
    var upcoming: UInt8 { position < bytes.count ? bytes[position] : 0 }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    /// A byte as an index into so many; nil where there are none.
    mutating func index(below count: Int) -> Int? {
        let value = Int(byte())
        return count > 0 ? value % count : nil
    }

    mutating func pair() -> Int { Int(byte()) | Int(byte()) << 8 }
    mutating func array(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }

    /// Where limits are, one number and its neighbours each.
    private static let edges: [UInt64] = [
        1 << 62, (1 << 62) - 1, (1 << 62) + 1, (1 << 62) - 2, 1 << 63, (1 << 63) - 1, .max, .max - 1,
        1 << 32, (1 << 32) - 1, 1 << 31, 1 << 48, (1 << 48) - 1, 1 << 24, 48 << 20, 1 << 20,
        4096, 8192, 65536, 256 << 10, (256 << 10) - 4096, 16 << 30, (1 << 62) - (1 << 20), 1 << 61,
    ]

    /// A number, small ones and those at limits in one byte.
    mutating func number() -> UInt64 {
        let selector = byte()
        switch selector {
        case ..<192: return UInt64(selector)
        case ..<(192 + UInt8(Self.edges.count)): return Self.edges[Int(selector) - 192]
        case ..<240: return UInt64(selector & 15) << 12
        default: return array(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
    }
}
