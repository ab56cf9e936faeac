// Segments that are damaged, written anew. The first byte of an input chooses the block size (bits 2 and 3), the second
// how much is acknowledged (modulo 64), the rest is a recipe (`LogStep`).
// Nothing here fails to be read: a salvage waits for a second where a device does.

import TelemetryWAL
import WALFormat
import WALStorage

extension FuzzChecker {
    func checkSegmentSalvage(_ input: [UInt8]) throws(FuzzViolation) {
        let log = LogBuilder(input, behind: 2, compressor: compressor)
        let acknowledged = UInt64((input.dropFirst().first ?? 0) % 64)
        let format = RootFormat.fuzzed(blockSize: log.journal.blockSize)
        for segment in log.segments {
            guard let covered = SegmentName.sequences(of: segment.name) else { continue }
            let storage = log.storage(isFailing: false)
            let check = SalvageCheck(
                storage: storage, format: format, tenant: segment.tenant, path: segment.path,
                acknowledged: acknowledged)
            let entry = SegmentCatalog.Entry(covered: covered, length: UInt64(segment.bytes.count))
            guard let entries = try check.run(entry, segment.bytes) else { continue }
            // What was written anew needs no salvage any more.
            for entry in entries { try check.runAgain(entry) }
        }
    }
}

private struct SalvageCheck {
    let storage: MemoryStorage
    let format: RootFormat
    let tenant: TenantName
    let path: String
    let acknowledged: UInt64

    /// What a segment holds.
    private struct Contents {
        var records: [UInt64: StoredRecord] = [:]
        /// Frames whose checksums hold and that cannot be opened, by their first numbers: the checksums of their headers.
        var locked: [UInt64: UInt32] = [:]
        /// Frames that cannot be read, with whatever key.
        var damaged: [ClosedRange<UInt64>] = []
        var index = SegmentIndex()
        var isWhole = false
    }

    /// Returns what stands in a segment's place; nil where it was refused.
    func run(_ entry: SegmentCatalog.Entry, _ bytes: [UInt8]) throws(FuzzViolation) -> [SegmentCatalog.Entry]? {
        let before: Contents?
        do throws(WALError) { before = try contents(entry) } catch {
            try checkRefused(entry, bytes)
            return nil
        }
        let lost = lostRanges(of: before, entry)
        var copies: [String] = []
        let outcome: SegmentSalvage<MemoryStorage>.Outcome
        do throws(WALError) { outcome = try salvage.run(entry) { copies.append($0) } } catch {
            throw FuzzViolation(description: "violated: a segment on a device that works can be salvaged: \(error)")
        }
        try checkPlace(outcome.entries, entry)
        var after = Contents()
        for part in outcome.entries {
            let anew: Contents?
            do throws(WALError) { anew = try contents(part) } catch {
                throw FuzzViolation(description: "violated: what was written anew can be read: \(error)")
            }
            guard let found = anew else {
                throw FuzzViolation(description: "violated: what was written anew is a segment")
            }
            try require(found.isWhole && found.damaged.isEmpty, "what was written anew is whole")
            after.records.merge(found.records) { $1 }
            after.locked.merge(found.locked) { $1 }
            after.index.lostRanges += found.index.lostRanges
        }
        let known = before ?? Contents()
        for (sequence, record) in known.records where sequence > acknowledged {
            try require(after.records[sequence] == record, "what could be read can be read: record \(sequence)")
        }
        for (sequence, record) in after.records {
            try require(known.records[sequence] == record, "nothing is there that was not: record \(sequence)")
        }
        for frame in known.index.frames where frame.lastSequence > acknowledged {
            guard let checksum = known.locked[frame.firstSequence] else { continue }
            try require(after.locked[frame.firstSequence] == checksum, "what nobody has the key of is kept as it was")
        }
        try require(
            Self.joined(after.index.lostRanges) == Self.joined(lost.stated), "what is lost is stated, and nothing else")
        try require(outcome.recordsGivenUp == lost.count, "as many records are given up as were lost")
        let isWhole = known.isWhole && known.damaged.allSatisfy { $0.upperBound <= acknowledged }
        try checkCopies(copies, of: bytes, isWhole: isWhole)
        return outcome.entries
    }

    /// A segment that was written anew is as it should be.
    func runAgain(_ entry: SegmentCatalog.Entry) throws(FuzzViolation) {
        var copies: [String] = []
        let outcome: SegmentSalvage<MemoryStorage>.Outcome
        do throws(WALError) { outcome = try salvage.run(entry) { copies.append($0) } } catch {
            throw FuzzViolation(description: "violated: what was salvaged can be salvaged: \(error)")
        }
        try require(copies.isEmpty, "what is whole does not go to quarantine")
        try require(outcome.recordsGivenUp == 0, "what is given up is given up once")
    }

    private var salvage: SegmentSalvage<MemoryStorage> {
        SegmentSalvage(storage: storage, format: format, tenant: tenant, acknowledged: acknowledged, created: 9)
    }

    private func checkRefused(_ entry: SegmentCatalog.Entry, _ bytes: [UInt8]) throws(FuzzViolation) {
        let isRefused = (try? salvage.run(entry) { _ in }) == nil
        try require(isRefused, "a segment of another version is not salvaged")
        try require(storage.files[path] == bytes, "a segment that is not salvaged stays as it is")
    }

