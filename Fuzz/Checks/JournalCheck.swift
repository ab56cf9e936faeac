// Whole journals, through the recovery and the readers that production uses, on files in memory. The first byte of an
// input chooses, the rest is a recipe (`JournalStep`):
//
//   bit 0          1: a writer opens the log, appends and closes
//   bit 1          1: the writer reads the whole journal when it opens the log, 0: since the checkpoint
//   bits 2 and 3   block size: 4, 8, 16, 32 KiB: larger ones do not fit the small reads of the build
//   bit 4          1: there is no FORMAT
//   bit 5          1: the view beside a living writer is looked at too
//   bit 6          1: bodies are not opened when the journal is read

import Logging
import TelemetryWAL
import WALFormat
import WALStorage

/// Nobody's records are encrypted, and none that are can be read.
private struct NoKeys: KeyProvider {
    func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { nil }
    func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        throw KeyProviderError("the fuzzer has no keys")
    }
}

extension FuzzChecker {
    /// Most steps of a recipe: more only cost time.
    private static let stepLimit = 40

    func checkJournal(_ input: [UInt8]) throws(FuzzViolation) {
        let choice = input.first ?? 0
        let blockSize = [4096, 8192, 16384, 32768][Int(choice >> 2 & 3)]
        var builder = JournalBuilder(blockSize: blockSize, compressor: compressor)
        var format = builder.format.encoded()
        var reader = RecipeReader(Array(input.dropFirst()))
        var steps = 0
        builder.begin([])
        while !reader.isAtEnd, steps < Self.stepLimit {
            steps += 1
            builder.take(&reader, formatBytes: &format)
        }
        var files: [String: [UInt8]] = choice & 16 == 0 ? ["FORMAT": format] : [:]
        var unreadable: [String: [Range<UInt64>]] = [:]
        for file in builder.files {
            files["journal/" + file.name] = file.bytes
            unreadable["journal/" + file.name] = file.unreadable
        }
        let storage = MemoryStorage(files: files, unreadable: unreadable)
        var check = JournalCheck(
            storage: storage, opensBodies: choice & 64 == 0, forgesHeaders: builder.forgesHeaders)
        var view = try check.views(besideWriter: choice & 32 != 0)
        let scope = choice & 2 == 0 ? RecoveryScope.sinceCheckpoint : .wholeJournal
        try require(storage.files == files, "reading changes nothing")
        if choice & 1 != 0 {
            // A writer opens no bodies. Where that matters, it is held against who looks as closely.
            if builder.forgesBodies, check.opensBodies {
                check.opensBodies = false
                view = try check.views(besideWriter: false)
            }
            try check.writer(scope: scope, blockSize: blockSize, isForged: builder.forgesBodies, view)
        }
    }
}

private struct JournalCheck {
    let storage: MemoryStorage
    var opensBodies: Bool
    /// See `JournalBuilder`.
    let forgesHeaders: Bool

    /// What a view of a log shows.
    private struct View {
        var reader: WriteAheadLogReader<MemoryStorage>
        /// By tenant and sequence number.
        var records: [TenantName: [UInt64: [UInt8]]] = [:]
        var count: UInt64 = 0
        var damaged: [String] = []
        /// Of whom nothing is given behind what nobody has the key of.
        var locked: Set<TenantName> = []
        /// Everything that another look must show as well.
        var text: String
    }

    /// A view, or the kind of the error.
    private enum Outcome {
        case view(View)
        case refused(String)

        var text: String {
            switch self {
            case .view(let view): view.text
            case .refused(let kind): kind
            }
        }
    }

    /// What the writer has to find again.
    struct Expectation {
        var isRefused: Bool
        var records: [TenantName: [UInt64: [UInt8]]]
        var nextSequences: [TenantName: UInt64]
        var hasSubscribers: Bool
        /// Files whose headers are gone and that nothing places.
        var destroyedFiles = 0
        /// Files that are part of the log.
        var liveFiles = 0
        /// What it was before, for messages.
        var text: String
    }

