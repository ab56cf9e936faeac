import SystemPackage
import WALFormat
import WALStorage

/// A read-only view of a log, for tools and other processes. It takes no lock and changes no byte.
///
/// Beside a living writer it shows what that writer had made durable when the view was opened: commits that a later
/// commit vouches for. An idle writer vouches for its last commit within `idleMilliseconds`.
public final class WriteAheadLogReader<Storage: JournalStorage>: Sendable {
    /// What reading the journal found.
    public let report: RecoveryReport
    /// The log's UUID, block size and time of creation.
    public let format: RootFormat
    /// Who writes the log at the moment.
    public let writer: WriterPresence
    /// The last commit that this view shows.
    public let lastCommit: UInt64
    let storage: Storage
    let keys: FrameKeys
    let recovered: Contents
    /// Where tenants are, as the log said before any of its journals was looked at.
    let placements: PlacementTable
    /// By tenant, the first number that it has in a residence that came when the view was being opened: what follows is not
    /// shown, since what lies between may be where nobody looked.
    let unseen: [TenantName: UInt64]
    /// The log's root, where this is a view of a tenant's own journal.
    let parent: PlacementRoot<Storage>?
    /// The journals of tenants' own, in the order of `placements`.
    private let dedicated: [(residence: PlacementTable.Residence, view: Result<WriteAheadLogReader, WALError>)]

    /// What recovery found, unchanged from then on.
    struct Contents: Sendable {
        let state: LogState
        /// Damage may have swallowed the names of subscribers.
        let mayLackSubscribers: Bool
        let files: [LiveFile]
        let segments: SegmentCatalog

        /// The files with records of a tenant, or of anybody for nil, from a number on, behind a place.
        func readableFiles(
            tenantIndex: Int?, from sequence: UInt64, behind place: (fileSequence: UInt64, offset: UInt64)?
        ) -> [ReadableFile] {
            files.indices.compactMap { number in
                let file = files[number]
                var start = file.header.commitsStart
                if let tenantIndex {
                    guard let extent = file.extents[tenantIndex], extent.lastSequence >= sequence else { return nil }
                    start = extent.firstOffset
                }
                if let place {
                    if file.sequence < place.fileSequence { return nil }
                    if file.sequence == place.fileSequence { start = max(start, place.offset) }
                }
                guard start < file.endOffset else { return nil }
                var readable = ReadableFile(
                    name: file.name, header: file.header, range: start..<file.endOffset, damage: file.damage,
                    excusedFrames: file.excusedFrames,
                    // Of a file that was read what can be read is delivered; of one that was not, all.
                    isDelivered: file.isSummarised && number + 1 < files.count && state.releasesRecords
                        && file.isDelivered(in: state))
                readable.isFollowed(by: number + 1 < files.count ? files[number + 1] : nil)
                return readable
            }
        }
    }

    /// So often a log that changes under the reader is read from the start at most.
    private static var mostAttempts: Int { 50 }
    /// A loss that a living writer could be the reason of is believed when it was seen so often.
    private static var leastLooks: Int { 4 }

    /// Opens a view of the log in a storage. Reads of the journal what `scope` says; blocks meanwhile. `opensBodies`
    /// has the whole journal read, every frame decompressed and its records checked; encrypted ones by their checksums
    /// only where the key is not to be had. `keyProvider` is needed for records that are encrypted, and for nothing else.
    ///
    /// Journals of tenants' own are looked at as well; one that cannot be read is no error here (`journals`).
    /// Throws `.notALog`, `.unsupportedFormat`, `.storage`.
    public convenience init(
        storage: Storage, scope: RecoveryScope = .sinceCheckpoint, opensBodies: Bool = false,
        keyProvider: (any KeyProvider)? = nil,
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) {
        try self.init(
            storage: storage, dedicated: nil, scope: scope, opensBodies: opensBodies, keyProvider: keyProvider,
            progress: progress)
    }

