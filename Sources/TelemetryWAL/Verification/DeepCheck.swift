import WALFormat
import WALStorage

extension WriteAheadLogReader {
    /// Looks behind the checksums (see `DeepReport`): reads the whole log once more, every frame decompressed, and holds
    /// what is said of records against the records. `payloadFault` says of a record's payload what is wrong with it, nil
    /// for nothing; it is called once for each record that can be read. What fails its checks is passed over: `report`
    /// and `report(on:opensFrames:)` tell of it. Changes nothing, and works beside a living writer, whose moves it
    /// follows. Blocks the calling thread, with a frame or two in memory at a time. Throws `.storage`.
    public func deepReport(
        payloadFault: ((RecordBatch.Record) -> String?)? = nil, progress: ((UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> DeepReport {
        var check = DeepCheck(reader: self, payloadFault: payloadFault)
        do throws(StorageError) { try check.copiesAndNames() } catch { throw .storage(error) }
        let files = recovered.readableFiles(tenantIndex: nil, from: 1, behind: nil)
        let all = segments
        let total = UInt64(files.count + all.count)
        for (number, file) in files.enumerated() {
            try check.journalFile(file)
            progress?(UInt64(number + 1), total)
        }
        for (number, segment) in all.enumerated() {
            try check.segment(segment)
            progress?(UInt64(files.count + number + 1), total)
        }
        return check.report
    }
}

/// One look at a log. One thread at a time.
private struct DeepCheck<Storage: JournalStorage> {
    let reader: WriteAheadLogReader<Storage>
    let payloadFault: ((RecordBatch.Record) -> String?)?
    var report = DeepReport()
    /// The segment that records of the journal were last compared with.
    private var open: SegmentFile<Storage>?

    init(reader: WriteAheadLogReader<Storage>, payloadFault: ((RecordBatch.Record) -> String?)?) {
        self.reader = reader
        self.payloadFault = payloadFault
    }

    private var storage: Storage { reader.storage }

    private func erasedThrough(_ tenant: TenantName) -> UInt64 {
        let state = reader.recovered.state
        return state.index(of: tenant).map { state.tenants[$0].erasedThrough } ?? 0
    }

    // MARK: - Copies and names

    mutating func copiesAndNames() throws(StorageError) {
        try format()
        for name in try storage.entries(of: "").sorted() where !LogRoot<Storage>.ownEntries.contains(name) {
            report.add(.fileStrange, name, "it is not the log's")
        }
        for name in try SegmentCatalog.names(in: "journal", storage)
        where JournalFileName.number(of: name) == nil && !name.hasSuffix(".tmp") {
            report.add(.fileStrange, "journal/" + name, "no journal file has such a name")
        }
        var leftovers = SegmentCatalog.Leftovers()
        do throws(StorageError) {
            _ = try SegmentCatalog(of: storage, format: reader.format, isForWriter: true, leftovers: &leftovers)
        } catch {
            // A living writer merges and removes them meanwhile: who stays is looked at below.
            guard error.code == .notFound else { throw error }
        }
        for path in leftovers.foreign.sorted() {
            report.add(.fileStrange, path, "it is a segment of another log, tenant or range")
        }
    }

    private mutating func format() throws(StorageError) {
        guard try storage.exists("FORMAT") else {
            report.add(.copyDamaged, "FORMAT", "it is gone: the journal files' headers stand in for it")
            return
        }
        let bytes = try storage.contents(of: "FORMAT", limit: RootFormat.fileLength)
        let whole = bytes.withRawSpan { RootFormat.wholeCopies($0) }
        let copies = RootFormat.fileLength / RootFormat.copyLength
        if whole < copies { report.add(.copyDamaged, "FORMAT", "\(whole) of its \(copies) copies are whole") }
    }

    // MARK: - Journal

    mutating func journalFile(_ file: ReadableFile) throws(WALError) {
        var file = file
        // Damage is told of elsewhere.
        file.isDelivered = true
        var cursor = JournalCursor(
            storage: storage, format: reader.format, files: [file], throughCommit: reader.lastCommit)
        while true {
            let batches: [RecordBatch]
            do throws(WALError) {
                guard
                    let next = try cursor.next({ tenant, sequences, _ in
                        max(sequences.lowerBound, erasedThrough(tenant) + 1)
                    })
                else { return }
                batches = next
            } catch {
                guard case .damaged = error else { throw error }
                continue
            }
            for batch in batches {
                check(batch, in: "journal/" + file.name, at: cursor.commitOffset)
                try compareWithSegments(batch, in: "journal/" + file.name, at: cursor.commitOffset)
            }
        }
    }

    /// A batch, which has what its frame's header says, against its records.
    private mutating func check(_ batch: RecordBatch, in path: String, at offset: UInt64) {
        report.frames += 1
        var strayKinds = RecordKindSet()
        var strayTimes = 0
        for record in batch.records {
            report.records += 1
            let kind = RecordKindSet(record.kind)
            if !batch.kinds.contains(kind) { strayKinds.insert(kind) }
            if !batch.timestamps.contains(record.timestamp) { strayTimes += 1 }
            if let fault = payloadFault?(record) {
                report.add(
                    .payloadInvalid, path, at: offset, tenant: batch.tenant,
                    sequences: record.sequence...record.sequence,
                    "it is no \(record.kind): \(fault)")
            }
        }
        if !strayKinds.isEmpty {
            let names = strayKinds.kinds.map { "\($0)" }.joined(separator: ", ")
            report.add(
                .frameMisstated, path, at: offset, tenant: batch.tenant, sequences: batch.sequences,
                "its header does not have the kinds \(names)")
        }
        if strayTimes > 0 {
            report.add(
                .frameMisstated, path, at: offset, tenant: batch.tenant, sequences: batch.sequences,
                "\(strayTimes) records are earlier or later than its header says")
        }
    }

    /// What was moved into segments stays in the journal until its file is used again.
    private mutating func compareWithSegments(
        _ batch: RecordBatch, in path: String, at offset: UInt64
    ) throws(WALError) {
        let segments = reader.recovered.segments
        guard batch.sequences.lowerBound <= segments.coveredThrough(batch.tenant) else { return }
        var others: [UInt64: RecordBatch.Record] = [:]
        var next = batch.sequences.lowerBound
        while next <= batch.sequences.upperBound, let entry = segments.entry(of: batch.tenant, above: next - 1) {
            next = entry.covered.upperBound + 1
            guard let segment = try file(of: entry, tenant: batch.tenant) else { continue }
            for number in segment.index.frames.indices
            where batch.sequences.overlaps(
                segment.index.frames[number].firstSequence...segment.index.frames[number].lastSequence)
            {
                guard let found = try readable({ () throws(WALError) in try segment.batch(ofFrame: number) }) else {
                    continue
                }
                for record in found.records where batch.sequences.contains(record.sequence) {
                    others[record.sequence] = record
                }
            }
        }
        if others.isEmpty { return }
        for record in batch.records {
            guard let other = others[record.sequence] else { continue }
            report.recordsCompared += 1
            if other.kind == record.kind, other.timestamp == record.timestamp, other.payload == record.payload {
                continue
            }
            report.add(
                .recordsDiffer, path, at: offset, tenant: batch.tenant,
                sequences: record.sequence...record.sequence,
                "its segment has another record of that number")
        }
    }

    private mutating func file(
        of entry: SegmentCatalog.Entry, tenant: TenantName
    ) throws(WALError) -> SegmentFile<Storage>? {
        if let open, open.tenant == tenant, open.covered == entry.covered { return open }
        let reader = reader
        open = try readable { () throws(WALError) in
            try SegmentFile(entry.name, of: tenant, in: reader.storage, format: reader.format)
        }
        return open
    }

    /// nil where it is damaged, or gone.
    private func readable<Value>(_ body: () throws(WALError) -> Value) throws(WALError) -> Value? {
        do throws(WALError) { return try body() } catch {
            switch error {
            case .damaged: return nil
            case .storage(let cause) where cause.code == .notFound: return nil
            default: throw error
            }
        }
    }

    // MARK: - Segments

    mutating func segment(_ status: SegmentStatus) throws(WALError) {
        guard status.covered.upperBound > erasedThrough(status.tenant) else { return }
        let reader = reader
        do throws(StorageError) {
            let whole = try SegmentCatalog.wholeSummaries(status.path, in: storage, reader.format)
            if whole.count < 2 {
                report.add(
                    .copyDamaged, status.path, tenant: status.tenant, "\(whole.count) of its 2 summaries are whole")
            } else if whole[0] != whole[1] {
                report.add(.copyDamaged, status.path, tenant: status.tenant, "its two summaries differ")
            }
        } catch {
            if error.code == .notFound { return }
            guard error.code == .ioFailure else { throw .storage(error) }
        }
        guard
            let file = try readable({ () throws(WALError) in
                try SegmentFile(
                    SegmentName.name(covering: status.covered), of: status.tenant, in: reader.storage,
                    format: reader.format)
            })
        else { return }
        for (number, frame) in file.index.frames.enumerated() {
            guard let batch = try readable({ () throws(WALError) in try file.batch(ofFrame: number) }) else { continue }
            check(batch, in: status.path, at: frame.offset)
            let times = frame.lowestTimestamp...max(frame.lowestTimestamp, frame.highestTimestamp)
            if batch.kinds != frame.kinds || batch.timestamps != times || batch.byteCount != frame.rawLength {
                report.add(
                    .indexMisstated, status.path, at: frame.offset, tenant: status.tenant, sequences: batch.sequences,
                    "kinds, times or length are not those of the frame's header")
            }
        }
    }
}