    // MARK: - Reading

    func views(besideWriter: Bool) throws(FuzzViolation) -> Expectation {
        let first = try outcome(.wholeJournal)
        var backwards = storage
        backwards.listsBackwards = true
        let second = try outcome(.wholeJournal, in: backwards)
        try require(first.text == second.text, "recovery finds the same again:\n\(first.text)\n\(second.text)")
        guard case .view(let whole) = first else {
            _ = try outcome(.sinceCheckpoint)
            return Expectation(
                isRefused: true, records: [:], nextSequences: [:], hasSubscribers: false, text: "")
        }
        try checkReport(whole)
        // A body that fails behind a right checksum, which is a writer's mistake, shows to those only who open it.
        if case .view(let quick) = try outcome(.sinceCheckpoint), whole.reader.report.findings.isEmpty,
            quick.damaged.isEmpty
        {
            try require(
                quick.reader.lastCommit == whole.reader.lastCommit,
                "both scopes find the same end:\n\(whole.text)\n\(quick.text)")
        }
        if besideWriter, !whole.reader.report.hasLoss {
            var living = storage
            living.hasWriter = true
            if case .view(let durable) = try outcome(.wholeJournal, in: living) {
                for (tenant, records) in durable.records {
                    for (sequence, payload) in records {
                        try require(whole.records[tenant]?[sequence] == payload, "what is durable is the same")
                    }
                }
            }
        }
        // What was dropped is shown as long as its file stays, and goes with it.
        var records = whole.records
        for tenant in whole.reader.tenants {
            records[tenant.name] = records[tenant.name]?.filter { $0.key > tenant.droppedThrough }
        }
        return Expectation(
            isRefused: false, records: records,
            nextSequences: Dictionary(uniqueKeysWithValues: whole.reader.tenants.map { ($0.name, $0.nextSequence) }),
            hasSubscribers: !whole.reader.subscribers.isEmpty,
            destroyedFiles: whole.reader.report.cases[.headerDestroyed] ?? 0,
            liveFiles: whole.reader.journalFiles.count, text: whole.text)
    }

    private func outcome(
        _ scope: RecoveryScope, in storage: MemoryStorage? = nil
    ) throws(FuzzViolation) -> Outcome {
        let reader: WriteAheadLogReader<MemoryStorage>
        do throws(WALError) {
            reader = try WriteAheadLogReader(
                storage: storage ?? self.storage, scope: scope, opensBodies: scope == .wholeJournal && opensBodies,
                keyProvider: FuzzedKeys())
        } catch { return .refused(Self.kind(of: error)) }
        var view = View(reader: reader, text: "")
        try read(into: &view)
        for file in reader.journalFiles {
            if let commits = try? reader.commits(inFileNamed: file.name) {
                try require(commits.allSatisfy { $0.header.epoch == file.header.epoch }, "commits are of their file")
            }
        }
        view.text = Self.text(of: view)
        return .view(view)
    }

    private func read(into view: inout View) throws(FuzzViolation) {
        var batches = view.reader.records()
        var last: [TenantName: UInt64] = [:]
        // Each step passes a block at least, or gives a frame of a commit, which takes 64 bytes.
        var steps = storage.files.values.reduce(100) { $0 + $1.count / 64 }
        while true {
            steps -= 1
            try require(steps > 0, "reading comes to an end")
            var batch: RecordBatch?
            do throws(WALError) { batch = try batches.next() } catch {
                switch error {
                case .damaged, .keyUnavailable, .keyForgotten:
                    if case .keyUnavailable(let tenant, _, _) = error { view.locked.insert(tenant) }
                    view.damaged.append("\(error)")
                    continue
                default: break
                }
                // The device fails, and would again.
                view.damaged.append(Self.kind(of: error))
                return
            }
            guard let batch else { return }
            try checkBatch(batch, last: &last, into: &view)
        }
    }