    /// `dedicated`: whose own journal it is to be, `parent`: of which log. `readsOthers`: what the root says of tenants' own
    /// journals counts.
    init(
        storage: Storage, dedicated root: DedicatedRoot?, of parent: PlacementRoot<Storage>? = nil,
        scope: RecoveryScope, opensBodies: Bool,
        keyProvider: (any KeyProvider)?, progress: (@Sendable (UInt64, UInt64) -> Void)?, readsOthers: Bool = true
    ) throws(WALError) {
        self.storage = storage
        self.parent = parent
        keys = FrameKeys(keyProvider)
        format = try LogRoot(storage: storage, dedicated: root).openForReading()
        let log = PlacementRoot(storage: storage, format: format)
        // Before the shared journal: what a tenant has in its next residence is whole then in the one before.
        (placements, dedicated) = try Self.dedicatedViews(of: log, readsOthers) {
            (storage, root) throws(WALError) in
            try WriteAheadLogReader(
                storage: storage, dedicated: root, of: log, scope: scope, opensBodies: opensBodies,
                keyProvider: keyProvider,
                progress: nil, readsOthers: false)
        }
        let recovery = Recovery(
            storage: storage, format: format, scope: scope, opensBodies: opensBodies, keys: keys, progress: progress)
        do throws(StorageError) { writer = try storage.writer() } catch { throw .storage(error) }
        var attempts = 0
        var removals = 0
        // How often the same losses were seen, one look behind the other.
        var looks = 0
        var lossesBefore: Set<RecoveryReport.Finding.Place> = []
        while true {
            let recovered: RecoveredLog
            do throws(WALError) {
                recovered = try recovery.run()
            } catch {
                // A living writer removes files that it needs no more.
                if case .storage(let cause) = error, cause.code == .notFound, writer != .none,
                    removals < Self.mostAttempts
                {
                    removals += 1
                    continue
                }
                throw error
            }
            // What a living writer begins anew while it is looked at may seem damaged. Damage that is there stays where
            // it is.
            let losses = Set(recovered.report.findings.filter(\.what.isLoss).map(\.place))
            looks = losses.isSubset(of: lossesBefore) ? looks + 1 : 1
            if !losses.isEmpty, looks < Self.leastLooks, writer != .none, attempts < Self.mostAttempts {
                attempts += 1
                lossesBefore = losses
                pause(milliseconds: 20)
                continue
            }
            // Behind all journals: whoever moved meanwhile is in the table by now.
            unseen = readsOthers ? try log.table().firstSequences(notIn: placements) : [:]
            report = recovered.report
            var hasWriter = writer != .none
            #if Simulation
                if DeliberateBug.isActive(.showCommitsUnderWay) { hasWriter = false }
            #endif
            lastCommit = hasWriter ? recovered.durableThrough : recovered.lastCommit
            var files = recovered.files
            // Those of files in front of others that were accepted are part of the log.
            if hasWriter, let last = files.lastIndex(where: \.hasAcceptedCommit) {
                for index in files[last...].indices {
                    files[index].endOffset = min(files[index].endOffset, files[index].vouchedEnd)
                }
            }
            self.recovered = Contents(
                state: recovered.state, mayLackSubscribers: recovered.mayLackSubscribers, files: files,
                segments: recovered.segments)
            return
        }
    }

    /// Tenants in the order in which they came, those behind the others that came to a journal of their own.
    public var tenants: [TenantStatus] {
        TenantStatus.joining(
            tenants(in: recovered.state),
            placements.residences.map { residence in
                guard let own = try? dedicatedView(of: residence).get() else { return (residence, nil) }
                var state = own.recovered.state
                state.adopt(subscriptions)
                return (residence, own.tenants(in: state))
            }, placements.accounts)
    }
    private func tenants(in state: LogState) -> [TenantStatus] {
        TenantStatus.all(in: state, files: recovered.files, segments: recovered.segments)
    }
    var dedicatedJournals: [JournalView<Storage>] {
        let root = PlacementRoot(storage: storage, format: format)
        var journals: [JournalView<Storage>] = []
        for (residence, view) in dedicated {
            let path = root.storage(of: residence.tenant, in: residence.home.directory).rootDescription
            if journals.contains(where: { $0.path == path }) { continue }
            journals.append(JournalView(tenant: residence.tenant, path: path, view: view))
        }
        return journals
    }