    private func checkPlace(
        _ entries: [SegmentCatalog.Entry], _ entry: SegmentCatalog.Entry
    ) throws(FuzzViolation) {
        var next = entry.covered.lowerBound
        for part in entries {
            try require(part.covered.lowerBound == next, "segments in one's place follow each other")
            next = part.covered.upperBound + 1
        }
        try require(next == entry.covered.upperBound + 1, "they cover what it covered")
        let files = storage.files
        try require(!files.keys.contains { $0.hasPrefix("quarantine") && $0.hasSuffix(".tmp") }, "copies have names")
        let names = Set(entries.map { SegmentName.directory(of: tenant) + "/" + $0.name })
        try require(names.allSatisfy { files[$0] != nil }, "what was written anew has its name")
        try require(names.contains(path) || files[path] == nil, "nothing else stands in its place")
    }

    /// The segment as it was is in quarantine, filled up to whole blocks.
    private func checkCopies(_ copies: [String], of bytes: [UInt8], isWhole: Bool) throws(FuzzViolation) {
        if isWhole { return }
        try require(copies.count == 1, "a damaged segment goes to quarantine")
        guard let path = copies.first, let copy = storage.files[path] else {
            throw FuzzViolation(description: "violated: a copy is where it is said to be")
        }
        try require(
            copy.starts(with: bytes) && copy.dropFirst(bytes.count).allSatisfy { $0 == 0 }
                && copy.count - bytes.count < format.blockSize, "a copy has the segment's bytes")
    }

    // MARK: - What is there

    /// nil: nothing of the segment can be used. Throws what is no damage.
    private func contents(_ entry: SegmentCatalog.Entry) throws(WALError) -> Contents? {
        // Who has no keys sees damage where the bytes are not those that were written, and only there.
        guard let plain = try file(entry, nil), let opened = try file(entry, FuzzedKeys()) else { return nil }
        var contents = Contents(index: plain.index, isWhole: plain.fault == nil)
        for (number, frame) in plain.index.frames.enumerated() {
            let sequences = frame.firstSequence...frame.lastSequence
            if try read(number, of: plain) == nil, try !isLocked(number, of: plain) {
                contents.damaged.append(sequences)
                continue
            }
            guard let batch = try read(number, of: opened) else {
                contents.locked[frame.firstSequence] = frame.headerChecksum
                continue
            }
            for record in batch.records { contents.records[record.sequence] = StoredRecord(record) }
        }
        return contents
    }

    private func file(
        _ entry: SegmentCatalog.Entry, _ keys: FuzzedKeys?
    ) throws(WALError) -> SegmentFile<MemoryStorage>? {
        do throws(WALError) {
            return try SegmentFile<MemoryStorage>(
                entry.name, of: tenant, in: storage, format: format, keyProvider: keys)
        } catch {
            guard case .damaged = error else { throw error }
            return nil
        }
    }

    private func read(_ number: Int, of file: SegmentFile<MemoryStorage>) throws(WALError) -> RecordBatch? {
        do throws(WALError) { return try file.batch(ofFrame: number) } catch {
            switch error {
            case .damaged, .keyUnavailable, .keyForgotten: return nil
            default: throw error
            }
        }
    }

    private func isLocked(_ number: Int, of file: SegmentFile<MemoryStorage>) throws(WALError) -> Bool {
        do throws(WALError) {
            _ = try file.batch(ofFrame: number)
            return false
        } catch {
            switch error {
            case .keyUnavailable, .keyForgotten: return true
            case .damaged: return false
            default: throw error
            }
        }
    }

    // MARK: - What is lost

    /// What a salvage has to state, and how many records that gives up.
    private func lostRanges(
        of contents: Contents?, _ entry: SegmentCatalog.Entry
    ) -> (stated: [SegmentIndex.LostRange], count: UInt64) {
        var lost: [SegmentIndex.LostRange] =
            contents?.index.lostRanges ?? [.init(sequences: entry.covered, cause: .damaged)]
        for sequences in contents?.damaged ?? [] { lost.append(.init(sequences: sequences, cause: .damaged)) }
        var stated: [SegmentIndex.LostRange] = []
        var count: UInt64 = 0
        for range in lost where range.sequences.upperBound > acknowledged {
            let sequences = max(range.sequences.lowerBound, acknowledged + 1)...range.sequences.upperBound
            if range.cause == .damaged { count += sequences.upperBound - sequences.lowerBound + 1 }
            stated.append(.init(sequences: sequences, cause: range.cause == .dropped ? .dropped : .givenUp))
        }
        return (stated, count)
    }

    /// Ranges in order, those of one cause that touch as one.
    private static func joined(_ ranges: [SegmentIndex.LostRange]) -> [SegmentIndex.LostRange] {
        var joined: [SegmentIndex.LostRange] = []
        for range in ranges.sorted(by: { $0.sequences.lowerBound < $1.sequences.lowerBound }) {
            if let last = joined.last, last.cause == range.cause,
                last.sequences.upperBound + 1 == range.sequences.lowerBound
            {
                joined[joined.count - 1].sequences = last.sequences.lowerBound...range.sequences.upperBound
            } else {
                joined.append(range)
            }
        }
        return joined
    }
}