    private func checkBatch(
        _ batch: RecordBatch, last: inout [TenantName: UInt64], into view: inout View
    ) throws(FuzzViolation) {
        try require(batch.sequences.lowerBound > last[batch.tenant] ?? 0, "a record is read once, in order")
        try require(batch.sequences.upperBound <= FormatLimits.maximumNumber, "sequence numbers are bounded")
        try require(batch.byteCount <= FormatLimits.maximumFrameRawLength, "a batch is bounded")
        try require(
            batch.commitNumber > 0 && (forgesHeaders || batch.commitNumber <= view.reader.lastCommit),
            "no record is behind the end")
        last[batch.tenant] = batch.sequences.upperBound
        var sequence = batch.sequences.lowerBound
        for record in batch.records {
            try require(record.sequence == sequence, "records of a batch follow each other")
            try require(record.payload.count <= FormatLimits.maximumPayloadLength, "a payload is bounded")
            view.records[batch.tenant, default: [:]][sequence] = Array(record.payload.prefix(64))
            sequence += 1
        }
        try require(sequence == batch.sequences.upperBound + 1, "a batch has as many records as it says")
        view.count += UInt64(batch.count)
    }

    private func checkReport(_ view: View) throws(FuzzViolation) {
        let report = view.reader.report
        if opensBodies {
            try require(view.count <= report.records, "no more records are read than recovery found whole")
        }
        try require(report.findings.allSatisfy { $0.what.isFinding }, "findings are such")
        try require(report.liveFiles == view.reader.journalFiles.count, "live files are counted")
        for finding in report.findings {
            try require(report.cases[finding.what] ?? 0 > 0, "a finding is counted")
            if report.cases[.fileMissing] == nil, !finding.file.hasPrefix("(") {
                try require(storage.files["journal/" + finding.file] != nil, "a finding names a file")
            }
        }
        for tenant in view.reader.tenants {
            try require(tenant.nextSequence > 0, "sequence numbers begin with 1")
            let highest = tenant.acknowledgedThrough.values.max() ?? 0
            try require(tenant.nextSequence > highest, "no number is given that a cursor has passed")
            if let read = view.records[tenant.name]?.keys.max() {
                try require(tenant.nextSequence > read, "no number is given that a record has")
            }
        }
    }