    /// The view of a tenant's own journal.
    func dedicatedView(of residence: PlacementTable.Residence) -> Result<WriteAheadLogReader, WALError> {
        dedicated.first { $0.residence == residence }?.view ?? .failure(.unknownTenant(residence.tenant))
    }

    /// Subscribers, by name.
    public var subscribers: [TenantName] { recovered.state.subscribers }
    var subscriptions: Subscriptions {
        Subscriptions(
            registrations: recovered.state.registrations, mayLackSome: recovered.mayLackSubscribers)
    }
    /// The log's journal files, oldest first.
    public var journalFiles: [JournalFileStatus] { recovered.files.map(JournalFileStatus.init) }

    /// The records of a tenant, or of all tenants for nil, from a sequence number on: each tenant's in the order of their
    /// numbers, those in segments first. An unknown tenant has none. `times`: only records whose timestamps, nanoseconds
    /// since 1970 (UTC), are among these; nil: all. Costs one read for each segment of other times, and none for frames of
    /// other times in segments; the journal is walked, and frames of other times are not decompressed.
    public func records(
        of tenant: TenantName? = nil, from sequence: UInt64 = 1, during times: ClosedRange<UInt64>? = nil
    ) -> StoredRecords<Storage> {
        StoredRecords(StoredWalk(of: tenant, from: max(1, sequence), during: times, shared: self, table: placements))
    }

    /// The records of this journal; nil for a tenant that it does not know.
    func walk(
        of tenant: TenantName?, from sequence: UInt64, during times: ClosedRange<UInt64>?,
        _ boundaries: @escaping (TenantName) -> [UInt64],
        wants: @escaping (TenantName, UInt64) -> Bool
    ) -> RecordWalk<Storage>? {
        let contents = recovered
        let index = tenant.flatMap { contents.state.index(of: $0) }
        if tenant != nil, index == nil { return nil }
        // What a living writer moves into segments meanwhile is looked for there.
        var segments = contents.segments
        let (storage, format) = (storage, format)
        func readAgain() throws(WALError) {
            var leftovers = SegmentCatalog.Leftovers()
            do throws(StorageError) {
                segments = try SegmentCatalog(
                    of: storage, format: format, isForWriter: false, leftovers: &leftovers)
            } catch { throw .storage(error) }
        }
        let lastCommit = lastCommit
        var byNow = LogByNow(of: self)
        let source = WalkSource<Storage>(
            supply: { (place, given, hasMissedFile) throws(WALError) in
                var supply = WalkSource<Storage>.Supply(throughCommit: lastCommit)
                if place != nil, !hasMissedFile { return supply }
                if hasMissedFile { try readAgain() }
                for known in contents.state.tenants where tenant == nil || tenant == known.name {
                    let through = given[known.name] ?? max(sequence - 1, known.erasedThrough)
                    if segments.coveredThrough(known.name) > through {
                        supply.tenants.append(known.name)
                    }
                }
                supply.files = contents.readableFiles(tenantIndex: index, from: sequence, behind: place)
                return supply
            },
            segment: { (tenant, sequence, again) throws(WALError) in
                if again { try readAgain() }
                return segments.entry(of: tenant, above: sequence)?.name
            },
            floor: { max(sequence - 1, contents.state.erasedThrough(of: $0)) }, wants: wants, boundaries: boundaries,
            isTornBeginning: {
                $0.isTornBeginning(in: $1, of: contents.files, newest: contents.files.last?.sequence)
            },
            mayBeReplaced: parent != nil, hasLeftByNow: { byNow.hasLeft($0.header) },
            erasedThrough: { byNow.erasedThrough($0, $1) })
        return RecordWalk(
            storage: storage, format: format, keys: keys, tenant: tenant, times: times, source: source)
    }

