// What an erasure leaves of a tenant in journal files, shared ones and such as were set aside. The first byte of an
// input chooses, the second says through which number, the rest is a recipe (`JournalStep`):
//
//   bit 0          1: all files lie in quarantine
//   bit 1          1: zeros are written again, as after an attempt that failed
//   bits 2 and 3   block size
//   bits 4 and 5   whose records go

import TelemetryWAL
import WALFormat
import WALStorage

extension FuzzChecker {
    func checkFileScrub(_ input: [UInt8]) throws(FuzzViolation) {
        let choice = input.first ?? 0
        let blockSize = [4096, 8192, 16384, 32768][Int(choice >> 2 & 3)]
        var builder = JournalBuilder(blockSize: blockSize, compressor: compressor, marksRecords: true)
        builder.takeAll(Array(input.dropFirst(2)))
        let tenant = JournalBuilder.tenants[Int(choice >> 4 & 3)]
        // No frame stands across an erasure's end.
        let ends = builder.frames.filter { $0.header.tenant == tenant }.map(\.header.lastSequence)
        guard !ends.isEmpty else { return }
        let through = ends[Int(input.dropFirst().first ?? 0) % ends.count]
        // The log says so first.
        builder.control([.erasure(tenant: tenant, through: through, requested: 1, isComplete: false)])
        let check = ScrubCheck(
            builder: builder, tenant: tenant, through: through, isQuarantined: choice & 1 != 0,
            rewritesZeros: choice & 2 != 0)
        try check.run()
    }
}

private struct ScrubCheck {
    let builder: JournalBuilder
    let tenant: TenantName
    let through: UInt64
    let isQuarantined: Bool
    let rewritesZeros: Bool
    private let format: RootFormat
    private let storage: MemoryStorage
    /// What 16 bytes in a row of the tenant's payloads can be: of all its records, and of those that are to go where
    /// the log counts on a file.
    private let windows: (all: Set<RecordMark>, erased: Set<RecordMark>)

    /// As which life an erasure takes a file.
    private struct Life {
        var epoch: UInt64
        var fileSequence: UInt64
        var end: UInt64?
        var isCopy = false

        var scrubbed: FileScrub<MemoryStorage>.Life {
            .init(epoch: epoch, fileSequence: fileSequence, end: end, isCopy: isCopy)
        }
    }

    init(builder: JournalBuilder, tenant: TenantName, through: UInt64, isQuarantined: Bool, rewritesZeros: Bool) {
        self.builder = builder
        self.tenant = tenant
        self.through = through
        self.isQuarantined = isQuarantined
        self.rewritesZeros = rewritesZeros
        format = .fuzzed(blockSize: builder.blockSize)
        var files = ["FORMAT": RootFormat.fuzzed(blockSize: builder.blockSize).encoded()]
        var unreadable: [String: [Range<UInt64>]] = [:]
        for file in builder.files {
            let path = (isQuarantined ? "quarantine/" : "journal/") + file.name
            files[path] = file.bytes
            unreadable[path] = file.unreadable
        }
        storage = MemoryStorage(files: files, unreadable: unreadable)
        var windows: (all: Set<RecordMark>, erased: Set<RecordMark>) = ([], [])
        for frame in builder.frames where frame.header.tenant == tenant {
            for sequence in frame.header.firstSequence...frame.header.lastSequence {
                let found = RecordMark(of: tenant, sequence).windows
                windows.all.formUnion(found)
                if frame.header.lastSequence <= through { windows.erased.formUnion(found) }
            }
        }
        self.windows = windows
    }

    func run() throws(FuzzViolation) {
        let before = reader
        var read: ReadRecords?
        if let before { read = try ReadRecords(before.records(), in: storage) }
        for file in builder.files {
            let header = header(of: file)
            // Another log's is left alone.
            if let header, header.logIdentifier != format.logIdentifier { continue }
            try check(file, life(of: file, header, live: before?.journalFiles ?? []))
        }
        guard let before, let read, !isQuarantined, !builder.forgesBodies, !builder.forgesHeaders,
            let erasure = before.tenants.first(where: { $0.name == tenant })?.erasure, erasure.through >= through
        else { return }
        guard let after = reader else { throw FuzzViolation(description: "violated: a scrubbed log can be read") }
        let found = try ReadRecords(after.records(), in: storage)
        // Where a next file's beginning is lost, a file's last commit counts for as long as it is whole (SPEC.md, "What the
        // format cannot tell"): with what it had of the tenant it goes.
        if read.isCutShort || before.report.hasLoss || before.report.cases[.headerLost] ?? 0 > 0 { return }
        for (other, records) in read.records where other != tenant {
            for (sequence, record) in records {
                try require(
                    found.records[other]?[sequence] == record, "others' are read as before: \(other) \(sequence)")
            }
        }
    }

    private var reader: WriteAheadLogReader<MemoryStorage>? {
        try? WriteAheadLogReader(
            storage: storage, scope: .wholeJournal, opensBodies: true, keyProvider: FuzzedKeys())
    }

    // MARK: - What a file is

    /// The later of the headers that can be read.
    private func header(of file: JournalBuilder.File) -> JournalFileHeader? {
        let headers = (0..<FormatLimits.headerCopies).compactMap { copy -> JournalFileHeader? in
            let start = copy * builder.blockSize
            let range = UInt64(start)..<UInt64(start + builder.blockSize)
            if file.unreadable.contains(where: { $0.overlaps(range) }) { return nil }
            return file.bytes.withRawSpan {
                try? JournalFileHeader.decode($0, at: start, blockSize: builder.blockSize)
            }
        }
        return headers.max { $0.fileSequence < $1.fileSequence }
    }

