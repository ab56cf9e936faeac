import WALFormat
import WALStorage

/// Records of many tenants on their way from journal files into segments: kept apart by tenant, in memory, up to a
/// budget; then each tenant's become a segment. One thread at a time.
///
/// A journal file has little of each of many tenants, and a segment costs a file, a flush and two changes of names. So
/// as much as the budget allows is gathered first, and the segments of many that come of it get their names together. What
/// goes wrong before that leaves the journal as it was; what goes wrong amid it leaves segments that are whole, of
/// records that the journal still has, and sequence numbers tell that they are the same.
final class SegmentPartition<Storage: JournalStorage> {
    private let storage: Storage
    private let writer: SegmentWriter<Storage>
    /// Bytes of memory that what waits may take: the lower bound, and more, up to the upper one, where so many tenants
    /// share it that segments would come to be short.
    private let budget: ClosedRange<Int>
    private var tenants: [TenantName: Waiting] = [:]
    /// In the order in which they came, so that the same journal gives the same segments.
    private var order: [TenantName] = []
    private(set) var byteCount = 0
    /// Memory that is kept for what comes next.
    private var freeChunks: [RecordChunk] = []
    #if Simulation
        private static var wantedLength: Int { 24 << 10 }
    #else
        /// Bytes of a tenant's that are worth a segment, whose file, flush and names cost as much as 50 KiB of records.
        private static var wantedLength: Int { 128 << 10 }
    #endif
    /// Numbers that are missing in a damaged file, or next behind one, are lost; others were never given to a record.
    private var isDamaged = false
    private var damageCount = 0
    /// Something was lost of what came so far, or is in doubt.
    private(set) var hasLosses = false

    /// What a tenant has waiting.
    private struct Waiting {
        /// The first number that the next segment covers.
        var next: UInt64
        /// The number behind the last one that was taken.
        var end: UInt64
        var damageCount = 0
        var items: [Item] = []
        /// The records, one behind the other, no run across two chunks.
        var chunks: [RecordChunk] = []
        /// What these count as of the budget.
        var byteCount = 0
    }

    private enum Item {
        /// Records, and where they are.
        case run(SegmentWriter<Storage>.Run, chunk: Int, bytes: Range<Int>)
        /// A frame as it is, and where it is.
        case carried(SegmentIndex.Frame, chunk: Int, bytes: Range<Int>)
        /// No cause: what the flush says.
        case lost(ClosedRange<UInt64>, cause: SegmentIndex.LostRange.Cause?)

        var sequences: ClosedRange<UInt64> {
            switch self {
            case .run(let run, _, _): run.sequences
            case .carried(let frame, _, _): frame.firstSequence...frame.lastSequence
            case .lost(let sequences, _): sequences
            }
        }

        /// No run of records stands across an erasure's end, and what is lost may.
        func parts(cutBehind cuts: [UInt64]) -> [Item] {
            guard case .lost(let sequences, let cause) = self,
                let cut = cuts.filter({ sequences.lowerBound <= $0 && $0 < sequences.upperBound }).min()
            else { return [self] }
            let rest = Item.lost(cut + 1...sequences.upperBound, cause: cause)
            return [.lost(sequences.lowerBound...cut, cause: cause)] + rest.parts(cutBehind: cuts)
        }
    }

    /// A segment that has its name.
    struct Published {
        var tenant: TenantName
        var covered: ClosedRange<UInt64>
        /// Bytes of the file.
        var length: UInt64
        var recordCount: UInt64
        /// Those of them that nobody could open.
        var carriedCount: UInt64
        var lostCount: UInt64
        /// Numbers whose records went with their key.
        var forgottenCount: UInt64
    }

    /// A tenant's numbers that matter to what is added.
    struct Bounds {
        /// Every subscriber has the records through this number.
        var acknowledged: UInt64 = 0
        /// The last number that a segment covers; 0 for none.
        var covered: UInt64 = 0
        /// The first number that the file has, or had, of the tenant.
        var first: UInt64 = 0
    }

    /// `pause` is called between pieces of work.
    init(storage: Storage, format: RootFormat, budget: ClosedRange<Int>, pause: @escaping () -> Void = {}) {
        self.storage = storage
        self.budget = budget
        writer = SegmentWriter(storage: storage, format: format, pause: pause)
    }

