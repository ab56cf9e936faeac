import Glibc
import WALFormat

/// A disk and its file system in memory. What programs see (`content`, `entries`) and what a loss of power leaves
/// (`stable`, `stableEntries`) are kept apart; between them lie writes and directory changes in the order in which they
/// were made, of which a loss of power keeps any part.
///
/// The model is the worst that POSIX and a disk with a volatile cache allow: a durable write makes itself durable and
/// nothing else; a sync of a file its data, not its name; a sync of a directory the names in it.
final class SimulatedDisk {
    /// Sectors are written whole or not at all.
    static let sectorSize = 512

    /// Bytes that were written and are not durable.
    struct Bytes {
        var offset: Int
        var bytes: [UInt8]

        var range: Range<Int> { offset..<offset + bytes.count }
    }

    /// A write that is on its way.
    final class Write {
        let inode: Inode
        let offset: Int
        let bytes: [UInt8]

        init(inode: Inode, offset: Int, bytes: [UInt8]) {
            self.inode = inode
            self.offset = offset
            self.bytes = bytes
        }

        var written: Bytes { Bytes(offset: offset, bytes: bytes) }

        /// Whether a buffer is still what it was when the write began.
        func holds(_ buffer: UnsafeRawBufferPointer) -> Bool {
            bytes.withUnsafeBytes {
                $0.count == buffer.count && memcmp($0.baseAddress!, buffer.baseAddress!, $0.count) == 0
            }
        }
    }

    final class Inode {
        let number: Int
        let isDirectory: Bool
        var content: [UInt8] = []
        var stable: [UInt8] = []
        /// Done and not durable, in order.
        var pending: [Bytes] = []
        /// Whether it has a name, and the last one that it had.
        fileprivate(set) var isLinked = true
        fileprivate(set) var path = ""
        /// The open file that holds the lock.
        var lockHolder: Int?
        /// Where media faults changed what was written, until it is written again.
        var damage: [Range<Int>] = []
        /// Zeros were written over some of it: an erasure does, and what stood there is still lost.
        fileprivate(set) var hidesDamage = false
        /// What the disk cannot read any more, until it is written again.
        fileprivate(set) var unreadable: [Range<Int>] = []

        func isUnreadable(_ range: Range<Int>) -> Bool { unreadable.contains { $0.overlaps(range) } }

        init(number: Int, isDirectory: Bool) {
            self.number = number
            self.isDirectory = isDirectory
        }
    }

    enum DirectoryChange {
        case link(String, Inode)
        case unlink(String)
        case rename(String, String, Inode)

        var paths: [String] {
            switch self {
            case .link(let path, _), .unlink(let path): [path]
            case .rename(let from, let to, _): [from, to]
            }
        }
    }

    /// By path, as programs see it.
    private(set) var entries: [String: Inode] = [:]
    private var stableEntries: [String: Inode] = [:]
    private var changes: [DirectoryChange] = []
    private var inFlight: [Write] = []
    private var nextInode = 1
    /// Bytes that all files together may take.
    var capacity: Int
    /// Told of the places where the disk breaks its word, before it does or, about a write, after.
    var onDamage: ((Inode, Range<Int>) -> Void)?