    /// As an erasure takes it.
    private func life(
        of file: JournalBuilder.File, _ header: JournalFileHeader?, live: [JournalFileStatus]
    ) -> Life? {
        if !isQuarantined, let known = live.first(where: { $0.name == file.name }) {
            return Life(
                epoch: known.header.epoch, fileSequence: known.header.fileSequence, end: known.endOffset)
        }
        guard let header else { return nil }
        let original = live.first {
            $0.header.fileSequence == header.fileSequence && $0.header.epoch == header.epoch
        }
        if !isQuarantined, let original {
            return Life(
                epoch: header.epoch, fileSequence: header.fileSequence, end: original.endOffset, isCopy: true)
        }
        return Life(epoch: header.epoch, fileSequence: header.fileSequence)
    }

    // MARK: - One file

    private func check(_ file: JournalBuilder.File, _ life: Life?) throws(FuzzViolation) {
        let path = (isQuarantined ? "quarantine/" : "journal/") + file.name
        let isDone = try scrub(path, life)
        let scrubbed = storage.files[path] ?? []
        try require(scrubbed.count >= file.bytes.count, "a file does not become shorter")
        try checkOnlyZerosCame(file.bytes, scrubbed, path)
        let isPromised = life?.end != nil
        let survey = JournalFileSurvey(
            file, format: format, epoch: life?.epoch ?? 0, fileSequence: life?.fileSequence ?? 0,
            end: life == nil ? 0 : life?.end ?? .max)
        // A file that was cut ends within a block.
        let after = scrubbed + [UInt8](repeating: 0, count: max(0, survey.bytes.count - scrubbed.count))
        for range in survey.headers where !survey.isUnreadable(range) {
            try require(after[range] == survey.bytes[range], "headers stay, byte \(range.lowerBound) of \(path)")
        }
        var excused: [Range<Int>] = []
        for frame in survey.frames {
            let isKept: Bool
            if frame.tenant == tenant {
                isKept = isPromised && frame.lastSequence > through
            } else {
                // What is damaged of others' stays where somebody may want it still.
                let isEvidence = isQuarantined && frame.commitNumber <= survey.vouchedThrough
                isKept = frame.isIntact || isPromised || isEvidence
            }
            guard isKept else { continue }
            if frame.tenant == tenant || !frame.isIntact { excused.append(frame.body) }
            if survey.isUnreadable(frame.body) { continue }
            try require(
                after[frame.body] == survey.bytes[frame.body],
                "what is others' stays, byte \(frame.body.lowerBound) of \(path)")
        }
        guard isDone else { return }
        if !builder.forgesBodies {
            try checkNothingIsLeft(after, isPromised ? windows.erased : windows.all, excused, path)
        }
        // Were there anything left to do, it would not have been done.
        let isDoneAgain = try scrub(path, life)
        try require(isDoneAgain && storage.files[path] == scrubbed, "what is clean stays clean: \(path)")
    }

    /// Returns whether it came to the end.
    private func scrub(_ path: String, _ life: Life?) throws(FuzzViolation) -> Bool {
        var scrub = FileScrub<MemoryStorage>(
            format: format, tenant: tenant, through: through, rewritesZeros: rewritesZeros, goesOn: { true })
        do throws(StorageError) {
            let file = try storage.open(path, forWriting: true)
            if isQuarantined {
                try scrub.scrubQuarantined(file, life?.scrubbed)
            } else {
                try scrub.scrubJournal(file, upTo: file.size(), life?.scrubbed)
            }
            return true
        } catch {
            let isForeseen = error.code == .ioFailure && builder.files.contains { !$0.unreadable.isEmpty }
            try require(isForeseen, "a file on a device that works can be scrubbed: \(error)")
            return false
        }
    }

    private func checkOnlyZerosCame(_ before: [UInt8], _ after: [UInt8], _ path: String) throws(FuzzViolation) {
        var found: Int?
        before.withUnsafeBytes { (before: UnsafeRawBufferPointer) in
            after.withUnsafeBytes { (after: UnsafeRawBufferPointer) in
                for start in stride(from: 0, to: after.count, by: 8) {
                    // Most are the same, and are not looked at one by one.
                    if start + 8 <= before.count,
                        before.loadUnaligned(fromByteOffset: start, as: UInt64.self)
                            == after.loadUnaligned(fromByteOffset: start, as: UInt64.self)
                    {
                        continue
                    }
                    for offset in start..<min(start + 8, after.count) where after[offset] != 0 {
                        if offset >= before.count || before[offset] != after[offset] { found = found ?? offset }
                    }
                }
            }
        }
        try require(found == nil, "nothing but zeros is written, byte \(found ?? 0) of \(path)")
    }

    /// No 16 bytes of a payload that was to go are there. `excused`: what stays and may have anything on top of it.
    private func checkNothingIsLeft(
        _ bytes: [UInt8], _ windows: Set<RecordMark>, _ excused: [Range<Int>], _ path: String
    ) throws(FuzzViolation) {
        guard bytes.count >= RecordMark.length else { return }
        var found: Int?
        bytes.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
            var offset = 0
            while offset + RecordMark.length <= bytes.count {
                defer { offset += 1 }
                let first = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                // Most of a file is zeros, which no payload is.
                if first == 0 { continue }
                let second = bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
                guard windows.contains(RecordMark(UInt64(littleEndian: first), UInt64(littleEndian: second))) else {
                    continue
                }
                let window = offset..<offset + RecordMark.length
                if excused.contains(where: { $0.overlaps(window) }) { continue }
                found = offset
                return
            }
        }
        try require(found == nil, "nothing is left of \(tenant), byte \(found ?? 0) of \(path)")
    }
}