    private static func text(of view: View) -> String {
        let report = view.reader.report
        var lines = ["commit \(view.reader.lastCommit), closed \(report.wasClosed), records \(view.count)"]
        lines += report.cases.map { "\($0.key.rawValue) \($0.value)" }.sorted()
        lines += report.findings.map { "\($0.what) \($0.file) \($0.byteRange) \($0.losses)" }
        lines += ["torn \(report.tornTailFile ?? "-") \(report.tornTailOffset) \(report.tornTailBytes)"]
        lines += view.reader.tenants.map { tenant in
            let cursors = tenant.acknowledgedThrough.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }
            return "\(tenant.name.description.prefix(8)) \(tenant.nextSequence) \(cursors)"
        }
        lines += view.reader.journalFiles.map { "\($0.name) \($0.header.fileSequence) \($0.endOffset) \($0.damage)" }
        return (lines + view.damaged).joined(separator: "\n")
    }

    private static func kind(of error: WALError) -> String {
        switch error {
        case .notALog, .unsupportedFormat: "refused"
        case .storage(let cause): "storage \(cause.code)"
        case .damaged: "damaged"
        default: "other: \(error)"
        }
    }

    // MARK: - Writing

    /// A writer goes on behind whatever was found: what it appends is there when the log is read again, and nothing
    /// that was there is gone.
    func writer(
        scope: RecoveryScope, blockSize: Int, isForged: Bool, _ before: Expectation
    ) throws(FuzzViolation) {
        // A checkpoint is authority: whoever begins there may know less than who reads what is before it.
        let mayKnowLess = before.isRefused || (isForged && scope == .sinceCheckpoint)
        let written = storage.copy()
        var options = WriteAheadLogOptions()
        options.recoveryScope = scope
        options.journalFileSize = UInt64(max(Int(FormatLimits.minimumJournalFileSize), 32 * blockSize))
        options.journalLimit = 1 << 50
        options.writePath = .plain
        options.commitsUnderWay = 1
        // Without, nothing is appended to an encrypted log.
        options.keyProvider = NoKeys()
        options.logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
        let log: WriteAheadLogEngine<MemoryStorage>
        do throws(WALError) { log = try WriteAheadLogEngine.open(storage: written, options: options) } catch {
            var isAtLimit = false
            if case .unsupportedFormat(_, let reason) = error { isAtLimit = reason.contains("the format's limit") }
            // What the device fails to read now may be read another time, and nothing else is the log's.
            var isUnread = false
            if case .damaged(_, _, let reason) = error {
                isUnread = reason.contains("the device fails to read its header") && before.liveFiles == 0
            }
            try require(before.isRefused || isAtLimit || isUnread, "a log that can be read can be opened: \(error)")
            let untouched = storage.files.filter { $0.key != "FORMAT" }
            try require(
                written.files.filter { $0.key != "FORMAT" } == untouched, "a log that is refused is not touched")
            return
        }
        let tenant: TenantName = "fuzz"
        let payload = Array("appended behind it".utf8)
        var receipts: [Receipt] = []
        do throws(WALError) {
            try log.register(subscriber: "fuzz-subscriber")
            for name in before.nextSequences.keys.sorted().prefix(1) + [tenant] {
                receipts.append(try log.appendBlocking(TelemetryRecord(kind: .opaque, payload: payload), tenant: name))
            }
            try log.closeBlocking()
        } catch { throw FuzzViolation(description: "violated: a log that was opened takes an append: \(error)") }
        let check = JournalCheck(storage: written, opensBodies: opensBodies, forgesHeaders: forgesHeaders)
        // What reading everything refuses a writer that reads since the checkpoint may not have seen: a commit that no
        // reader of this version can open, in a file before the newest.
        guard case .view(let after) = try check.outcome(mayKnowLess ? scope : .wholeJournal) else {
            // Nor need it be seen by the next one, who may have to read more.
            if before.isRefused { return }
            throw FuzzViolation(description: "violated: a log that was written can be read")
        }
        // What was written may be in a file that forged headers deny, its records, its subscribers and the closing mark.
        if forgesHeaders { return }
        for receipt in receipts {
            // Its tenant's earlier records are in a file that the checkpoint denies: the number is given again.
            if mayKnowLess, receipt.sequence < before.nextSequences[receipt.tenant] ?? 0 { continue }
            try require(
                after.locked.contains(receipt.tenant)
                    || after.records[receipt.tenant]?[receipt.sequence] == payload,
                "what was acknowledged is there: \(receipt)\n\(after.text)")
            if let next = before.nextSequences[receipt.tenant] {
                try require(receipt.sequence >= next, "no sequence number is given twice")
            }
        }
        try require(after.reader.subscribers.contains("fuzz-subscriber"), "a subscriber that came is there")
        try require(
            after.reader.report.wasClosed, "a log that was closed says so:\n\(before.text)\nbecame\n\(after.text)")
        // With subscribers, what they have acknowledged may leave. Where the headers of two files are lost, and the head
        // of the older one, that one has no place any more once a newer file has a header: it is left alone, and told.
        let isTold = after.reader.report.cases[.headerDestroyed] ?? 0 > before.destroyedFiles
        if mayKnowLess || before.hasSubscribers || isTold { return }
        for (tenant, records) in before.records {
            for (sequence, payload) in records {
                try require(
                    after.records[tenant]?[sequence] == payload,
                    "what was there is there: record \(sequence)\n\(before.text)\nbecame\n\(after.text)")
            }
        }
    }
}