    /// Whether what waits should be written before more is added.
    var isFull: Bool {
        byteCount >= min(budget.upperBound, max(budget.lowerBound, order.count * Self.wantedLength))
    }
    var isEmpty: Bool { order.isEmpty }
    /// Whether some of what waits is to be written before more of the same file is added: a compressed file may hold
    /// several times its length. Not where there are losses, of which all is said at once.
    /// Nor where so many tenants wait that what goes would not be worth its segments: each takes a piece of memory at least.
    var exceedsBudget: Bool {
        byteCount >= max(budget.upperBound, 2 * order.count * RecordChunk.length) && !hasLosses
    }

    /// Damage was met in the journal file that is being read.
    func noteDamage() {
        isDamaged = true
        hasLosses = true
    }

    /// What comes next is another file's.
    func endFile() {
        if isDamaged { damageCount += 1 }
        isDamaged = false
    }

    /// Takes records, in the order of each tenant's numbers. Those that nobody needs any more are passed over.
    func add(_ batch: RecordBatch, _ bounds: Bounds) {
        let last = batch.sequences.upperBound
        guard last > bounds.acknowledged else { return }
        // Taken out while it is changed: what is shared would be copied.
        var waiting = tenants.removeValue(forKey: batch.tenant) ?? newWaiting(bounds)
        defer { tenants[batch.tenant] = waiting }
        let first = max(waiting.end, bounds.acknowledged + 1)
        guard last >= first, let rest = batch.from(first) else { return }
        noteGap(first, before: rest.sequences.lowerBound, in: &waiting, of: batch.tenant)
        let (chunk, bytes) = rest.withEncodedRecords { copy($0, to: &waiting) }
        append(.run(.init(rest), chunk: chunk, bytes: bytes), to: &waiting, of: batch.tenant)
    }

    /// Takes a frame whose key is not to be had, in the order of the tenant's numbers. Returns whether it did: one that has
    /// records which a segment covers, and others, cannot be cut.
    func add(_ frame: CarriedFrame, _ bounds: Bounds) -> Bool {
        let (entry, tenant) = (frame.entry, frame.tenant)
        guard entry.lastSequence > bounds.acknowledged else { return true }
        var waiting = tenants.removeValue(forKey: tenant) ?? newWaiting(bounds)
        defer { tenants[tenant] = waiting }
        let first = max(waiting.end, bounds.acknowledged + 1)
        guard entry.lastSequence >= first else { return true }
        // Whole, although a part of it may be acknowledged.
        if entry.firstSequence < waiting.next, waiting.items.isEmpty, bounds.covered == 0 {
            (waiting.next, waiting.end) = (entry.firstSequence, entry.firstSequence)
        }
        guard entry.firstSequence >= waiting.end else { return false }
        noteGap(max(waiting.end, bounds.acknowledged + 1), before: entry.firstSequence, in: &waiting, of: tenant)
        let (chunk, bytes) = frame.bytes.withRawSpan { copy($0, to: &waiting) }
        append(.carried(entry, chunk: chunk, bytes: bytes), to: &waiting, of: tenant)
        return true
    }

    /// Records, in the order of the tenant's numbers, that nobody can read any more, since their key was forgotten on
    /// purpose.
    func forget(_ sequences: ClosedRange<UInt64>, of tenant: TenantName, _ bounds: Bounds) {
        guard sequences.upperBound > bounds.acknowledged else { return }
        var waiting = tenants[tenant] ?? newWaiting(bounds)
        let first = max(waiting.end, bounds.acknowledged + 1)
        guard sequences.upperBound >= first else { return }
        noteGap(first, before: sequences.lowerBound, in: &waiting, of: tenant)
        let forgotten = max(first, sequences.lowerBound)...sequences.upperBound
        append(.lost(forgotten, cause: .dropped), to: &waiting, of: tenant)
        tenants[tenant] = waiting
    }

    /// A journal file is through that had a tenant's records through a number: what did not come of them is lost.
    func finish(_ tenant: TenantName, through last: UInt64, _ bounds: Bounds) {
        guard last > bounds.acknowledged else { return }
        var waiting = tenants[tenant] ?? newWaiting(bounds)
        let first = max(waiting.end, bounds.acknowledged + 1)
        guard last >= first else { return }
        lose(first...last, from: &waiting, of: tenant)
        tenants[tenant] = waiting
    }

