import ArgumentParser
import OTLPProtocol
import TelemetryWAL
import WALFormat
import WALStorage

/// `walctl verify`: is everything that was acknowledged there and whole?
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check every byte of the log; exit 0 if clean, 1 with findings.",
        discussion: """
            Reads the whole journal and all tenant segments: checksums, chain, epochs, every frame decompressed, every
            record walked. Changes nothing, and works beside a living writer. An unfinished commit at the end, which a
            crash leaves, is no finding: it was never acknowledged. Nor is what a repair has given up, which is listed.
            Encrypted records are checked without keys, too, by their checksums; with keys they are opened. Where a key is
            given and does not open what names it, that ends with 1.

            With --deep also what no checksum tells, reading everything twice: what frames and indices say of kinds and
            times against their records, records that stand in journal and segments against each other, payloads
            against their kinds (OTLP), both copies of FORMAT and of segments' summaries, and strangers' files. Of what
            that finds `walctl repair` mends FORMAT only.

            EXAMPLES
              walctl verify wal
              walctl verify wal --deep
              walctl verify wal --format json | jq .findings
            """)

    @OptionGroup var root: RootArgument
    @Flag(help: "Look behind the checksums, too.")
    var deep = false
    @OptionGroup var keys: KeyOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let keyProvider = try keys.provider()
        let bar = ProgressBar("verifying")
        let reader = try failing { () throws(WALError) in
            try WriteAheadLogReader(at: root.root, opensBodies: true, keyProvider: keyProvider) {
                bar.update($0, of: $1)
            }
        }
        bar.finish()
        var summary = VerifySummary(reader: reader)
        for journal in reader.journals { summary.add(journal) }
        let segments = reader.allSegments()
        let segmentBar = ProgressBar("verifying segments")
        for (number, (journal, view, segment)) in segments.enumerated() {
            let report = try failing { () throws(WALError) in try view.report(on: segment, opensFrames: true) }
            if let report { summary.add(report, below: journal.prefix) }
            segmentBar.update(UInt64(number + 1), of: UInt64(segments.count))
        }
        segmentBar.finish()
        if deep {
            let deepBar = ProgressBar("looking behind checksums")
            for journal in reader.journals {
                guard case .success(let view) = journal.view else { continue }
                let found = try failing { () throws(WALError) in
                    try view.deepReport(payloadFault: Self.payloadFault) { deepBar.update($0, of: $1) }
                }
                summary.add(found, below: journal.prefix)
            }
            deepBar.finish()
        }
        if output.format == .json { try printJSON(summary) } else { print(summary) }
        if !summary.findings.isEmpty || summary.hasAnotherSecret { throw ExitStatus.findings }
    }

    /// What is wrong with a payload that says that it is OTLP.
    private static func payloadFault(_ record: RecordBatch.Record) -> String? {
        if record.kind == .opaque { return nil }
        do throws(OTLPInputError) {
            _ = try OTLPJSON.line(kind: record.kind, payload: record.payload)
            return nil
        } catch { return error.description }
    }

    private func print(_ summary: VerifySummary) {
        Swift.print(
            "\(root.root): \(summary.commits) commits, \(summary.records) records of \(summary.tenants) tenants in "
                + "\(summary.files) files, \(readable(bytes: summary.bytesRead)) read in "
                + "\(Int(summary.seconds * 1000)) ms")
        if summary.ownJournals > 0 {
            Swift.print("\(summary.ownJournals) of the log's journals are tenants' own; all are counted together")
        }
        if summary.segments > 0 {
            Swift.print(
                "\(summary.segments) segments, \(summary.segmentRecords) records, "
                    + "\(readable(bytes: summary.segmentBytes))")
        }
        if summary.framesNotOpened > 0 {
            Swift.print(
                "\(summary.framesNotOpened) encrypted frames were not opened, for want of their keys; their checksums hold"
            )
            if summary.hasAnotherSecret {
                Swift.print(
                    "some have a key that does not open them: another secret has its identifier, or somebody changed them"
                )
            }
        }
        if let deep = summary.deep {
            Swift.print(
                "\(deep.frames) frames with \(deep.records) records looked into, \(deep.recordsCompared) records "
                    + "compared with segments")
            if deep.filesPassedOver > 0 {
                Swift.print(
                    "\(deep.filesPassedOver) files passed over: the writer began them anew or removed them meanwhile")
            }
        }
        for tail in summary.tornTails {
            Swift.print(
                "torn tail: \(tail.bytes) bytes of an unfinished commit, never acknowledged (\(tail.file) at "
                    + "\(tail.offset))")
        }
        for loss in summary.givenUp {
            Swift.print("given up by a repair: tenant \(loss.tenant), records \(loss.first) to \(loss.last)")
        }
        if summary.findings.isEmpty {
            let known = summary.givenUp.isEmpty ? "" : " but what is known to be"
            Swift.print(Terminal.coloured("clean", good: true) + ": nothing acknowledged is lost\(known)")
            return
        }
        for finding in summary.findings {
            var line = "\(Terminal.coloured(finding.what, good: !finding.isLoss)): \(readable(text: finding.file))"
            if finding.firstByte < finding.endByte {
                line += ", bytes \(finding.firstByte) to \(finding.endByte)"
            } else if finding.firstByte > 0 {
                line += ", at byte \(finding.firstByte)"
            }
            line += ": \(readable(text: finding.detail))"
            if let lost = finding.recordsLost { line += "; \(lost) records lost" }
            Swift.print(line)
            for loss in finding.losses { Swift.print("  tenant \(loss.tenant): records \(loss.first) to \(loss.last)") }
        }
        let unlisted = summary.deep?.unlisted ?? 0
        if unlisted > 0 { Swift.print("and \(unlisted) more of these kinds") }
        let count = UInt64(summary.findings.count) + unlisted
        Swift.print("\(count) findings; what is not named above is whole and readable")
    }
}

