import WALFormat
import WALStorage

/// Writes several segments of a tenant, which follow each other, as one. One thread at a time.
///
/// Frames that every subscriber has are left out; those that are long enough, or whose key is not to be had, are taken over
/// byte by byte, after a look at their checksum; the rest is put together to longer ones, encrypted with the keys that they
/// had, and without what had a key that was forgotten. Damage ends a merge: segments that have any stay as they are, for whoever may still get something
/// out of them.
struct SegmentMerge<Storage: JournalStorage> {
    let storage: Storage
    let format: RootFormat
    let keys: FrameKeys
    let writer: SegmentWriter<Storage>
    let tenant: TenantName
    /// Every subscriber has the records through this number.
    let acknowledged: UInt64
    let created: UInt64
    /// Records that are left out since their key is forgotten.
    private(set) var forgottenCount: UInt64 = 0
    private var finished: SegmentWriter<Storage>.Finished?
    /// The number behind the last one that was taken.
    private var next: UInt64 = 0
    /// When the log had received what the segments hold that were taken so far.
    private var received: ClosedRange<UInt64>?

    init(
        storage: Storage, format: RootFormat, keys: FrameKeys = FrameKeys(nil), writer: SegmentWriter<Storage>,
        tenant: TenantName, acknowledged: UInt64, created: UInt64
    ) {
        self.storage = storage
        self.format = format
        self.keys = keys
        self.writer = writer
        self.tenant = tenant
        self.acknowledged = acknowledged
        self.created = created
    }

    /// Of segments that together may have more frames or lost ranges than fit into one, the one with most of them: it is to
    /// be left out. Two segments in the place of several, of which none covers each of these, would leave an interrupted
    /// merge for the next writer to untangle. Nil where all fit. Throws `.damaged`, `.storage`.
    func fullest(of entries: [SegmentCatalog.Entry]) throws(WALError) -> SegmentCatalog.Entry? {
        // An entry of an index takes so much at least: short segments, which most are, need no look.
        let length = entries.reduce(0) { $0 + $1.length }
        if length / UInt64(SegmentIndex.LostRange.length) < UInt64(SegmentWriter<Storage>.entryLimit) { return nil }
        var most: (entry: SegmentCatalog.Entry, count: Int)?
        var sum = 0
        for entry in entries {
            let index = try SegmentFile(entry.name, of: tenant, in: storage, format: format, keys: keys).index
            // Each frame may turn out to be one whose key was forgotten.
            let count = index.frames.count + index.lostRanges.count
            sum += count
            if most.map({ count > $0.count }) ?? true { most = (entry, count) }
        }
        return sum < SegmentWriter<Storage>.entryLimit ? nil : most?.entry
    }

    /// Writes what the segments hold that somebody may lack; it has no name yet. All of it has to fit into one (`fullest`).
    /// `goesOn` is asked before each frame; nil if it said no. Throws `.damaged`, `.keyUnavailable` where segments overlap
    /// amid a frame that cannot be opened, `.storage`; then nothing is left of it.
    mutating func run(
        _ entries: [SegmentCatalog.Entry], while goesOn: () -> Bool
    ) throws(WALError) -> SegmentWriter<Storage>.Finished? {
        let first = entries[0].covered.lowerBound
        next = first
        writer.begin(tenant, from: first)
        #if Simulation
            var entries = entries
            if DeliberateBug.isActive(.reorderInMerge) { entries.swapAt(0, 1) }
        #endif
        do throws(WALError) {
            for entry in entries {
                guard try take(entry, while: goesOn) else {
                    discard()
                    return nil
                }
            }
            do throws(StorageError) {
                finished = try writer.finish(
                    covering: first...next - 1, created: created, received: received ?? 0...0)
            } catch { throw .storage(error) }
            return finished
        } catch {
            discard()
            throw error
        }
    }

    private mutating func take(
        _ entry: SegmentCatalog.Entry, while goesOn: () -> Bool
    ) throws(WALError) -> Bool {
        let file = try SegmentFile(entry.name, of: tenant, in: storage, format: format, keys: keys)
        let taken = file.received
        received =
            received.map { min($0.lowerBound, taken.lowerBound)...max($0.upperBound, taken.upperBound) } ?? taken
        if let fault = file.fault { throw .damaged(path: file.path, offset: 0, reason: fault.description) }
        // Segments overlap where some of several got their names before a writer was killed or failed.
        let begin = next
        var lost = file.index.lostRanges[...]
        for (number, frame) in file.index.frames.enumerated() {
            guard goesOn() else { return false }
            addLost(&lost, before: frame.firstSequence, from: begin)
            #if Simulation
                let acknowledged = DeliberateBug.isActive(.dropUnacknowledgedInMerge) ? next + 1 : acknowledged
            #endif
            let wanted = max(acknowledged + 1, begin)
            if frame.firstSequence >= wanted, SegmentWriter<Storage>.isWorthKeeping(frame) {
                try copy(number, of: file)
            } else if frame.lastSequence >= wanted {
                do throws(WALError) {
                    let batch = try file.batch(ofFrame: number, from: wanted)
                    do throws(StorageError) { try writer.add(batch) } catch { throw .storage(error) }
                } catch {
                    switch error {
                    case .keyForgotten(_, let sequences, _):
                        writer.addLost(sequences, cause: .dropped)
                        forgottenCount += UInt64(sequences.count)
                    // Whole, although a part of it may be acknowledged: it cannot be cut.
                    case .keyUnavailable where frame.firstSequence >= begin: try copy(number, of: file)
                    default: throw error
                    }
                }
            }
            next = max(next, frame.lastSequence + 1)
        }
        addLost(&lost, before: .max, from: begin)
        next = max(next, entry.covered.upperBound + 1)
        return true
    }

    private func copy(_ number: Int, of file: SegmentFile<Storage>) throws(WALError) {
        try file.withEncodedFrame(number) { (bytes: RawSpan) throws(StorageError) in
            try writer.add(file.index.frames[number], encoded: bytes)
        }
    }

    private func addLost(
        _ ranges: inout ArraySlice<SegmentIndex.LostRange>, before sequence: UInt64, from begin: UInt64
    ) {
        while let range = ranges.first, range.sequences.lowerBound < sequence {
            ranges.removeFirst()
            let first = max(range.sequences.lowerBound, acknowledged + 1, begin)
            if first <= range.sequences.upperBound {
                writer.addLost(first...range.sequences.upperBound, cause: range.cause)
            }
        }
    }

    /// Removes what has no name yet. What cannot be removed is removed when the log is opened.
    func discard() {
        writer.discard()
        if let finished { try? storage.discard([finished.rename.temporary + SegmentName.temporarySuffix]) }
    }
}