    /// The commits of a journal file, damaged places left out, for tools that show a log's structure.
    public func commits(inFileNamed name: String) throws(WALError) -> [CommitStatus] {
        guard let file = recovered.files.first(where: { $0.name == name }) else { return [] }
        return try CommitStatus.all(in: file, storage: storage, format: format)
    }
}

extension WriteAheadLogReader where Storage == DirectStorage {
    /// Opens a view of the log in a directory.
    public convenience init(
        at path: String, scope: RecoveryScope = .sinceCheckpoint, opensBodies: Bool = false,
        directIO: DirectIORequirement = .preferred, keyProvider: (any KeyProvider)? = nil,
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) {
        try self.init(
            storage: DirectStorage(root: FilePath(path), direct: directIO), scope: scope, opensBodies: opensBodies,
            keyProvider: keyProvider, progress: progress)
    }
}

/// A journal file, as tools show it.
public struct JournalFileStatus: Sendable {
    public let name: String
    public let header: JournalFileHeader
    /// Offset behind the last commit, bytes.
    public let endOffset: UInt64
    /// Tenants with records in the file.
    public let tenantCount: Int
    /// Damaged or unreadable byte ranges.
    public let damage: [Range<UInt64>]

    init(_ file: LiveFile) {
        name = file.name
        header = file.header
        endOffset = file.endOffset
        tenantCount = file.extents.count
        damage = file.damage
    }
}

/// A commit and its frames, as tools show them.
public struct CommitStatus: Sendable {
    public let header: CommitHeader
    public let frames: [LocatedFrame]
    /// What the control frames say.
    public let control: [ControlRecord]

    static func all<Storage: JournalStorage>(
        in file: LiveFile, storage: Storage, format: RootFormat
    ) throws(WALError) -> [CommitStatus] {
        do throws(StorageError) {
            let blockSize = format.blockSize
            let handle = try storage.open("journal/" + file.name, forWriting: false)
            let buffer = AlignedBuffer(capacity: 1 << 20, alignment: max(4096, blockSize))
            let decompressor = LZ4FrameDecompressor()
            var commits: [CommitStatus] = []
            var offset = file.header.commitsStart
            while offset < file.endOffset {
                if let damage = file.damage.first(where: { $0.contains(offset) }) {
                    offset = damage.upperBound
                    continue
                }
                guard try handle.read(into: buffer, at: 0, length: blockSize, from: offset) == blockSize,
                    case .valid(let header) = buffer.withBytes({ CommitHeader.read($0, at: 0, of: format) }),
                    header.epoch == file.header.epoch, header.offset == offset
                else {
                    offset += UInt64(blockSize)
                    continue
                }
                buffer.reserve(header.commitLength)
                let count = try handle.read(into: buffer, at: 0, length: header.commitLength, from: offset)
                offset += UInt64(header.commitLength)
                let status = buffer.withBytes { window -> CommitStatus in
                    let bytes = window.extracting(0..<count)
                    let frames = (try? CommitDecoder.frames(of: header, in: bytes)) ?? []
                    var control: [ControlRecord] = []
                    for frame in frames where frame.header.isControl {
                        let body = try? CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor)
                        control +=
                            body?.withRawSpan { try? ControlRecord.decodeAll($0, count: frame.header.recordCount) }
                            ?? []
                    }
                    return CommitStatus(header: header, frames: frames, control: control)
                }
                commits.append(status)
            }
            return commits
        } catch { throw .storage(error) }
    }
}
