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
    private var finished: [SegmentWriter<Storage>.Finished] = []
    /// What the next segment covers, so far.
    private var first: UInt64 = 0
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

    /// Writes what the segments hold that somebody may lack; nothing has its name yet. `goesOn` is asked before each
    /// frame; nil if it said no. Throws `.damaged`, `.storage`; then nothing is left of it.
    mutating func run(
        _ entries: [SegmentCatalog.Entry], while goesOn: () -> Bool
    ) throws(WALError) -> [SegmentWriter<Storage>.Finished]? {
        first = entries[0].covered.lowerBound
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
            try finish()
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
        var lost = file.index.lostRanges[...]
        for (number, frame) in file.index.frames.enumerated() {
            guard goesOn() else { return false }
            if !writer.hasRoom, next > first {
                try finish()
                first = next
                writer.begin(tenant, from: first)
            }
            addLost(&lost, before: frame.firstSequence)
            #if Simulation
                let acknowledged = DeliberateBug.isActive(.dropUnacknowledgedInMerge) ? next + 1 : acknowledged
            #endif
            if frame.firstSequence > acknowledged, SegmentWriter<Storage>.isWorthKeeping(frame) {
                try copy(number, of: file)
            } else if frame.lastSequence > acknowledged {
                do throws(WALError) {
                    let batch = try file.batch(ofFrame: number, from: acknowledged + 1)
                    do throws(StorageError) { try writer.add(batch) } catch { throw .storage(error) }
                } catch {
                    switch error {
                    case .keyForgotten(_, let sequences, _):
                        writer.addLost(sequences, cause: .dropped)
                        forgottenCount += UInt64(sequences.count)
                    // Whole, although a part of it may be acknowledged: it cannot be cut.
                    case .keyUnavailable: try copy(number, of: file)
                    default: throw error
                    }
                }
            }
            next = max(next, frame.lastSequence + 1)
        }
        addLost(&lost, before: .max)
        next = max(next, entry.covered.upperBound + 1)
        return true
    }

    private func copy(_ number: Int, of file: SegmentFile<Storage>) throws(WALError) {
        try file.withEncodedFrame(number) { (bytes: RawSpan) throws(StorageError) in
            try writer.add(file.index.frames[number], encoded: bytes)
        }
    }

    private func addLost(_ ranges: inout ArraySlice<SegmentIndex.LostRange>, before sequence: UInt64) {
        while let range = ranges.first, range.sequences.lowerBound < sequence {
            ranges.removeFirst()
            let first = max(range.sequences.lowerBound, acknowledged + 1)
            if first <= range.sequences.upperBound {
                writer.addLost(first...range.sequences.upperBound, cause: range.cause)
            }
        }
    }

    private mutating func finish() throws(WALError) {
        do throws(StorageError) {
            finished.append(
                try writer.finish(covering: first...next - 1, created: created, received: received ?? 0...0))
        } catch { throw .storage(error) }
    }

    /// Removes what has no name yet. What cannot be removed is removed when the log is opened.
    func discard() {
        writer.discard()
        try? storage.discard(finished.map { $0.rename.temporary + SegmentName.temporarySuffix })
    }
}