    init(capacity: Int) {
        self.capacity = capacity
        let root = Inode(number: 0, isDirectory: true)
        entries["/"] = root
        stableEntries["/"] = root
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    // MARK: - Names

    func make(_ path: String, isDirectory: Bool) -> Inode {
        let inode = Inode(number: nextInode, isDirectory: isDirectory)
        nextInode += 1
        inode.path = path
        entries[path] = inode
        changes.append(.link(path, inode))
        return inode
    }

    func unlink(_ path: String) {
        entries[path]?.isLinked = false
        entries[path] = nil
        changes.append(.unlink(path))
    }

    func rename(_ from: String, to: String) {
        guard let inode = entries[from] else { return }
        entries[from] = nil
        entries[to]?.isLinked = false
        entries[to] = inode
        inode.isLinked = true
        inode.path = to
        changes.append(.rename(from, to, inode))
    }

    func names(in directory: String) -> [String] {
        let prefix = directory == "/" ? "/" : directory + "/"
        return entries.keys.filter { $0.hasPrefix(prefix) && $0.count > prefix.count }
            .map { String($0.dropFirst(prefix.count)) }.filter { !$0.contains("/") }.sorted()
    }

    /// Makes the names in a directory durable.
    func synchronizeNames(in directory: String) {
        var left: [DirectoryChange] = []
        for change in changes {
            if change.paths.contains(where: { Self.parent(of: $0) == directory }) {
                apply(change)
            } else {
                left.append(change)
            }
        }
        changes = left
    }

    private func apply(_ change: DirectoryChange) {
        switch change {
        case .link(let path, let inode): stableEntries[path] = inode
        case .unlink(let path): stableEntries[path] = nil
        case .rename(let from, let to, let inode):
            stableEntries[from] = nil
            stableEntries[to] = inode
        }
    }

    // MARK: - Bytes

    var usedBytes: Int { entries.values.reduce(0) { $0 + $1.content.count } }

    /// Makes a file longer; the new bytes read as zeros. Its length is durable when its data next is.
    func extend(_ inode: Inode, to size: Int) {
        if inode.content.count < size { inode.content += repeatElement(0, count: size - inode.content.count) }
    }

    func cut(_ inode: Inode, to size: Int) {
        if inode.content.count > size { inode.content.removeLast(inode.content.count - size) }
    }

    /// A write begins: from now on a loss of power may leave any part of it.
    func begin(_ inode: Inode, offset: Int, bytes: [UInt8]) -> Write {
        let write = Write(inode: inode, offset: offset, bytes: bytes)
        inFlight.append(write)
        return write
    }

    /// A write ends; a part of it may be all that is done, in sectors counted from its first byte.
    func end(_ write: Write, isDurable: Bool, keeping sectors: ((Int) -> Bool)? = nil) {
        inFlight.removeAll { $0 === write }
        let inode = write.inode
        extend(inode, to: write.offset + write.bytes.count)
        Self.copy(write.written, into: &inode.content, keeping: sectors)
        if isDurable {
            Self.grow(&inode.stable, to: inode.content.count)
            Self.copy(write.written, into: &inode.stable, keeping: sectors)
            // What lies under it can no longer come back.
            if !inode.pending.isEmpty { inode.pending = inode.pending.flatMap { Self.without(write.written, $0) } }
        } else if let sectors {
            // What a read does not show now will not come up later either.
            inode.pending += Self.kept(of: write.written, sectors)
        } else {
            inode.pending.append(write.written)
        }
        let range = write.written.range
        if !inode.damage.isEmpty {
            for place in inode.damage where place.overlaps(range) {
                let covered = place.clamped(to: range)
                let bytes = write.bytes[covered.lowerBound - write.offset..<covered.upperBound - write.offset]
                if bytes.allSatisfy({ $0 == 0 }) { inode.hidesDamage = true }
            }
            inode.damage = inode.damage.flatMap { Self.without(range, $0) }
        }
        // A sector that was written is another one: the disk has some to spare.
        if !inode.unreadable.isEmpty { inode.unreadable = inode.unreadable.flatMap { Self.without(range, $0) } }
    }

    /// The parts of a write that some sectors hold.
    private static func kept(of write: Bytes, _ sectors: (Int) -> Bool) -> [Bytes] {
        stride(from: 0, to: write.bytes.count, by: sectorSize).filter { sectors($0 / sectorSize) }.map {
            Bytes(offset: write.offset + $0, bytes: Array(write.bytes[$0..<min($0 + sectorSize, write.bytes.count)]))
        }
    }

    /// What of a pending write a durable one does not cover.
    private static func without(_ durable: Bytes, _ pending: Bytes) -> [Bytes] {
        let parts = without(durable.range, pending.range)
        if parts == [pending.range] { return [pending] }
        return parts.map {
            Bytes(
                offset: $0.lowerBound,
                bytes: Array(pending.bytes[$0.lowerBound - pending.offset..<$0.upperBound - pending.offset]))
        }
    }

    private static func without(_ hole: Range<Int>, _ range: Range<Int>) -> [Range<Int>] {
        if !hole.overlaps(range) { return [range] }
        var parts: [Range<Int>] = []
        if range.lowerBound < hole.lowerBound { parts.append(range.lowerBound..<hole.lowerBound) }
        if hole.upperBound < range.upperBound { parts.append(hole.upperBound..<range.upperBound) }
        return parts
    }

    /// Makes a file's data durable, and its length.
    func synchronize(_ inode: Inode) {
        inode.pending = []
        inode.stable = inode.content
    }

    /// A sync that fails: some of what was written reaches the disk, and nobody remembers the rest, as Linux does.
    func failSynchronize(_ inode: Inode, random: inout SimulationRandom) {
        Self.grow(&inode.stable, to: inode.content.count)
        for write in inode.pending {
            let draws = random.next()
            Self.copy(write, into: &inode.stable) { (draws >> UInt64($0 & 63)) & 1 == 0 }
        }
        inode.pending = []
    }

    private static func grow(_ bytes: inout [UInt8], to size: Int) {
        if bytes.count < size { bytes += repeatElement(0, count: size - bytes.count) }
    }

    private static func copy(_ write: Bytes, into target: inout [UInt8], keeping sectors: ((Int) -> Bool)?) {
        guard let sectors else {
            target.replaceSubrange(write.range, with: write.bytes)
            return
        }
        var done = 0
        while done < write.bytes.count {
            let length = min(sectorSize - (write.offset + done) % sectorSize, write.bytes.count - done)
            if sectors(done / sectorSize) {
                target.replaceSubrange(
                    write.offset + done..<write.offset + done + length, with: write.bytes[done..<done + length])
            }
            done += length
        }
    }

    // MARK: - The end of a process, or of power

    /// The process is killed: what it wrote is there, and of what was on its way any part.
    func kill(random: inout SimulationRandom) {
        for write in inFlight {
            let draws = random.below(3) == 0 ? UInt64(0) : random.below(2) == 0 ? .max : random.next()
            if draws != .max { end(write, isDurable: false) { (draws >> UInt64($0 & 63)) & 1 == 0 } }
        }
        inFlight = []
        for inode in entries.values { inode.lockHolder = nil }
    }

    /// The power goes: what was not durable is kept, lost or torn; whatever is left is what the disk holds from now on.
    func cutPower(random: inout SimulationRandom) {
        var inodes: [Int: Inode] = [:]
        for inode in entries.values { inodes[inode.number] = inode }
        for inode in stableEntries.values { inodes[inode.number] = inode }
        for change in changes {
            switch change {
            case .link(_, let inode), .rename(_, _, let inode): inodes[inode.number] = inode
            case .unlink: break
            }
        }
        // All is lost, all is kept, or anything between.
        let mood = random.below(4)
        func draws() -> UInt64 {
            switch mood {
            case 0: .max
            case 1: 0
            default: random.below(3) == 0 ? 0 : random.below(3) == 0 ? .max : random.next()
            }
        }
        for inode in inodes.values.sorted(by: { $0.number < $1.number }) {
            if inode.stable.count != inode.content.count, random.below(2) == 0 {
                Self.grow(&inode.stable, to: inode.content.count)
                if inode.stable.count > inode.content.count {
                    inode.stable.removeLast(inode.stable.count - inode.content.count)
                }
            }
            for write in inode.pending + inFlight.filter({ $0.inode === inode }).map(\.written) {
                let draws = draws()
                let size = inode.stable.count
                let fits = write.offset + write.bytes.count <= size
                guard draws != .max, fits || random.below(2) == 0 else { continue }
                Self.grow(&inode.stable, to: write.offset + write.bytes.count)
                Self.copy(write, into: &inode.stable) { (draws >> UInt64($0 & 63)) & 1 == 0 }
            }
            inode.pending = []
            inode.content = inode.stable
            inode.lockHolder = nil
        }
        inFlight = []
        // A journalling file system keeps directory changes in order, others any of them.
        if random.below(2) == 0 {
            for change in changes.prefix(random.below(changes.count + 1)) { apply(change) }
        } else {
            for change in changes where random.below(2) == 0 { apply(change) }
        }
        changes = []
        // A name whose directory is not there is not there.
        for path in stableEntries.keys.sorted(by: { $0.count < $1.count }) where path != "/" {
            if stableEntries[Self.parent(of: path)] == nil { stableEntries[path] = nil }
        }
        for inode in inodes.values { inode.isLinked = false }
        entries = stableEntries
        for (path, inode) in entries {
            inode.isLinked = true
            inode.path = path
        }
    }

    /// Differs if any byte of any file does; the lock file, which holds the real process's number, left out.
    var fingerprint: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for (path, inode) in entries.sorted(by: { $0.key < $1.key }) where !path.hasSuffix("/LOCK") {
            for byte in path.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
            let checksum = inode.content.withUnsafeBytes { CRC32C.checksum(RawSpan(_unsafeBytes: $0)) }
            hash = (hash ^ UInt64(checksum)) &* 0x100_0000_01B3
        }
        return hash
    }

