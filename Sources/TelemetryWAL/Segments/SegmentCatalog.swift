import WALFormat
import WALStorage

/// Which segments there are: of each tenant, in the order of the numbers that they cover. A plain value.
///
/// Nothing but the directories keeps it: a segment's name says what it covers, so that opening a log with thousands of
/// segments reads none of them.
package struct SegmentCatalog: Sendable {
    /// A segment that is part of the log.
    package struct Entry: Sendable, Equatable {
        package var covered: ClosedRange<UInt64>
        /// Bytes of the file; 0 where nobody asked.
        package var length: UInt64
        /// Damage was met in it: it is not merged, and set aside instead of removed.
        package var isDamaged = false
        /// It has so many frames that it and its neighbours do not fit into one segment: it is not merged.
        package var isFull = false

        package init(covered: ClosedRange<UInt64>, length: UInt64, isDamaged: Bool = false, isFull: Bool = false) {
            (self.covered, self.length) = (covered, length)
            (self.isDamaged, self.isFull) = (isDamaged, isFull)
        }

        package var name: String { SegmentName.name(covering: covered) }
    }

    package private(set) var tenants: [TenantName: [Entry]] = [:]
    /// Bytes of all segments.
    package private(set) var length: UInt64 = 0
    package private(set) var count = 0

    package init() {}

    // MARK: - From the directories

    /// What lies in the directories, and is no segment of the log: paths below the root.
    struct Leftovers {
        /// Segments that another one covers: a merge that was interrupted left them.
        var superseded: [String] = []
        /// Files in the making.
        var temporary: [String] = []
        /// Segments that are another log's, tenant's or range's than their place says. They are left alone.
        var foreign: [String] = []
        /// What no segment, and no file in the making, has for a name.
        var strange: [String] = []
    }

    /// Reads the directories. `isForWriter`: the files' lengths are wanted, which costs opening each, and names are not
    /// believed unseen where something hangs on them: the last segment of each tenant says what the journal need not
    /// keep, and one that covers others has them removed. Changes nothing.
    init<Storage: JournalStorage>(
        of storage: Storage, format: RootFormat, isForWriter: Bool, leftovers: inout Leftovers
    ) throws(StorageError) {
        guard try storage.exists(SegmentName.root) else { return }
        var waiting: [[String]] = try Self.names(in: SegmentName.root, storage).map { [$0] }
        while let components = waiting.popLast() {
            let directory = SegmentName.root + "/" + components.joined(separator: "/")
            if components[components.count - 1].hasSuffix("~") {
                // A name has 255 bytes at most, of three characters each at most: four pieces.
                if components.count < 4 { waiting += try Self.names(in: directory, storage).map { components + [$0] } }
                continue
            }
            guard let tenant = TenantName(pathComponents: components) else {
                leftovers.strange.append(directory)
                continue
            }
            var entries: [Entry] = []
            for name in try Self.names(in: directory, storage) {
                if let covered = SegmentName.sequences(of: name) {
                    entries.append(Entry(covered: covered, length: 0))
                } else if SegmentName.isTemporary(name) {
                    leftovers.temporary.append(directory + "/" + name)
                } else {
                    leftovers.strange.append(directory + "/" + name)
                }
            }
            let all = entries
            var superseded = Self.arrange(&entries)
            if isForWriter {
                let foreign = try Self.foreign(
                    among: superseded.isEmpty ? Array(entries.reversed()) : all, isOneEnough: superseded.isEmpty
                ) { (entry) throws(StorageError) in
                    try Self.isForeign(directory + "/" + entry.name, entry, of: tenant, in: storage, format)
                }
                leftovers.foreign += foreign.map { directory + "/" + $0.name }
                entries = all.filter { !foreign.contains($0) }
                superseded = Self.arrange(&entries)
                for index in entries.indices {
                    entries[index].length =
                        try storage.open(directory + "/" + entries[index].name, forWriting: false).size()
                }
            }
            leftovers.superseded += superseded.map { directory + "/" + $0.name }
            for entry in entries { add(entry, of: tenant) }
        }
    }

    /// Of some entries those that do not belong here; where one that does is enough, up to the first of these.
    private static func foreign(
        among entries: [Entry], isOneEnough: Bool, _ isForeign: (Entry) throws(StorageError) -> Bool
    ) throws(StorageError) -> [Entry] {
        var foreign: [Entry] = []
        for entry in entries {
            if try isForeign(entry) {
                foreign.append(entry)
            } else if isOneEnough {
                break
            }
        }
        return foreign
    }

    /// Whether a segment says itself that it is another one. One that cannot say anything is damaged, not foreign.
    private static func isForeign<Storage: JournalStorage>(
        _ path: String, _ entry: Entry, of tenant: TenantName, in storage: Storage, _ format: RootFormat
    ) throws(StorageError) -> Bool {
        let summary: SegmentSummary?
        do throws(StorageError) { summary = try Self.summary(path, in: storage, format) } catch {
            guard error.code == .ioFailure else { throw error }
            return false
        }
        guard let summary else { return false }
        return summary.logIdentifier != format.logIdentifier || summary.tenant != tenant
            || summary.covered != entry.covered
    }

    /// The first copy of a segment's summary; nil where it is not whole.
    static func summary<Storage: JournalStorage>(
        _ path: String, in storage: Storage, _ format: RootFormat
    ) throws(StorageError) -> SegmentSummary? {
        try summary(at: 0, of: try storage.open(path, forWriting: false), format)
    }

    private static func summary(
        at offset: UInt64, of file: some StorageFile, _ format: RootFormat
    ) throws(StorageError) -> SegmentSummary? {
        let buffer = AlignedBuffer(capacity: format.blockSize, alignment: max(4096, format.blockSize))
        let count = try file.read(into: buffer, at: 0, length: format.blockSize, from: offset)
        return buffer.withBytes { bytes in
            try? SegmentSummary.decode(bytes.extracting(0..<count), at: 0, blockSize: format.blockSize)
        }
    }

    /// Both copies of a segment's summary, at its begin and at its end; nil for one that is not whole, or that the device
    /// fails to read.
    static func summaries<Storage: JournalStorage>(
        _ path: String, in storage: Storage, _ format: RootFormat
    ) throws(StorageError) -> [(offset: UInt64, summary: SegmentSummary?)] {
        let file = try storage.open(path, forWriting: false)
        let blocks = try file.size() / UInt64(format.blockSize)
        var copies: [(offset: UInt64, summary: SegmentSummary?)] = []
        for block in [0, max(1, blocks) - 1] {
            let offset = block * UInt64(format.blockSize)
            do throws(StorageError) { copies.append((offset, try summary(at: offset, of: file, format))) } catch {
                guard error.code == .ioFailure else { throw error }
                copies.append((offset, nil))
            }
        }
        return copies
    }

    /// Names in a directory that may be gone, or be a file.
    static func names<Storage: JournalStorage>(
        in directory: String, _ storage: Storage
    ) throws(StorageError) -> [String] {
        do throws(StorageError) { return try storage.entries(of: directory).sorted() } catch {
            if error.code == .notFound { return [] }
            throw error
        }
    }

    /// Puts entries in order, takes those out that lie within another, and returns them.
    private static func arrange(_ entries: inout [Entry]) -> [Entry] {
        entries.sort { ($0.covered.lowerBound, $1.covered.upperBound) < ($1.covered.lowerBound, $0.covered.upperBound) }
        var end: UInt64 = 0
        var superseded: [Entry] = []
        entries.removeAll { entry in
            if entry.covered.upperBound <= end {
                superseded.append(entry)
                return true
            }
            end = entry.covered.upperBound
            return false
        }
        return superseded
    }

    /// The directories in which segments lie, and those above them.
    var directories: [String] {
        var directories: Set<String> = []
        for tenant in tenants.keys {
            let components = [SegmentName.root] + tenant.pathComponents
            for count in 1...components.count { directories.insert(components.prefix(count).joined(separator: "/")) }
        }
        return directories.sorted()
    }

    // MARK: - Looking up

    package func entries(of tenant: TenantName) -> [Entry] { tenants[tenant] ?? [] }

    /// Whether damage was met in any.
    var hasDamage: Bool { tenants.values.contains { $0.contains(where: \.isDamaged) } }

    /// Through which number a tenant's segments reach; 0 where it has none.
    package func coveredThrough(_ tenant: TenantName) -> UInt64 {
        tenants[tenant]?.last?.covered.upperBound ?? 0
    }

    /// The first segment of a tenant with a number above the given one.
    func entry(of tenant: TenantName, above sequence: UInt64) -> Entry? {
        guard let entries = tenants[tenant] else { return nil }
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].covered.upperBound <= sequence { low = middle + 1 } else { high = middle }
        }
        return low < entries.count ? entries[low] : nil
    }

    // MARK: - Changes

    /// Adds a segment behind all others of its tenant.
    mutating func add(_ entry: Entry, of tenant: TenantName) {
        tenants[tenant, default: []].append(entry)
        length += entry.length
        count += 1
    }

    /// Takes the first segments of a tenant out, as far as they cover no number above the given one. Returns them.
    mutating func removeFirst(of tenant: TenantName, through sequence: UInt64) -> [Entry] {
        let removed = (tenants[tenant] ?? []).prefix { $0.covered.upperBound <= sequence }
        guard !removed.isEmpty else { return [] }
        tenants[tenant]?.removeFirst(removed.count)
        if tenants[tenant]?.isEmpty == true { tenants[tenant] = nil }
        for entry in removed { length -= entry.length }
        count -= removed.count
        return Array(removed)
    }

    /// Notes that damage was met in a segment.
    mutating func markDamaged(_ name: String, of tenant: TenantName) {
        guard let place = tenants[tenant]?.firstIndex(where: { $0.name == name }) else { return }
        tenants[tenant]?[place].isDamaged = true
    }

    /// Notes that a segment has too many frames to be merged.
    mutating func markFull(_ name: String, of tenant: TenantName) {
        guard let place = tenants[tenant]?.firstIndex(where: { $0.name == name }) else { return }
        tenants[tenant]?[place].isFull = true
    }

    /// Puts segments in the place of those that they cover together, as far as these are still there: some may have
    /// been taken out meanwhile.
    mutating func replace(_ old: [Entry], of tenant: TenantName, with new: [Entry]) {
        // By their numbers: a reader may have noted damage in one meanwhile.
        let covered = Set(old.map(\.covered))
        guard var entries = tenants[tenant], let place = entries.firstIndex(where: { covered.contains($0.covered) })
        else { return }
        let replaced = entries.filter { covered.contains($0.covered) }
        entries.removeAll { covered.contains($0.covered) }
        entries.insert(contentsOf: new, at: place)
        tenants[tenant] = entries
        length = length - replaced.reduce(0) { $0 + $1.length } + new.reduce(0) { $0 + $1.length }
        count += new.count - replaced.count
    }
}

extension SegmentCatalog.Entry {
    /// What the segment says of itself; nil where that cannot be read, or it is another one. One read of a block.
    func summary<Storage: JournalStorage>(
        of tenant: TenantName, in storage: Storage, _ format: RootFormat
    ) -> SegmentSummary? {
        let path = SegmentName.directory(of: tenant) + "/" + name
        guard let summary = try? SegmentCatalog.summary(path, in: storage, format),
            summary.logIdentifier == format.logIdentifier, summary.tenant == tenant, summary.covered == covered
        else { return nil }
        return summary
    }
}
