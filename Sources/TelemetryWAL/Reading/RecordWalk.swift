import WALFormat
import WALStorage

/// Where a walk gets what it reads: a living log, or what a view found of one.
struct WalkSource<Storage: JournalStorage> {
    /// What there is to read at one moment.
    struct Supply {
        /// Tenants with segments that may hold records behind those that were given.
        var tenants: [TenantName] = []
        /// Journal files with all records that are in no segment.
        var files: [ReadableFile] = []
        var throughCommit: UInt64 = 0

        var isEmpty: Bool { tenants.isEmpty && files.isEmpty }
    }

    /// A place in the journal behind which nothing was read yet.
    typealias Place = (fileSequence: UInt64, offset: UInt64)

    /// What there is behind a place in the journal; all for nil. `given` is by tenant the last number that was given.
    /// `hasMissedFile`: some of it may have moved on to segments since the last time.
    var supply: (_ place: Place?, _ given: [TenantName: UInt64], _ hasMissedFile: Bool) throws(WALError) -> Supply
    /// The name of the segment with a tenant's next number above one; nil if there is none. `again`: the one named last
    /// is gone.
    var segment: (_ tenant: TenantName, _ sequence: UInt64, _ again: Bool) throws(WALError) -> String?
    /// Through which number nothing of a tenant is wanted.
    var floor: (TenantName) -> UInt64
    /// Whether a tenant's record of a number is wanted at all; nil: all are. What is not wanted is passed over, and may be
    /// given elsewhere.
    var wants: ((_ tenant: TenantName, _ sequence: UInt64) -> Bool)?
    /// Through which number a tenant has its records at the moment, where others give it some as well; nil: nobody does.
    var position: ((TenantName) -> UInt64)?
    /// Where a tenant's numbers go on elsewhere: a range of lost ones is looked at in the pieces between.
    var boundaries: (TenantName) -> [UInt64] = { _ in [] }
    /// See `JournalCursor`.
    var isTornBeginning: (_ life: JournalFileLife, _ fileSequence: UInt64) -> Bool
    /// See `JournalCursor`.
    var mayBeReplaced = false
    /// See `JournalCursor`.
    var hasLeft: ((ReadableFile) -> Bool)?
    /// See `JournalCursor`.
    var hasLeftByNow: ((ReadableFile) -> Bool)?
    /// See `JournalCursor`; asked about segments as well.
    var erasedThrough: (_ tenant: TenantName, _ last: UInt64) -> UInt64
}

/// Reads records out of segments and journal as one stream: each tenant's in the order of their numbers, each once. One
/// thread at a time.
///
/// Records move from the journal into segments while they are read, segments are merged and removed, and no reader keeps
/// any of that from happening. What holds the walk together is the number of the record that each tenant was given
/// last. It reads the segments that go on from there, tenant by tenant, then the journal files that were live before it
/// began with them. Where a file or a segment is gone when its turn comes, it asks again for what goes on from there.
final class RecordWalk<Storage: JournalStorage> {
    private let storage: Storage
    private let format: RootFormat
    private let keys: FrameKeys
    /// Whose records are wanted; nil: everybody's.
    private let tenant: TenantName?
    /// Of which times; nil: of all. Frames of other times are not read where an index or their header says so.
    private let times: ClosedRange<UInt64>?
    private let source: WalkSource<Storage>
    /// By tenant, the last number given, or passed over for good. A commit whose write failed may be there as well as
    /// its repetition in the next file, if damage took the seal that rules it out.
    private var given: [TenantName: UInt64] = [:]
    /// Whose segments are still to be read, the next one last.
    private var tenants: [TenantName] = []
    private var segment: OpenSegment?
    /// The tenant and the name of the segment in which damage was met last.
    private(set) var damagedSegment: (tenant: TenantName, name: String)?
    private var cursor: JournalCursor<Storage>
    private var pending: [RecordBatch] = []
    /// Whose keys are not to be had: nothing of them is given behind the first record that was not.
    private var locked: Set<TenantName> = []
    private var hasBegun = false

    /// A segment that is being read, and what comes next in it.
    private struct OpenSegment {
        let file: SegmentFile<Storage>
        var frame: Int
        var lostRange = 0
    }

    init(
        storage: Storage, format: RootFormat, keys: FrameKeys, tenant: TenantName?,
        times: ClosedRange<UInt64>? = nil, source: WalkSource<Storage>
    ) {
        self.storage = storage
        self.format = format
        self.keys = keys
        self.tenant = tenant
        self.times = times
        self.source = source
        cursor = JournalCursor(
            storage: storage, format: format, keys: keys, files: [], throughCommit: 0,
            isTornBeginning: source.isTornBeginning, mayBeReplaced: source.mayBeReplaced, hasLeft: source.hasLeft,
            hasLeftByNow: source.hasLeftByNow, erasedThrough: source.erasedThrough)
        cursor.times = times
    }

