import WALFormat
import WALStorage

/// Writes what can be read of a damaged segment anew in its place, and states what cannot as given up. The segment as it
/// was is copied to quarantine first, and the new one takes its name in one step: at any moment there is one or the
/// other. One thread at a time, while nobody else adds segments or removes any.
package struct SegmentSalvage<Storage: JournalStorage> {
    let storage: Storage
    let format: RootFormat
    let tenant: TenantName
    /// Every subscriber has the records through this number.
    let acknowledged: UInt64
    let created: UInt64

    package struct Outcome {
        /// What stands in the segment's place.
        package var entries: [SegmentCatalog.Entry]
        package var recordsGivenUp: UInt64 = 0
    }

    package init(
        storage: Storage, format: RootFormat, tenant: TenantName, acknowledged: UInt64, created: UInt64
    ) {
        self.storage = storage
        self.format = format
        self.tenant = tenant
        self.acknowledged = acknowledged
        self.created = created
    }

    private enum Part {
        case frame(Int)
        case lost(SegmentIndex.LostRange)
    }

    /// Throws `.storage`, `.unsupportedFormat`, `.damaged` where a frame that was whole is not any more; then the segment is
    /// as it was, or whole in its place already. `copied` is told where the segment as it was lies, too, unless all its bytes
    /// are whole.
    package func run(_ entry: SegmentCatalog.Entry, copied: (String) -> Void) throws(WALError) -> Outcome {
        let path = SegmentName.directory(of: tenant) + "/" + entry.name
        var file: SegmentFile<Storage>?
        do throws(WALError) {
            file = try SegmentFile(entry.name, of: tenant, in: storage, format: format)
        } catch {
            guard case .damaged = error else { throw error }
        }
        let (parts, isWhole) = try parts(of: file, covered: entry.covered)
        var outcome = Outcome(entries: [])
        if !isWhole || file == nil { copied(try copyToQuarantine(path)) }
        let writer = SegmentWriter(storage: storage, format: format)
        var finished: [SegmentWriter<Storage>.Finished] = []
        do throws(WALError) {
            var first = entry.covered.lowerBound
            var next = first
            func finish(_ covered: ClosedRange<UInt64>) throws(WALError) {
                do throws(StorageError) {
                    finished.append(
                        try writer.finish(covering: covered, created: created, received: file?.received ?? 0...0))
                } catch { throw .storage(error) }
            }
            writer.begin(tenant, from: first)
            for part in parts {
                if !writer.hasRoom, next > first {
                    try finish(first...next - 1)
                    first = next
                    writer.begin(tenant, from: first)
                }
                switch part {
                case .lost(let range):
                    let cause: SegmentIndex.LostRange.Cause = range.cause == .dropped ? .dropped : .givenUp
                    if range.cause == .damaged { outcome.recordsGivenUp += UInt64(range.sequences.count) }
                    writer.addLost(range.sequences, cause: cause)
                    next = range.sequences.upperBound + 1
                case .frame(let number):
                    guard let file else { continue }
                    let frame = file.index.frames[number]
                    try file.withEncodedFrame(number) { (bytes: RawSpan) throws(StorageError) in
                        try writer.add(frame, encoded: bytes)
                    }
                    next = frame.lastSequence + 1
                }
            }
            try finish(first...entry.covered.upperBound)
            do throws(StorageError) {
                try storage.publish(finished.map(\.rename))
                // Two that stand for one: the old one would supersede them.
                if !finished.contains(where: { $0.summary.covered == entry.covered }) { try storage.remove(path) }
            } catch { throw .storage(error) }
        } catch {
            writer.discard()
            try? storage.discard(finished.map { $0.rename.temporary + SegmentName.temporarySuffix })
            throw error
        }
        outcome.entries = finished.map { .init(covered: $0.summary.covered, length: $0.summary.length) }
        return outcome
    }

    /// What the segment holds that somebody may lack, in the order of the numbers; frames that cannot be read as what
    /// is lost. And whether each byte of it that counts is whole.
    private func parts(
        of file: SegmentFile<Storage>?, covered: ClosedRange<UInt64>
    ) throws(WALError) -> (parts: [Part], isWhole: Bool) {
        var parts: [(first: UInt64, part: Part)] = []
        var isWhole = file != nil && file?.fault == nil
        func lose(_ range: ClosedRange<UInt64>, _ cause: SegmentIndex.LostRange.Cause) {
            let first = max(range.lowerBound, acknowledged + 1)
            if first <= range.upperBound {
                parts.append((first, .lost(.init(sequences: first...range.upperBound, cause: cause))))
            }
        }
        guard let file else {
            lose(covered, .damaged)
            return (parts.map(\.part), false)
        }
        for range in file.index.lostRanges { lose(range.sequences, range.cause) }
        for (number, frame) in file.index.frames.enumerated() where frame.lastSequence > acknowledged {
            if try isReadable(number, of: file) {
                parts.append((frame.firstSequence, .frame(number)))
            } else {
                isWhole = false
                lose(frame.firstSequence...frame.lastSequence, .damaged)
            }
        }
        parts.sort { $0.first < $1.first }
        return (parts.map(\.part), isWhole)
    }

    /// Whether a frame's records can be given to a subscriber, who may have keys that a repair lacks. A device that fails to
    /// read now may not fail for ever.
    private func isReadable(_ number: Int, of file: SegmentFile<Storage>) throws(WALError) -> Bool {
        for attempt in 1...Self.mostAttempts {
            do throws(WALError) {
                _ = try file.opens(frame: number)
                return true
            } catch {
                guard case .damaged = error else { throw error }
                guard file.hasMetUnreadable, attempt < Self.mostAttempts else { return false }
                pause(milliseconds: 200)
            }
        }
        return false
    }

    private static var mostAttempts: Int { 5 }

    /// Copies a file to quarantine, durably. What the device fails to read is zeros there.
    private func copyToQuarantine(_ path: String) throws(WALError) -> String {
        var target = ""
        do throws(StorageError) {
            target = try storage.freeName(inQuarantineFor: path)
            let source = try storage.open(path, forWriting: false)
            let copy = try storage.createTemporary(target)
            let buffer = AlignedBuffer(capacity: 1 << 20, alignment: max(4096, format.blockSize))
            let size = try source.size()
            var unreadable: [Range<UInt64>] = []
            var offset: UInt64 = 0
            while offset < size {
                let count = try source.readAround(
                    &unreadable, into: buffer, at: 0, length: buffer.capacity, from: offset,
                    blockSize: format.blockSize)
                if count == 0 { break }
                // A last block that was cut is filled up.
                let length = count.roundedUp(toMultipleOf: format.blockSize)
                buffer.withMutableBytes { $0.zero(count..<length) }
                try copy.write(buffer, at: 0, length: length, to: offset, durability: .processCrash)
                offset += UInt64(length)
            }
            try storage.publish([(target, target)])
            return target
        } catch {
            try? storage.discard([target + SegmentName.temporarySuffix])
            throw .storage(error)
        }
    }
}

extension JournalStorage {
    /// A name in quarantine for a file that goes there, one that no other has, and by which an erasure knows what it is.
    func freeName(inQuarantineFor path: String) throws(StorageError) -> String {
        let journal = "journal/"
        let base = "quarantine/" + (path.hasPrefix(journal) ? String(path.dropFirst(journal.count)) : path)
        var number = 1
        while try exists(base + ".\(number)") { number += 1 }
        return base + ".\(number)"
    }
}
