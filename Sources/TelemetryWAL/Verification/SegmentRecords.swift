import WALFormat
import WALStorage

/// Finds records in segments by their numbers, for whoever goes through the journal, which may have them, too. One thread
/// at a time.
///
/// Neighbours in the journal are other tenants', and each one's next records stand behind its last ones. So the frame
/// that was read last is kept of each tenant, of as many as there is memory for, and no file stays open. Where there are more, half
/// of them make room, whichever: those used least of late would be the ones that are wanted next.
struct SegmentRecords<Storage: JournalStorage> {
    private let storage: Storage
    private let format: RootFormat
    private let keys: FrameKeys
    private let segments: SegmentCatalog
    /// Bytes that what is kept may take, or a single frame.
    private let capacity: Int
    private var kept: [TenantName: Kept] = [:]
    private var byteCount = 0
    /// Frames that were read.
    private(set) var framesRead = 0

    /// A segment, and what can be read of one of its frames.
    private struct Kept {
        var covered: ClosedRange<UInt64>
        var index: SegmentIndex
        var number = -1
        var records: [RecordBatch.Record] = []
        var byteCount: Int {
            256 + 96 * index.frames.count + 64 * records.count + (number < 0 ? 0 : index.frames[number].rawLength)
        }
    }

    init(
        storage: Storage, format: RootFormat, keys: FrameKeys, segments: SegmentCatalog, capacity: Int = 96 << 20
    ) {
        self.storage = storage
        self.format = format
        self.keys = keys
        self.segments = segments
        self.capacity = capacity
    }

    /// The records with these numbers that segments have and that can be read, in order. Throws `.storage`.
    mutating func records(
        of tenant: TenantName, in sequences: ClosedRange<UInt64>
    ) throws(WALError) -> [RecordBatch.Record] {
        guard sequences.lowerBound <= segments.coveredThrough(tenant) else { return [] }
        var found: [RecordBatch.Record] = []
        var next = sequences.lowerBound
        while let entry = segments.entry(of: tenant, above: next - 1), entry.covered.lowerBound <= sequences.upperBound
        {
            // Taken out while it is changed: what is shared would be copied.
            var segment = kept.removeValue(forKey: tenant)
            byteCount -= segment?.byteCount ?? 0
            defer { keep(segment, of: tenant) }
            var file: SegmentFile<Storage>?
            if segment?.covered != entry.covered {
                file = try open(entry, of: tenant)
                segment = Kept(covered: entry.covered, index: file?.index ?? SegmentIndex())
            }
            if var now = segment {
                var number = now.index.firstFrame(from: next)
                while number < now.index.frames.count, now.index.frames[number].firstSequence <= sequences.upperBound {
                    if now.number != number {
                        if file == nil { file = try open(entry, of: tenant) }
                        now.records = try file.map { (file) throws(WALError) in try read(number, of: file) } ?? []
                        now.number = number
                    }
                    found += Self.part(of: now.records, in: next...sequences.upperBound)
                    number += 1
                }
                segment = now
            }
            next = entry.covered.upperBound + 1
            if next > sequences.upperBound { break }
        }
        return found
    }

    private mutating func keep(_ segment: Kept?, of tenant: TenantName) {
        guard let segment else { return }
        if byteCount + segment.byteCount > capacity {
            for (place, other) in kept.keys.enumerated() where place % 2 == 0 { kept[other] = nil }
            byteCount = kept.values.reduce(0) { $0 + $1.byteCount }
        }
        kept[tenant] = segment
        byteCount += segment.byteCount
    }

    private func open(_ entry: SegmentCatalog.Entry, of tenant: TenantName) throws(WALError) -> SegmentFile<Storage>? {
        try SegmentFile<Storage>.readable { () throws(WALError) in
            try SegmentFile(entry.name, of: tenant, in: storage, format: format, keys: keys)
        }
    }

    private mutating func read(
        _ number: Int, of file: SegmentFile<Storage>
    ) throws(WALError) -> [RecordBatch.Record] {
        framesRead += 1
        // It may have been replaced since its index was read.
        guard number < file.index.frames.count else { return [] }
        let batch = try SegmentFile<Storage>.readable { () throws(WALError) in try file.batch(ofFrame: number) }
        return batch.map { Array($0.records) } ?? []
    }

    /// Those of a row of records, whose numbers follow each other, that are wanted.
    private static func part(
        of records: [RecordBatch.Record], in sequences: ClosedRange<UInt64>
    ) -> ArraySlice<RecordBatch.Record> {
        guard let first = records.first?.sequence, let last = records.last?.sequence else { return [] }
        let (low, high) = (max(first, sequences.lowerBound), min(last, sequences.upperBound))
        return low <= high ? records[Int(low - first)...Int(high - first)] : []
    }
}

extension SegmentFile {
    /// What a look at a segment gives; nil where it is damaged, gone, or not to be opened.
    static func readable<Value>(_ body: () throws(WALError) -> Value) throws(WALError) -> Value? {
        do throws(WALError) { return try body() } catch {
            switch error {
            case .damaged, .keyUnavailable, .keyForgotten: return nil
            case .storage(let cause) where cause.code == .notFound: return nil
            default: throw error
            }
        }
    }
}
