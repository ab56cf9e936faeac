// Looks behind the checksums of whole logs. The first byte of an input chooses, the rest is a recipe (`LogStep`):
//
//   bits 2 and 3   block size
//   bit 4          1: there is no FORMAT
//   bit 7          1: every seventh payload is said to be none of its kind

import TelemetryWAL
import WALFormat

extension FuzzChecker {
    func checkDeepReport(_ input: [UInt8]) throws(FuzzViolation) {
        let log = LogBuilder(input, behind: 1, compressor: compressor)
        let choice = input.first ?? 0
        let storage = log.storage(hasFormat: choice & 16 == 0)
        let files = storage.files
        guard let report = try deepReport(of: log, in: storage, findsFaults: choice & 128 != 0) else { return }
        try require(storage.files == files, "a deep look changes nothing")
        var backwards = storage
        backwards.listsBackwards = true
        let again = try deepReport(of: log, in: backwards, findsFaults: choice & 128 != 0)
        try require(again.map(Self.text) == Self.text(of: report), "a deep look finds the same again")
        try checkFindings(report, files)
        if let expected = log.expected, choice & 16 == 0 { try checkWhole(report, expected, log) }
    }

    private func deepReport(
        of log: LogBuilder, in storage: MemoryStorage, findsFaults: Bool
    ) throws(FuzzViolation) -> DeepReport? {
        let reader: WriteAheadLogReader<MemoryStorage>
        do throws(WALError) {
            reader = try WriteAheadLogReader(storage: storage, scope: .wholeJournal, keyProvider: FuzzedKeys())
        } catch {
            try require(log.expected == nil, "a log that nothing was done to can be read: \(error)")
            return nil
        }
        var asked: UInt64 = 0
        let report: DeepReport
        do throws(WALError) {
            report = try reader.deepReport(payloadFault: { record in
                asked += 1
                return findsFaults && record.sequence % 7 == 0 ? "the fuzzer says so" : nil
            })
        } catch {
            var isForeseen = false
            switch error {
            case .storage: isForeseen = log.hasUnreadable
            // Segments and frames of versions that are still to come.
            case .unsupportedFormat: isForeseen = log.isForged
            default: break
            }
            try require(isForeseen, "a log that can be read can be looked into: \(error)")
            return nil
        }
        try require(asked == report.records, "each record is looked at once where it stands")
        return report
    }

    private func checkFindings(_ report: DeepReport, _ files: [String: [UInt8]]) throws(FuzzViolation) {
        let most = DeepReport.What.allCases.count * DeepReport.mostFindings
        try require(report.findings.count <= most, "findings are bounded")
        let total = report.counts.values.reduce(0, +)
        try require(UInt64(report.findings.count) + report.unlisted == total, "findings are counted")
        try require(report.frames <= report.records, "a frame has a record at least")
        try require(report.recordsCompared <= report.records, "a record that is compared was read")
        for finding in report.findings {
            let isThere = files[finding.path] != nil || files.keys.contains { $0.hasPrefix(finding.path + "/") }
            try require(isThere || finding.path == "FORMAT", "a finding names a file: \(finding.path)")
            try require(
                finding.offset <= UInt64(files[finding.path]?.count ?? 8192), "a finding lies in its file")
        }
    }

    /// A log that nothing was done to contradicts itself nowhere, and all of it was looked at.
    private func checkWhole(
        _ report: DeepReport, _ expected: [TenantName: [UInt64: StoredRecord]], _ log: LogBuilder
    ) throws(FuzzViolation) {
        try require(
            report.findings.allSatisfy { $0.what == .payloadInvalid },
            "nothing is found in a log that nothing was done to: \(report.findings.first?.detail ?? "")")
        try require(report.filesPassedOver == 0, "no file leaves a log that nobody writes")
        let (oldest, frames) = (log.journal.oldestLiveFile, log.journal.frames)
        if frames.contains(where: { $0.header.keyIdentifier == 13 || $0.header.keyIdentifier == 14 }) { return }
        try require(report.framesNotOpened == 0, "what there are keys of is opened")
        var compared: UInt64 = 0
        for frame in frames where frame.fileSequence >= oldest {
            let through = frame.header.tenant.flatMap { log.movedThrough[$0] } ?? 0
            if frame.header.lastSequence <= through { compared += UInt64(frame.header.recordCount) }
        }
        try require(report.recordsCompared == compared, "what stands twice is compared")
        let all = expected.values.reduce(0) { $0 + UInt64($1.count) }
        try require(report.records == all + compared, "all records are looked at")
    }

    private static func text(of report: DeepReport) -> String {
        var lines = report.findings.map { (finding: DeepReport.Finding) -> String in
            let sequences = finding.sequences.map { "\($0)" } ?? "-"
            return "\(finding.what) \(finding.path) \(finding.offset) \(sequences) \(finding.detail)"
        }
        lines += report.counts.map { "\($0.key) \($0.value)" }.sorted()
        lines.append("\(report.frames) \(report.records) \(report.recordsCompared) \(report.framesNotOpened)")
        return lines.joined(separator: "\n")
    }
}