    /// The journal file in which the walk is, if it is in one.
    var fileSequence: UInt64? { tenants.isEmpty ? cursor.files.first?.header.fileSequence : nil }

    /// The next batch, nil at the end. Throws `.damaged` once for each place where records are lost and `.keyForgotten` for
    /// each frame whose key is no more, and goes on behind it with the next call; `.keyUnavailable` once for each tenant
    /// whose key is not to be had, and goes on with the others; `.storage` where the device fails.
    func next() throws(WALError) -> RecordBatch? {
        while true {
            if let batch = pending.popLast() { return batch }
            if let tenant = tenants.last {
                damagedSegment = nil
                if let batch = try nextOfSegments(of: tenant) {
                    guard let times else { return batch }
                    pending = batch.during(times).reversed()
                    continue
                }
                tenants.removeLast()
                continue
            }
            do throws(WALError) {
                if let batches = try nextOfJournal() {
                    for batch in batches where !locked.contains(batch.tenant) {
                        given[batch.tenant] = batch.sequences.upperBound
                    }
                    let readable = batches.filter { !locked.contains($0.tenant) }
                    pending = (times.map { times in readable.flatMap { $0.during(times) } } ?? readable).reversed()
                    continue
                }
            } catch {
                switch error {
                case .keyUnavailable(let tenant, _, _):
                    guard lockOut(tenant) else { continue }
                case .keyForgotten(let tenant, _, _) where locked.contains(tenant): continue
                default: break
                }
                throw error
            }
            guard try resupply() else { return nil }
        }
    }

    /// Gives nothing more of a tenant: its records stay in order. Returns whether that is news.
    private func lockOut(_ tenant: TenantName) -> Bool {
        given[tenant] = FormatLimits.maximumNumber
        return locked.insert(tenant).inserted
    }

    /// Reads no more than it needs, since its files are closed soon.
    var isGentle: Bool {
        get { cursor.isGentle }
        set { cursor.isGentle = newValue }
    }

    /// Closes the files that are open. The next call opens what it needs again, where it stopped.
    func closeFiles() {
        segment = nil
        cursor.closeFiles()
    }

    /// A batch that was read before; nil: the next one has to be read.
    func nextRead() -> RecordBatch? { pending.popLast() }

    /// Asks for more. Returns whether there is any.
    private func resupply() throws(WALError) -> Bool {
        let position = cursor.position
        let place = hasBegun && position.fileSequence != 0 ? position : nil
        let supply = try source.supply(place, given, cursor.hasMissedFile)
        hasBegun = true
        tenants = supply.tenants.reversed()
        cursor.extend(supply.files, throughCommit: supply.throughCommit)
        return !supply.isEmpty
    }

    private func through(_ tenant: TenantName) -> UInt64 {
        if let position = source.position { return max(given[tenant] ?? 0, position(tenant)) }
        if let known = given[tenant] { return known }
        let through = source.floor(tenant)
        given[tenant] = through
        return through
    }

    private func wants(_ tenant: TenantName, _ sequence: UInt64) -> Bool {
        guard let wants = source.wants else { return true }
        return wants(tenant, sequence)
    }

    // MARK: - The journal

    private func nextOfJournal() throws(WALError) -> [RecordBatch]? {
        try cursor.next { [unowned self] name, sequences, _ in
            guard tenant == nil || tenant == name else { return nil }
            let through = through(name)
            guard sequences.upperBound > through, wants(name, sequences.lowerBound) else { return nil }
            return through + 1
        }
    }

    /// Through which number a tenant's records were given, or passed over for good.
    func given(of tenant: TenantName) -> UInt64 { locked.contains(tenant) ? 0 : given[tenant] ?? 0 }

    /// Gives a tenant's records again whose key was not to be had.
    func readmit(_ tenant: TenantName) {
        if locked.remove(tenant) != nil { given[tenant] = nil }
    }

    // MARK: - Segments