    // MARK: - Media faults

    /// Changes bytes that were written, without anybody's knowledge.
    func damage(_ inode: Inode, _ range: Range<Int>, with bytes: (Int) -> UInt8) {
        onDamage?(inode, range)
        for position in range {
            let byte = bytes(position)
            inode.content[position] = byte
            if position < inode.stable.count { inode.stable[position] = byte }
        }
        inode.damage.append(range)
    }

    /// Loses what sectors hold, and says so to whoever reads them.
    func makeUnreadable(_ inode: Inode, _ range: Range<Int>) {
        onDamage?(inode, range)
        inode.unreadable.append(range)
        inode.damage.append(range)
    }

    /// A write that was acknowledged was not done, or not all of it.
    func noteLost(_ write: Write) {
        write.inode.damage.append(write.written.range)
        onDamage?(write.inode, write.written.range)
    }

    /// Changes a byte without noting it, as no disk of this simulation does.
    func spoilInSecret(_ inode: Inode, at position: Int) {
        inode.content[position] ^= 0xFF
        if position < inode.stable.count { inode.stable[position] ^= 0xFF }
    }

    /// Puts a file's earlier bytes under a name of their own.
    func resurrect(_ bytes: [UInt8], as path: String) {
        let inode = Inode(number: nextInode, isDirectory: false)
        nextInode += 1
        inode.content = bytes
        inode.stable = bytes
        entries[path] = inode
        stableEntries[path] = inode
    }
}
