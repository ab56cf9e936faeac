import WALFormat
import WALStorage

extension WriteAheadLogReader {
    /// Looks behind the checksums (see `DeepReport`): reads the whole log once more, every frame decompressed, and holds
    /// what is said of records against the records. `payloadFault` says of a record's payload what is wrong with it, nil
    /// for nothing; it is called for each place where a record can be read, which may be two. What fails its checks is
    /// passed over: `report` and `report(on:opensFrames:)` tell of it. Changes nothing, and works beside a living writer:
    /// files that this begins anew or removes meanwhile are passed over and counted. Blocks the calling thread, with a
    /// commit's frames in memory at a time, and up to 96 MiB of segments' frames. Throws `.storage`.
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
    /// What the journal's records are compared with.
    private var moved: SegmentRecords<Storage>

    init(reader: WriteAheadLogReader<Storage>, payloadFault: ((RecordBatch.Record) -> String?)?) {
        self.reader = reader
        self.payloadFault = payloadFault
        byNow = LogByNow(of: reader)
        moved = SegmentRecords(
            storage: reader.storage, format: reader.format, keys: reader.keys, segments: reader.recovered.segments)
    }

    private var storage: Storage { reader.storage }

    private var byNow: LogByNow<Storage>

    private func erasedThrough(_ tenant: TenantName) -> UInt64 { reader.recovered.state.erasedThrough(of: tenant) }

    private static func isMissing(_ error: StorageError) -> Bool { error.code == .notFound }

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
        let leftovers = try leftovers()
        for path in leftovers.foreign.sorted() {
            report.add(.fileStrange, path, "it is a segment of another log, tenant or range")
        }
        for path in leftovers.strange.sorted() {
            report.add(.fileStrange, path, "it is no segment; an erasure of its tenant would overwrite it")
        }
    }

    private func leftovers() throws(StorageError) -> SegmentCatalog.Leftovers {
        var attempts = 20
        while true {
            var leftovers = SegmentCatalog.Leftovers()
            do throws(StorageError) {
                _ = try SegmentCatalog(of: storage, format: reader.format, isForWriter: true, leftovers: &leftovers)
                return leftovers
            } catch {
                // A living writer merges and removes some while they are looked at.
                attempts -= 1
                guard Self.isMissing(error), attempts > 0 else { throw error }
            }
        }
    }

    private mutating func format() throws(StorageError) {
        guard try storage.exists("FORMAT") else {
            report.add(.copyDamaged, "FORMAT", "it is gone: the journal files' headers stand in for it")
            return
        }
        let bytes: [UInt8]
        do throws(StorageError) { bytes = try storage.contents(of: "FORMAT", limit: RootFormat.fileLength) } catch {
            guard error.code == .ioFailure else { throw error }
            report.add(.copyDamaged, "FORMAT", "the device fails to read it; see the kernel's log")
            return
        }
        let copies = bytes.withRawSpan { RootFormat.copies(in: $0) }
        for (number, copy) in copies.enumerated() {
            let offset = UInt64(number * RootFormat.copyLength)
            if copy == nil {
                report.add(.copyDamaged, "FORMAT", at: offset, "its copy \(number + 1) is not whole")
            } else if copy != copies[0], copies[0] != nil {
                report.add(.copyDamaged, "FORMAT", at: offset, "its copies differ")
            }
        }
    }

    // MARK: - Journal

    mutating func journalFile(_ file: ReadableFile) throws(WALError) {
        var file = file
        // Damage is told of elsewhere.
        file.isDelivered = true
        var cursor = JournalCursor(
            storage: storage, format: reader.format, keys: reader.keys, files: [file], throughCommit: reader.lastCommit,
            isTornBeginning: { _, _ in false })
        while true {
            let batches: [RecordBatch]
            do throws(WALError) {
                guard
                    let next = try cursor.next({ tenant, sequences, _ in
                        max(sequences.lowerBound, erasedThrough(tenant) + 1)
                    })
                else { break }
                batches = next
            } catch {
                switch error {
                case .damaged: break
                case .keyUnavailable, .keyForgotten: report.framesNotOpened += 1
                default: throw error
                }
                continue
            }
            for batch in batches {
                check(batch, in: "journal/" + file.name, at: cursor.commitOffset)
                try compareWithSegments(batch, in: "journal/" + file.name, at: cursor.commitOffset)
            }
        }
        if cursor.hasMissedFile { report.filesPassedOver += 1 }
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
        var others = try moved.records(of: batch.tenant, in: batch.sequences)[...]
        if others.isEmpty { return }
        for record in batch.records {
            others = others.drop { $0.sequence < record.sequence }
            guard let other = others.first, other.sequence == record.sequence else { continue }
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

    // MARK: - Segments

    private mutating func summaries(of status: SegmentStatus) throws(StorageError) {
        let copies = try SegmentCatalog.summaries(status.path, in: storage, reader.format)
        guard copies.contains(where: { $0.summary == nil || $0.summary != copies[0].summary }) else { return }
        // It may be overwritten just now.
        let last = status.covered.upperBound
        if byNow.erasedThrough(status.tenant, last) >= last { return }
        for copy in copies where copy.summary == nil {
            report.add(
                .copyDamaged, status.path, at: copy.offset, tenant: status.tenant,
                "its summary at \(copy.offset) is not whole")
        }
        if copies.allSatisfy({ $0.summary != nil }) {
            report.add(.copyDamaged, status.path, tenant: status.tenant, "its two summaries differ")
        }
    }

    mutating func segment(_ status: SegmentStatus) throws(WALError) {
        guard status.covered.upperBound > erasedThrough(status.tenant) else { return }
        let reader = reader
        do throws(StorageError) { try summaries(of: status) } catch {
            guard Self.isMissing(error) else { throw .storage(error) }
            report.filesPassedOver += 1
            return
        }
        guard
            let file = try SegmentFile<Storage>.readable({ () throws(WALError) in
                try SegmentFile(
                    SegmentName.name(covering: status.covered), of: status.tenant, in: reader.storage,
                    format: reader.format, keys: reader.keys)
            })
        else { return }
        for (number, frame) in file.index.frames.enumerated() {
            let batch: RecordBatch
            do throws(WALError) { batch = try file.batch(ofFrame: number) } catch {
                switch error {
                case .keyUnavailable, .keyForgotten: report.framesNotOpened += 1
                case .damaged: break
                case .storage(let cause) where Self.isMissing(cause): break
                default: throw error
                }
                continue
            }
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