    /// Numbers of a tenant whose records are known to be lost, in order: those that nothing has passed yet are lost in its
    /// next segment, too.
    func lose(_ ranges: [ClosedRange<UInt64>], of tenant: TenantName, _ bounds: Bounds) {
        for range in ranges where range.upperBound > bounds.acknowledged {
            var bounds = bounds
            bounds.first = range.lowerBound
            var waiting = tenants[tenant] ?? newWaiting(bounds)
            let first = max(waiting.end, bounds.acknowledged + 1, range.lowerBound)
            guard first <= range.upperBound else { continue }
            lose(first...range.upperBound, from: &waiting, of: tenant)
            tenants[tenant] = waiting
        }
    }

    /// Numbers from one on that a file lacks: lost if there was damage, and never given to a record otherwise.
    private func noteGap(_ first: UInt64, before next: UInt64, in waiting: inout Waiting, of tenant: TenantName) {
        if next > first, isDamaged || waiting.damageCount != damageCount {
            lose(first...next - 1, from: &waiting, of: tenant)
        }
        waiting.damageCount = damageCount
    }

    private func lose(_ sequences: ClosedRange<UInt64>, from waiting: inout Waiting, of tenant: TenantName) {
        hasLosses = true
        #if Simulation
            if DeliberateBug.isActive(.forgetLossInSegments) {
                waiting.end = sequences.upperBound + 1
                return
            }
        #endif
        append(.lost(sequences, cause: nil), to: &waiting, of: tenant)
    }

    /// Returns where the records are.
    private func copy(_ records: RawSpan, to waiting: inout Waiting) -> (chunk: Int, bytes: Range<Int>) {
        if waiting.chunks.last.map({ $0.room < records.byteCount }) ?? true {
            let chunk = takeChunk(records.byteCount)
            waiting.chunks.append(chunk)
            waiting.byteCount += chunk.capacity
            byteCount += chunk.capacity
        }
        let last = waiting.chunks.count - 1
        return (last, waiting.chunks[last].append(records))
    }

    private func takeChunk(_ length: Int) -> RecordChunk {
        if length > RecordChunk.length { return RecordChunk(length: length) }
        if freeChunks.isEmpty { freeChunks = RecordChunk.several() }
        return freeChunks.removeLast()
    }

    /// Keeps memory for what comes next, all of it: to let go of some pieces would free none of the pages that they share
    /// with others. What waits is bounded, and so is this. Long pieces go.
    private func recycle(_ chunks: [RecordChunk]) {
        for chunk in chunks where chunk.capacity == RecordChunk.length {
            chunk.removeAll()
            freeChunks.append(chunk)
        }
    }

    /// Whether memory is kept and nothing waits.
    var keepsMemory: Bool { !freeChunks.isEmpty && isEmpty }

    /// Gives that back, which takes some milliseconds.
    func releaseMemory() { freeChunks = [] }

    private func newWaiting(_ bounds: Bounds) -> Waiting {
        // Segments of a tenant cover its numbers without a gap, whether anybody still lacks the records or not.
        let next = (bounds.covered > 0 ? bounds.covered : bounds.acknowledged) + 1
        // What a file may lack begins with what it has, unless segments say what came before.
        return Waiting(next: next, end: bounds.covered > 0 ? next : max(next, bounds.first))
    }

    private func append(_ item: Item, to waiting: inout Waiting, of tenant: TenantName) {
        if waiting.items.isEmpty { order.append(tenant) }
        waiting.items.append(item)
        waiting.end = item.sequences.upperBound + 1
    }

    /// Lets go of all that waits. The memory is kept: to give it back takes longer than whoever holds a lock may wait.
    func removeAll() {
        for waiting in tenants.values { recycle(waiting.chunks) }
        tenants = [:]
        order = []
        byteCount = 0
        hasLosses = false
    }

