import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What no checksum tells: each kind of it is found where it is, and nothing else is.
@Suite struct DeepCheckTests: CompactionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    /// A closed log with segments, whose records stand in the journal, too.
    private func closedLog() throws -> Ledger {
        var ledger = Ledger()
        var options = options()
        // Commits for being idle would fill files.
        options.idleMilliseconds = 3_600_000
        let log = try open(options)
        try log.register(subscriber: "collector")
        try fill(log, &ledger, batches: 20)
        for (number, kind) in [RecordKind.span, .log, .metric].enumerated() {
            for round in 1...3 {
                let record = numberedRecord(round, length: 100 * number, kind: kind)
                ledger.note(
                    RecordName("kinds", UInt64(number * 3 + round)), record.payload)
                try log.appendBlocking(record, tenant: "kinds")
            }
        }
        try log.compactBlocking()
        try fill(log, &ledger, batches: 2)
        try log.closeBlocking()
        return ledger
    }

    private func reader() throws -> WriteAheadLogReader<DirectStorage> {
        let reader = try WriteAheadLogReader(at: directory.path, opensBodies: true)
        #expect(!reader.report.hasLoss, "\(reader.report.findings)")
        return reader
    }

    /// However many tenants stand side by side in the journal; and where there is memory for next to none, it only takes longer.
    @Test func segmentsFramesAreReadOnce() throws {
        let tenants = try (0..<70).map { try TenantName("tenant-\($0)") }
        var ledger = Ledger()
        let log = try open()
        try log.register(subscriber: "collector")
        for _ in 0..<2 { for tenant in tenants { try ledger.append(to: log, tenant, count: 2) } }
        try log.compactBlocking()
        try log.closeBlocking()
        let reader = try reader()
        // Where no file could be begun just then, the last records stay in the journal.
        let segments = reader.recovered.segments
        for capacity in [1, 16 << 10, 96 << 20] {
            var moved = SegmentRecords(
                storage: reader.storage, format: reader.format, keys: reader.keys, segments: segments,
                capacity: capacity)
            var count = 0
            for round in 0..<2 as Range<UInt64> {
                for tenant in tenants {
                    let wanted = (2 * round + 1...2 * round + 2).filter { $0 <= segments.coveredThrough(tenant) }
                    let found = try moved.records(of: tenant, in: 2 * round + 1...2 * round + 2)
                    #expect(found.map(\.sequence) == wanted)
                    #expect(found.allSatisfy { ledger.records[RecordName(tenant, $0.sequence)] == Array($0.payload) })
                    count += found.count
                }
            }
            #expect(count > 70)
            if capacity > 1 << 20 { #expect(moved.framesRead == reader.segments.count) }
            let nobodys = try moved.records(of: "nobody", in: 1...9)
            let beyond = try moved.records(of: tenants[0], in: 2...30)
            #expect(nobodys.isEmpty && beyond.first?.sequence == 2)
        }
    }

    private func lines(_ report: DeepReport) -> [String] {
        report.findings.map { "\($0.what) \($0.path) \($0.offset) \($0.tenant?.description ?? "-"): \($0.detail)" }
    }

    @Test func aSoundLogHasNoFindings() throws {
        let ledger = try closedLog()
        let report = try reader().deepReport()
        #expect(report.findings.isEmpty && report.counts.isEmpty && report.unlisted == 0, "\(lines(report))")
        #expect(report.frames > 20 && report.records >= ledger.records.count)
        #expect(report.recordsCompared > 50, "records stand in journal and segments")
        // Erased and delivered ones are nobody's matter.
        let log = try open()
        try log.eraseBlocking("alpha")
        _ = try deliver(log, to: "collector")
        try log.closeBlocking()
        let after = try reader().deepReport()
        #expect(after.findings.isEmpty, "\(lines(after))")
    }

    @Test func headersThatMisstateTheirRecordsAreFound() throws {
        let standard = try StandardLog(at: directory.path, closing: false)
        var file = standard.files[2]
        let next = (standard.ledger.highest["alpha"] ?? 0) + 1
        var kinds = CraftedFrame("alpha", next, [[1], [2]])
        kinds.kinds = RecordKindSet(.span)
        var times = CraftedFrame("beta", (standard.ledger.highest["beta"] ?? 0) + 1, [[3], [4], [5]])
        times.timestamps = 1...7
        let offset = file.end
        file.put(file.craftedCommit([kinds, times]), at: offset)
        try file.save()
        let report = try reader().deepReport()
        try #require(report.counts == [.frameMisstated: 2], "\(lines(report))")
        #expect(report.findings.allSatisfy { $0.path == "journal/" + file.name && $0.offset == UInt64(offset) })
        #expect(report.findings.map(\.tenant) == ["alpha", "beta"])
        #expect(report.findings[0].sequences == next...next + 1)
        #expect(report.findings[1].detail.hasPrefix("3 records"))
    }

    @Test func recordsThatDifferFromTheirSegmentsAreFound() throws {
        _ = try closedLog()
        // The segment, written anew with another payload for one record.
        let reader = try reader()
        let status = try #require(reader.segments(of: "beta/ü").last)
        let storage = FaultyStorage(at: directory.path)
        let old = try SegmentFile(
            SegmentName.name(covering: status.covered), of: status.tenant, in: storage, format: reader.format)
        let writer = SegmentWriter(storage: storage, format: reader.format)
        writer.begin(status.tenant, from: status.covered.lowerBound)
        let changed = status.covered.upperBound
        for number in old.index.frames.indices {
            let batch = try old.batch(ofFrame: number)
            var body = batch.withEncodedRecords { span in span.withUnsafeBytes { Array($0) } }
            if batch.sequences.contains(changed) { body[body.count - 1] ^= 1 }
            try body.withRawSpan { (span: RawSpan) throws(StorageError) in
                try writer.add(
                    span,
                    .init(
                        sequences: batch.sequences, kinds: batch.kinds, lowestTimestamp: batch.timestamps.lowerBound,
                        highestTimestamp: batch.timestamps.upperBound))
            }
        }
        try storage.publish([try writer.finish(covering: status.covered, created: 7, received: 5...9).rename])
        let report = try self.reader().deepReport()
        try #require(report.counts == [.recordsDiffer: 1], "\(lines(report))")
        #expect(report.findings.first?.tenant == status.tenant && report.findings.first?.sequences == changed...changed)
        #expect(report.findings.first?.path.hasPrefix("journal/") == true)
    }

    @Test func indicesThatMisstateTheirFramesAreFound() throws {
        _ = try closedLog()
        let path = try #require(segmentPaths.first { $0.contains("/alpha/") })
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let blockSize = 4096
        try bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
            var summary = try SegmentSummary.decode(span.bytes, at: 0, blockSize: blockSize)
            let range = Int(summary.indexOffset)..<Int(summary.indexOffset) + summary.indexLength
            var index = try SegmentIndex.decode(span.bytes.extracting(range), of: summary)
            index.frames[0].kinds = .user
            summary.indexChecksum = index.encode(into: &span, at: range.lowerBound)
            summary.encode(into: &span, at: 0)
            summary.encode(into: &span, at: span.byteCount - blockSize)
        }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let report = try reader().deepReport()
        try #require(report.counts == [.indexMisstated: 1], "\(lines(report))")
        #expect(report.findings.first?.offset == UInt64(blockSize) && path.hasSuffix(report.findings[0].path))
    }

    @Test func copiesThatAreNotWholeAreFound() throws {
        _ = try closedLog()
        let path = try #require(segmentPaths.first { $0.contains("/gamma/") })
        for (file, fromEnd) in [(directory.path + "/FORMAT", 100), (path, 100)] {
            var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
            bytes[bytes.count - fromEnd] ^= 1
            try Data(bytes).write(to: URL(fileURLWithPath: file))
        }
        let report = try reader().deepReport()
        try #require(report.counts == [.copyDamaged: 2], "\(lines(report))")
        #expect(report.findings.map(\.path).contains("FORMAT"))
        #expect(report.findings.contains { path.hasSuffix($0.path) && $0.tenant == "gamma" })
    }

    /// Each whole, and another one's: the first is believed, and a repair has both say the same.
    @Test func copiesOfTheFormatThatDifferAreFoundAndRepaired() throws {
        _ = try closedLog()
        let path = URL(fileURLWithPath: directory.path + "/FORMAT")
        var bytes = Array(try Data(contentsOf: path))
        let format = try reader().format
        let other = RootFormat(
            logIdentifier: format.logIdentifier, blockSize: 2 * format.blockSize, created: format.created)
        bytes.replaceSubrange(RootFormat.copyLength..., with: other.encoded()[RootFormat.copyLength...])
        try Data(bytes).write(to: path)
        let report = try reader().deepReport()
        try #require(report.counts == [.copyDamaged: 1], "\(lines(report))")
        #expect(report.findings[0].path == "FORMAT" && report.findings[0].offset == UInt64(RootFormat.copyLength))
        #expect(try LogRepair(storage: FaultyStorage(at: directory.path), options: options()).run().remaining.isEmpty)
        #expect(Array(try Data(contentsOf: path)) == format.encoded())
        #expect(try reader().deepReport().findings.isEmpty)
    }

    /// A view of before; the segment is still there, overwritten.
    @Test func whatALivingWriterErasesIsNoDamage() throws {
        _ = try closedLog()
        let log = try open()
        let view = try WriteAheadLogReader(at: directory.path)
        let segment = try #require(view.segments(of: "alpha").first)
        try log.eraseBlocking("alpha")
        let path = directory.path + "/" + segment.path
        #expect(!FileManager.default.fileExists(atPath: path))
        try FileManager.default.createDirectory(
            at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(count: 65536).write(to: URL(fileURLWithPath: path))
        #expect(try view.report(on: segment, opensFrames: true)?.isDamaged == false)
        let report = try view.deepReport()
        #expect(report.counts[.copyDamaged] == nil, "\(lines(report))")
        try log.closeBlocking()
    }

    @Test func strangersAreFound() throws {
        _ = try closedLog()
        let root = URL(fileURLWithPath: directory.path)
        for name in ["notes.txt", "journal/0.txt", "tenants/alpha/notes"] {
            try Data([1]).write(to: root.appending(path: name))
        }
        let segment = try #require(segmentPaths.first { $0.contains("/alpha/") })
        let foreign = SegmentName.directory(of: "gamma") + "/" + SegmentName.name(covering: 1_000_000...1_000_001)
        try FileManager.default.copyItem(atPath: segment, toPath: root.appending(path: foreign).path)
        let report = try reader().deepReport()
        try #require(report.counts == [.fileStrange: 4], "\(lines(report))")
        #expect(Set(report.findings.map(\.path)) == ["notes.txt", "journal/0.txt", "tenants/alpha/notes", foreign])
    }

    /// Each is asked once for each place where it stands; more of a kind than are listed are counted.
    @Test func payloadsAreAskedFor() throws {
        let log = try open()
        let records = (1...1500).map { numberedRecord($0, length: 30, kind: $0 % 2 == 0 ? .span : .log) }
        for start in [0, 500, 1000] {
            try log.appendBlocking(contentsOf: Array(records[start..<start + 500]), tenant: "alpha")
        }
        try log.closeBlocking()
        let one = try reader().deepReport(payloadFault: { $0.sequence == 77 ? "so it is" : nil })
        try #require(one.counts == [.payloadInvalid: 1] && one.findings.first?.sequences == 77...77)
        #expect(one.findings.first?.detail == "it is no log: so it is")
        let all = try reader().deepReport(payloadFault: { _ in "none is right" })
        try #require(all.counts == [.payloadInvalid: 1500] && all.findings.count == DeepReport.mostFindings)
        #expect(all.unlisted == 500 && all.records == 1500)
    }

    /// A living writer moves, merges, removes and begins files anew meanwhile.
    @Test func besideALivingWriterNothingIsFound() throws {
        let log = try open()
        try log.register(subscriber: "collector")
        let isThrough = Shared(false)
        let outcome = Shared(Result<Void, any Error>.success(()))
        let writer = Thread {
            outcome.value = Result {
                var ledger = Ledger()
                var rounds = 0
                while !isThrough.value {
                    try fill(log, &ledger, batches: 20)
                    _ = try deliver(log, to: "collector")
                    rounds += 1
                    if rounds % 3 == 0 { try log.eraseBlocking("beta/ü") }
                }
            }
        }
        writer.start()
        defer { isThrough.value = true }
        try waitUntil { log.statistics.records > 500 }
        for _ in 0..<5 {
            let report = try WriteAheadLogReader(at: directory.path).deepReport()
            #expect(report.findings.isEmpty, "\(lines(report))")
        }
        isThrough.value = true
        try waitUntil { writer.isFinished }
        try outcome.value.get()
        try log.closeBlocking()
    }
}
