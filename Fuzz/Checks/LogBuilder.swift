import TelemetryWAL
import WALFormat

/// A log in the making: a journal, segments of what was appended to it, and what was done to both since.
struct LogBuilder {
    struct Segment {
        var tenant: TenantName
        var name: String
        var bytes: [UInt8]
        /// What it was made of.
        var image: SegmentImage
        var unreadable: [Range<UInt64>] = []

        var path: String { SegmentName.directory(of: tenant) + "/" + name }
    }

    /// Choices of a new segment.
    struct Moving: OptionSet {
        let rawValue: UInt8
        static let compressed = Moving(rawValue: 1)
        /// The first frame is left out, as one that every subscriber has.
        static let leavesOutFirst = Moving(rawValue: 2)
        /// The last frame is stated as lost: damaged if nothing else is said.
        static let losesLast = Moving(rawValue: 4)
        static let lossIsDropped = Moving(rawValue: 8)
        static let lossIsGivenUp = Moving(rawValue: 16)
    }

    private static let segmentLimit = 12

    var journal: JournalBuilder
    var segments: [Segment] = []
    /// Files that are no segments, by path.
    var strays: [String: [UInt8]] = [:]
    var formatBytes: [UInt8]
    /// Every segment is as the compactor made it.
    var hasWholeSegments = true
    /// Segments say what they are not, or names say it of them.
    var forgesSegments = false
    /// Of each tenant the last number that a segment was made for.
    private(set) var movedThrough: [TenantName: UInt64] = [:]
    private let compressor: LZ4FrameCompressor

    /// The log that a recipe describes.
    init(recipe: [UInt8], blockSize: Int, compressor: LZ4FrameCompressor) {
        journal = JournalBuilder(blockSize: blockSize, compressor: compressor, marksRecords: true)
        formatBytes = journal.format.encoded()
        self.compressor = compressor
        var reader = RecipeReader(recipe)
        var steps = 0
        journal.begin([])
        while !reader.isAtEnd, steps < JournalBuilder.stepLimit {
            steps += 1
            take(&reader)
        }
    }

    var isForged: Bool { forgesSegments || journal.forgesHeaders || journal.forgesBodies }

    /// Whether the device fails to read anything.
    var hasUnreadable: Bool {
        segments.contains { !$0.unreadable.isEmpty } || journal.files.contains { !$0.unreadable.isEmpty }
    }

    /// `isFailing`: what the device is to fail to read it fails to read.
    func storage(hasFormat: Bool = true, isFailing: Bool = true) -> MemoryStorage {
        var files = strays
        if hasFormat { files["FORMAT"] = formatBytes }
        var unreadable: [String: [Range<UInt64>]] = [:]
        for file in journal.files {
            files["journal/" + file.name] = file.bytes
            unreadable["journal/" + file.name] = file.unreadable
        }
        for segment in segments {
            files[segment.path] = segment.bytes
            unreadable[segment.path] = segment.unreadable
        }
        return MemoryStorage(files: files, unreadable: isFailing ? unreadable : [:])
    }

    /// By tenant and number what a reader has to find; nil where something was done to the log that may have cost it
    /// records.
    var expected: [TenantName: [UInt64: StoredRecord]]? {
        guard hasWholeSegments, journal.isAsWritten else { return nil }
        let oldest = journal.oldestLiveFile
        var expected: [TenantName: [UInt64: StoredRecord]] = [:]
        var locked: Set<TenantName> = []
        for frame in journal.frames {
            guard let tenant = frame.header.tenant else { continue }
            // Its file has left the log before anything else had what it holds.
            if frame.fileSequence < oldest, frame.header.lastSequence > movedThrough[tenant] ?? 0 { return nil }
            switch frame.header.keyIdentifier {
            case 13: locked.insert(tenant)
            case 14: break
            default:
                if !locked.contains(tenant) { expected[tenant, default: [:]].merge(frame.records) { $1 } }
            }
        }
        return expected
    }

    // MARK: - As the compactor does

    mutating func move(tenant: Int, count: Int, _ choices: Moving) {
        let name = JournalBuilder.tenants[tenant % JournalBuilder.tenants.count]
        let through = movedThrough[name] ?? 0
        let waiting = journal.frames.filter {
            !$0.isFailed && $0.header.tenant == name && $0.header.firstSequence > through
        }
        let frames = Array(waiting.prefix(count))
        guard let last = frames.last?.header.lastSequence, segments.count < Self.segmentLimit else { return }
        var image = SegmentImage(
            tenant: name, covered: through + 1...last, compresses: choices.contains(.compressed))
        for (place, frame) in frames.enumerated() {
            if place == 0, choices.contains(.leavesOutFirst) {
                hasWholeSegments = false
            } else if place == frames.count - 1, choices.contains(.losesLast) {
                hasWholeSegments = false
                let cause: SegmentIndex.LostRange.Cause =
                    choices.contains(.lossIsDropped) ? .dropped : choices.contains(.lossIsGivenUp) ? .givenUp : .damaged
                let sequences = frame.header.firstSequence...frame.header.lastSequence
                image.lostRanges.append(.init(sequences: sequences, cause: cause))
            } else {
                image.frames.append(frame)
            }
        }
        if add(image) { movedThrough[name] = last }
    }

    /// `isInterrupted`: what was merged is there still.
    mutating func merge(tenant: Int, isInterrupted: Bool) {
        let name = JournalBuilder.tenants[tenant % JournalBuilder.tenants.count]
        let own = segments.filter { $0.image.tenant == name }.suffix(2).map(\.image)
        guard own.count == 2, segments.count < Self.segmentLimit,
            own[0].covered.upperBound < own[1].covered.lowerBound
        else { return }
        let image = SegmentImage(
            tenant: name, covered: own[0].covered.lowerBound...own[1].covered.upperBound,
            frames: own[0].frames + own[1].frames, lostRanges: own[0].lostRanges + own[1].lostRanges,
            compresses: own[1].compresses)
        guard add(image), !isInterrupted else { return }
        let merged = own.map { SegmentName.name(covering: $0.covered) }
        segments.removeAll { $0.image.tenant == name && merged.contains($0.name) }
    }

    private mutating func add(_ image: SegmentImage) -> Bool {
        guard let bytes = image.encoded(of: .fuzzed(blockSize: journal.blockSize), compressor) else { return false }
        let segment = Segment(
            tenant: image.tenant, name: SegmentName.name(covering: image.covered), bytes: bytes, image: image)
        segments.removeAll { $0.path == segment.path }
        segments.append(segment)
        return true
    }
}