    /// Writes a segment, or several where one is not enough, for each tenant that has records waiting, or for the first
    /// of these, and gives them their names. When it throws, any of them may have its name, and what waits stays. `received` says when the log had
    /// taken a tenant's records, `cuts` through which numbers a tenant's go, or may: a segment ends there. `lossCause` is what lost
    /// ranges are said to be. `goesOn` is asked before each segment, with true before they are given their names; nil
    /// if it said no.
    func flush(
        most: Int = .max, created: UInt64,
        received: (TenantName, ClosedRange<UInt64>) -> ClosedRange<UInt64> = { _, _ in 0...0 },
        cuts: (TenantName) -> [UInt64] = { _ in [] }, lossCause: SegmentIndex.LostRange.Cause = .damaged,
        while goesOn: (_ isNaming: Bool) -> Bool = { _ in true }
    ) throws(StorageError) -> [Published]? {
        var finished: [SegmentWriter<Storage>.Finished] = []
        let count = min(most, order.count)
        do throws(StorageError) {
            for tenant in order[..<count] {
                guard goesOn(false) else {
                    discard(finished)
                    return nil
                }
                guard let waiting = tenants[tenant] else { continue }
                try write(
                    waiting, of: tenant, created: created, received: { received(tenant, $0) }, cuts: cuts(tenant),
                    lossCause: lossCause, &finished)
            }
            guard goesOn(true) else {
                discard(finished)
                return nil
            }
            #if Simulation
                if DeliberateBug.isActive(.skipRenameOfSegments) { return publish(finished, count) }
            #endif
            try publishInOrder(finished)
        } catch {
            writer.discard()
            discard(finished)
            throw error
        }
        return publish(finished, count)
    }

    /// Gives segments their names. Of a tenant that has several, each only when the one before has its own durably: the
    /// last one says what the journal need not keep, so that none before it may be missing.
    private func publishInOrder(_ finished: [SegmentWriter<Storage>.Finished]) throws(StorageError) {
        var rest = finished[...]
        while !rest.isEmpty {
            var tenants: Set<TenantName> = []
            let end = rest.firstIndex { !tenants.insert($0.summary.tenant).inserted } ?? rest.endIndex
            try storage.publish(rest[..<end].map(\.rename))
            rest = rest[end...]
        }
    }

    /// The first tenants' segments have their names.
    private func publish(_ finished: [SegmentWriter<Storage>.Finished], _ count: Int) -> [Published] {
        for tenant in order[..<count] {
            guard let waiting = tenants.removeValue(forKey: tenant) else { continue }
            recycle(waiting.chunks)
            byteCount -= waiting.byteCount
            tenants[tenant] = Waiting(next: waiting.end, end: waiting.end, damageCount: waiting.damageCount)
        }
        order.removeFirst(count)
        if order.isEmpty { hasLosses = false }
        return finished.map {
            Published(
                tenant: $0.summary.tenant, covered: $0.summary.covered, length: $0.summary.length,
                recordCount: $0.summary.recordCount, carriedCount: $0.copiedCount, lostCount: $0.lostCount,
                forgottenCount: $0.droppedCount)
        }
    }

    /// Removes what has no name yet. What cannot be removed is removed when the log is opened.
    private func discard(_ finished: [SegmentWriter<Storage>.Finished]) {
        try? storage.discard(finished.map { $0.rename.temporary + SegmentName.temporarySuffix })
    }

    private func write(
        _ waiting: Waiting, of tenant: TenantName, created: UInt64,
        received: (ClosedRange<UInt64>) -> ClosedRange<UInt64>, cuts: [UInt64], lossCause: SegmentIndex.LostRange.Cause,
        _ finished: inout [SegmentWriter<Storage>.Finished]
    ) throws(StorageError) {
        func finish(_ covered: ClosedRange<UInt64>) throws(StorageError) {
            finished.append(try writer.finish(covering: covered, created: created, received: received(covered)))
        }
        var first = waiting.next
        var next = first
        writer.begin(tenant, from: first)
        for item in waiting.items.lazy.flatMap({ $0.parts(cutBehind: cuts) }) {
            let isBehindCut = cuts.contains { next - 1 <= $0 && item.sequences.lowerBound > $0 }
            if !writer.hasRoom || isBehindCut, next > first {
                try finish(first...next - 1)
                first = next
                writer.begin(tenant, from: first)
            }
            switch item {
            case .lost(let sequences, let cause): writer.addLost(sequences, cause: cause ?? lossCause)
            case .run(let run, let chunk, let bytes):
                try waiting.chunks[chunk].withBytes(bytes) { (records: RawSpan) throws(StorageError) in
                    try writer.add(records, run)
                }
            case .carried(let frame, let chunk, let bytes):
                try waiting.chunks[chunk].withBytes(bytes) { (encoded: RawSpan) throws(StorageError) in
                    try writer.add(frame, encoded: encoded)
                }
            }
            next = item.sequences.upperBound + 1
        }
        try finish(first...next - 1)
    }
}