/// What `verify` prints as JSON.
struct VerifySummary: Encodable {
    struct Loss: Encodable {
        var tenant: String
        var first: UInt64
        var last: UInt64
    }

    struct Finding: Encodable {
        var what: String
        var isLoss: Bool
        var file: String
        var fileSequence: UInt64
        var firstByte: UInt64
        var endByte: UInt64
        var firstCommit: UInt64?
        var lastCommit: UInt64?
        var recordsLost: UInt64?
        var losses: [Loss]
        var detail: String
    }

    /// An unfinished commit at the end of a journal.
    struct TornTail: Encodable {
        var file: String
        var offset: UInt64
        var bytes: UInt64
    }

    var commits: UInt64 = 0
    var records: UInt64 = 0
    var tenants: Int
    var files = 0
    /// Journals that tenants have of their own, beside the shared one.
    var ownJournals = 0
    var bytesRead: UInt64 = 0
    var tornTailBytes: UInt64 = 0
    var tornTails: [TornTail] = []
    var staleCommitsSkipped: UInt64 = 0
    /// Whether the last writer closed the log, all of its journals.
    var wasClosed = true
    /// Encrypted frames of journal and segments that were checked by their checksums only.
    var framesNotOpened: UInt64 = 0
    /// The key of some of these was given and does not open them.
    var hasAnotherSecret = false
    var seconds = 0.0
    var cases: [String: Int] = [:]
    /// Tenant segments, their records that can be read, and their bytes.
    var segments = 0
    var segmentRecords: UInt64 = 0
    var segmentBytes: UInt64 = 0
    var findings: [Finding] = []
    /// Records that were damaged and that a repair has given up: known, and no finding.
    var givenUp: [Loss] = []
    /// With --deep only.
    var deep: Deep?

    /// What a look behind the checksums went through.
    struct Deep: Encodable {
        var frames: UInt64 = 0
        var records: UInt64 = 0
        var recordsCompared: UInt64 = 0
        /// Encrypted frames that were not looked into.
        var framesNotOpened: UInt64 = 0
        /// Files that left the log before they were looked at to the end.
        var filesPassedOver: UInt64 = 0
        /// How often each kind was found, and findings that are not listed, since there are too many of their kind.
        var counts: [String: UInt64] = [:]
        var unlisted: UInt64 = 0
    }