    /// The next batch of a tenant's segments; nil when there is none behind what was given.
    private func nextOfSegments(of tenant: TenantName) throws(WALError) -> RecordBatch? {
        while true {
            guard var open = segment else {
                guard try openSegment(of: tenant) else { return nil }
                continue
            }
            let through = through(tenant)
            let index = open.file.index
            let frame = open.frame < index.frames.count ? index.frames[open.frame] : nil
            if open.lostRange < index.lostRanges.count {
                let lost = index.lostRanges[open.lostRange]
                if frame.map({ lost.sequences.upperBound < $0.firstSequence }) ?? true {
                    open.lostRange += 1
                    segment = open
                    try pass(lost, of: tenant, in: open.file)
                    continue
                }
            }
            guard let frame else {
                given[tenant] = max(through, open.file.covered.upperBound)
                segment = nil
                continue
            }
            open.frame += 1
            segment = open
            guard frame.lastSequence > through, let first = firstWanted(of: frame, of: tenant) else { continue }
            if let times, !frame.mayHold(times) {
                given[tenant] = frame.lastSequence
                continue
            }
            do throws(WALError) {
                let batch = try open.file.batch(ofFrame: open.frame - 1, from: first)
                given[tenant] = batch.sequences.upperBound
                return batch
            } catch {
                // Damage is passed, what the device failed to read is tried again.
                switch error {
                case .keyForgotten: given[tenant] = frame.lastSequence
                case _ where isErased(through: frame.lastSequence, of: tenant):
                    given[tenant] = frame.lastSequence
                    continue
                case .damaged:
                    given[tenant] = frame.lastSequence
                    damagedSegment = (tenant, SegmentName.name(covering: open.file.covered))
                case .keyUnavailable:
                    _ = lockOut(tenant)
                    segment = nil
                default: segment?.frame -= 1
                }
                throw error
            }
        }
    }

    /// From which number on a frame's records are wanted behind those that were given; nil: none are. A frame may begin in
    /// front of the tenant's first residence, with what nobody lacks.
    private func firstWanted(of frame: SegmentIndex.Frame, of tenant: TenantName) -> UInt64? {
        let first = max(through(tenant) + 1, frame.firstSequence)
        if wants(tenant, first) { return first }
        return source.boundaries(tenant).first { $0 > first && $0 <= frame.lastSequence && wants(tenant, $0) }
    }

    /// Tells of records that were lost before they came into a segment.
    private func pass(
        _ lost: SegmentIndex.LostRange, of tenant: TenantName, in file: SegmentFile<Storage>
    ) throws(WALError) {
        let first = max(through(tenant) + 1, lost.sequences.lowerBound)
        guard first <= lost.sequences.upperBound else { return }
        // What was lost in several residences of a tenant in one journal is one range; between them are numbers that are
        // elsewhere.
        let starts = [first] + source.boundaries(tenant).filter { $0 > first && $0 <= lost.sequences.upperBound }
        let ends = starts.dropFirst().map { $0 - 1 } + [lost.sequences.upperBound]
        let pieces = zip(starts, ends).filter { wants(tenant, $0.0) }
        guard let last = pieces.last?.1 else { return }
        given[tenant] = last
        guard lost.cause != .dropped, !isErased(through: last, of: tenant) else { return }
        let records =
            "records \(pieces.map { "\($0.0) to \($0.1)" }.joined(separator: " and ")) of tenant \(tenant)"
        throw .damaged(path: file.path, offset: 0, reason: "\(records) were lost before they came here")
    }

    /// Whether a tenant's records through a number were erased meanwhile, so that their bytes may be any.
    private func isErased(through last: UInt64, of tenant: TenantName) -> Bool {
        last <= source.erasedThrough(tenant, last)
    }

    /// Opens the segment that goes on from what was given. Returns false if there is none.
    private func openSegment(of tenant: TenantName) throws(WALError) -> Bool {
        var missing: String?
        while let name = try source.segment(tenant, through(tenant), missing != nil) {
            do throws(WALError) {
                let file = try SegmentFile(name, of: tenant, in: storage, format: format, keys: keys)
                segment = OpenSegment(file: file, frame: file.index.firstFrame(from: through(tenant) + 1))
                return true
            } catch {
                if let last = SegmentName.sequences(of: name)?.upperBound, isErased(through: last, of: tenant) {
                    given[tenant] = max(through(tenant), last)
                    continue
                }
                switch error {
                case .storage(let cause) where cause.code == .notFound && missing != name:
                    // It was merged with others, or removed, since it was named.
                    missing = name
                    #if Simulation
                        if DeliberateBug.isActive(.passOverMerged), let gone = SegmentName.sequences(of: name) {
                            given[tenant] = max(through(tenant), gone.upperBound)
                        }
                    #endif
                case .storage(let cause) where cause.code == .notFound:
                    given[tenant] = SegmentName.sequences(of: name)?.upperBound ?? .max
                    throw .damaged(path: cause.path, offset: 0, reason: "the segment is gone")
                case .damaged:
                    given[tenant] = SegmentName.sequences(of: name)?.upperBound ?? .max
                    damagedSegment = (tenant, name)
                    throw error
                default: throw error
                }
            }
        }
        return false
    }
}
