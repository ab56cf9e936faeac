// Whole journals, through the recovery and the readers that production uses, on files in memory. The first byte of an
// input chooses, the rest is a recipe (`JournalStep`):
//
//   bit 0          1: a writer opens the log, appends and closes
//   bit 1          1: the writer reads the whole journal when it opens the log, 0: since the checkpoint
//   bits 2 and 3   block size: 4, 8, 16, 32 KiB: larger ones do not fit the small reads of the build
//   bit 4          1: there is no FORMAT
//   bit 5          1: the view beside a living writer is looked at too
//   bit 6          1: bodies are not opened when the journal is read

import TelemetryWAL
import WALFormat
import WALStorage

extension FuzzChecker {
    func checkJournal(_ input: [UInt8]) throws(FuzzViolation) {
        let choice = input.first ?? 0
        let blockSize = [4096, 8192, 16384, 32768][Int(choice >> 2 & 3)]
        var builder = JournalBuilder(blockSize: blockSize, compressor: compressor)
        let format = builder.takeAll(Array(input.dropFirst()))
        var files: [String: [UInt8]] = choice & 16 == 0 ? ["FORMAT": format] : [:]
        var unreadable: [String: [Range<UInt64>]] = [:]
        for file in builder.files {
            files["journal/" + file.name] = file.bytes
            unreadable["journal/" + file.name] = file.unreadable
        }
        let storage = MemoryStorage(files: files, unreadable: unreadable)
        try checkJournal(in: storage, choice, builder)
    }

    /// Checks a log whose journal was built, and whose other files lie in the storage, too.
    func checkJournal(
        in storage: MemoryStorage, _ choice: UInt8, _ builder: JournalBuilder, forgesSegments: Bool = false
    ) throws(FuzzViolation) {
        var check = JournalCheck(
            storage: storage, opensBodies: choice & 64 == 0, forgesHeaders: builder.forgesHeaders,
            forgesSegments: forgesSegments)
        let files = storage.files
        var view = try check.views(besideWriter: choice & 32 != 0)
        let scope = choice & 2 == 0 ? RecoveryScope.sinceCheckpoint : .wholeJournal
        try require(storage.files == files, "reading changes nothing")
        if choice & 1 != 0 {
            // A writer opens no bodies. Where that matters, it is held against who looks as closely.
            if builder.forgesBodies, check.opensBodies {
                check.opensBodies = false
                view = try check.views(besideWriter: false)
            }
            try check.writer(scope: scope, blockSize: builder.blockSize, isForged: builder.forgesBodies, view)
        }
    }
}

struct JournalCheck {
    let storage: MemoryStorage
    var opensBodies: Bool
    /// See `JournalBuilder`.
    let forgesHeaders: Bool
    /// Segments say what they are not, or names say it of them: a writer looks closer at them than a reader does.
    var forgesSegments = false

    /// What a view of a log shows.
    struct View {
        var reader: WriteAheadLogReader<MemoryStorage>
        /// By tenant and sequence number.
        var records: [TenantName: [UInt64: StoredRecord]] = [:]
        /// Records that stand in the journal.
        var count: UInt64 = 0
        var damaged: [String] = []
        /// Of whom nothing is given behind what nobody has the key of.
        var locked: Set<TenantName> = []
        /// Everything that another look must show as well.
        var text: String
    }

    /// A view, or the kind of the error.
    enum Outcome {
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
        var records: [TenantName: [UInt64: StoredRecord]]
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
                    for (sequence, record) in records {
                        try require(whole.records[tenant]?[sequence] == record, "what is durable is the same")
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

    func outcome(
        _ scope: RecoveryScope, in storage: MemoryStorage? = nil
    ) throws(FuzzViolation) -> Outcome {
        let reader: WriteAheadLogReader<MemoryStorage>
        do throws(WALError) {
            reader = try WriteAheadLogReader(
                storage: storage ?? self.storage, scope: scope, opensBodies: scope == .wholeJournal && opensBodies,
                keyProvider: FuzzedKeys())
        } catch { return .refused(ReadRecords.kind(of: error)) }
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
        let (reader, hasSegments) = (view.reader, !view.reader.segments.isEmpty)
        var count: UInt64 = 0
        let found = try ReadRecords(reader.records(), in: storage) { (batch: RecordBatch) throws(FuzzViolation) in
            // What stands in a segment names no commit.
            if hasSegments, batch.commitNumber == 0 { return }
            try require(
                batch.commitNumber > 0 && (forgesHeaders || batch.commitNumber <= reader.lastCommit),
                "no record is behind the end")
            count += UInt64(batch.count)
        }
        view.records = found.records
        view.damaged = found.damaged
        view.locked = found.locked
        view.count = count
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
}