    /// Adds what looking behind the checksums of a journal found.
    mutating func add(_ report: DeepReport, below prefix: String) {
        var sum = deep ?? Deep()
        sum.frames += report.frames
        sum.records += report.records
        sum.recordsCompared += report.recordsCompared
        sum.framesNotOpened += report.framesNotOpened
        sum.filesPassedOver += report.filesPassedOver
        for (what, count) in report.counts { sum.counts[what.rawValue, default: 0] += count }
        sum.unlisted += report.unlisted
        deep = sum
        findings += report.findings.map { found in
            var detail = found.detail
            if let tenant = found.tenant {
                let records = found.sequences.map { ", records \($0.lowerBound) to \($0.upperBound)" } ?? ""
                detail = "tenant \(readable(name: tenant))\(records): \(detail)"
            }
            return Finding(
                what: found.what.rawValue, isLoss: false, file: prefix + found.path, fileSequence: 0,
                firstByte: found.offset,
                endByte: found.offset, losses: [], detail: detail)
        }
    }

    /// Adds what a look into a segment found.
    mutating func add(_ report: SegmentReport, below prefix: String) {
        segments += 1
        segmentRecords += report.records
        segmentBytes += report.length
        framesNotOpened += report.framesNotOpened
        hasAnotherSecret = hasAnotherSecret || report.hasAnotherSecret
        func finding(_ isLoss: Bool, _ detail: String, at offset: UInt64 = 0) -> Finding {
            Finding(
                what: "segmentDamaged", isLoss: isLoss, file: prefix + report.segment.path, fileSequence: 0,
                firstByte: offset,
                endByte: max(offset, report.length), losses: [], detail: detail)
        }
        if let fault = report.fault {
            findings.append(finding(false, "\(fault); its frames were found without"))
        }
        for loss in report.losses {
            if loss.isGivenUp {
                givenUp.append(
                    Loss(
                        tenant: readable(name: report.segment.tenant), first: loss.sequences.lowerBound,
                        last: loss.sequences.upperBound))
                continue
            }
            var found = finding(true, loss.reason, at: loss.offset)
            found.recordsLost = loss.sequences.upperBound - loss.sequences.lowerBound + 1
            found.losses = [
                Loss(
                    tenant: readable(name: report.segment.tenant), first: loss.sequences.lowerBound,
                    last: loss.sequences.upperBound)
            ]
            findings.append(found)
        }
    }

    init(reader: WriteAheadLogReader<DirectStorage>) { tenants = reader.tenants.count }

    /// Adds what reading a journal found.
    mutating func add(_ journal: JournalView<DirectStorage>) {
        if journal.tenant != nil { ownJournals += 1 }
        switch journal.view {
        case .success(let view): add(view.report, below: journal.prefix)
        case .failure(let error):
            wasClosed = false
            findings.append(
                Finding(
                    what: "journalUnavailable", isLoss: true, file: journal.path, fileSequence: 0, firstByte: 0,
                    endByte: 0, losses: [], detail: "\(error)"))
        }
    }

    private mutating func add(_ report: RecoveryReport, below prefix: String) {
        commits += report.commitsRead
        records += report.records
        files += report.liveFiles
        bytesRead += report.bytesRead
        tornTailBytes += report.tornTailBytes
        if report.tornTailBytes > 0 {
            tornTails.append(
                TornTail(
                    file: prefix + (report.tornTailFile ?? ""), offset: report.tornTailOffset,
                    bytes: report.tornTailBytes))
        }
        staleCommitsSkipped += report.staleCommitsSkipped
        wasClosed = wasClosed && report.wasClosed
        framesNotOpened += report.framesNotOpened
        hasAnotherSecret = hasAnotherSecret || report.hasAnotherSecret
        seconds += report.duration / .seconds(1)
        for (what, count) in report.cases { cases[what.rawValue, default: 0] += count }
        findings += report.findings.map { finding in
            Finding(
                what: finding.what.rawValue, isLoss: finding.what.isLoss, file: prefix + finding.file,
                fileSequence: finding.fileSequence, firstByte: finding.byteRange.lowerBound,
                endByte: finding.byteRange.upperBound, firstCommit: finding.commits?.lowerBound,
                lastCommit: finding.commits?.upperBound, recordsLost: finding.recordsLost,
                losses: finding.losses.map {
                    Loss(
                        tenant: readable(name: $0.tenant), first: $0.sequences.lowerBound,
                        last: $0.sequences.upperBound)
                },
                detail: finding.detail)
        }
    }
}
