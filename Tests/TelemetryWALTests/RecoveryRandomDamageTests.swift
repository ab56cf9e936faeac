import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Damage at random places, by seeds that a failure names: what comes back is right, what lies outside the damage
/// comes back, and where something is missing the report says so.
@Suite struct RecoveryRandomDamageTests {
    let directory = TemporaryDirectory()

    /// A byte of the log and what its loss takes.
    private func lost(at offset: Int, in file: JournalImage) -> Set<RecordName> {
        guard let commit = file.commits.first(where: { $0.range.contains(offset) }) else { return [] }
        if commit.headers.contains(offset) { return Set(commit.records) }
        return Set(commit.frames.filter { commit.body($0).contains(offset) }.flatMap(RecordName.all))
    }

    @Test func oneBitIsFlipped() throws {
        let log = try StandardLog(at: directory.path)
        var generator = SplitMix(seed: 11)
        for round in 0..<240 {
            var file = log.files[Int.random(in: 0..<3, using: &generator)]
            // Every other time among headers, where there is more to go wrong than in bodies.
            var offset = Int.random(in: 0..<file.end, using: &generator)
            if round % 2 == 0 {
                let commit = file.commits.randomElement(using: &generator)!
                offset = Int.random(in: commit.headers, using: &generator)
            }
            let whole = file
            file.flip(bit: Int.random(in: 0..<8, using: &generator), at: offset)
            try file.save()
            defer { try? whole.save() }
            let lost = lost(at: offset, in: whole)
            let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
            let read = ReadBack(view)
            let context = "round \(round): \(file.name) at \(offset): \(view.report.findings)"
            #expect(read.failures.isEmpty && read.damaged.count <= 1 && read.duplicates.isEmpty, "\(context)")
            #expect(
                read.records == log.ledger.records.filter { !lost.contains($0.key) }, "\(context): \(lost)")
            #expect(view.report.hasLoss || lost.isEmpty, "\(context)")
            let counted = view.report.findings.reduce(0) { $0 + ($1.recordsLost ?? 0) }
            #expect(counted == UInt64(lost.count), "\(context)")
            let named = view.report.findings.flatMap(\.losses).flatMap { loss in
                loss.sequences.map { RecordName(loss.tenant, $0) }
            }
            // Whose the records of a commit were whose header is gone shows only where the tenant's next record is.
            #expect(lost.isSuperset(of: named) && Set(named).count == named.count, "\(context)")
        }
    }

    /// Several wounds at once: zeroed, overwritten and misplaced blocks. Which commits suffer is known, how they are
    /// told apart is left to recovery.
    @Test(arguments: 1...6) func manyBlocksAreDamaged(_ seed: UInt64) throws {
        let log = try StandardLog(at: directory.path)
        var generator = SplitMix(seed: seed)
        for round in 0..<20 {
            var lost: Set<RecordName> = []
            var harmed = log.files
            for _ in 0..<Int.random(in: 1...5, using: &generator) {
                let index = Int.random(in: 0..<3, using: &generator)
                // The closing commit stays: without it nothing would vouch for the last records.
                let blocks = (log.files[index].commits.last!.start) / 4096
                let block = Int.random(in: 2..<blocks, using: &generator)
                let count = min(Int.random(in: 1...4, using: &generator), blocks - block)
                let range = block * 4096..<(block + count) * 4096
                harm(&harmed[index], range, from: log.files.randomElement(using: &generator)!, &generator)
                for commit in log.files[index].commits where commit.range.overlaps(range) {
                    lost.formUnion(commit.records)
                }
            }
            for file in harmed { try file.save() }
            let context = "seed \(seed), round \(round)"
            let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
            let read = ReadBack(view)
            check(read, view.report, log.ledger, mayMiss: lost, context)
            if round % 10 == 0 {
                // The writer sees what the view saw, and goes on behind it.
                let writer = try openPatiently(at: directory.path)
                #expect(writer.recoveryReport.hasLoss == view.report.hasLoss, "\(context)")
                try writer.appendBlocking(numberedRecord(7), tenant: "other")
                try writer.closeBlocking()
                let again = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)).records
                #expect(again.filter { $0.key.tenant != "other" } == read.records, "\(context)")
                try removeNewFiles(log.files)
            }
        }
    }

    /// Headers of files too: then only the invariants hold that hold always.
    @Test(arguments: 101...104) func anythingIsDamaged(_ seed: UInt64) throws {
        let log = try StandardLog(at: directory.path)
        var generator = SplitMix(seed: seed)
        for round in 0..<20 {
            var harmed = log.files
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let index = Int.random(in: 0..<3, using: &generator)
                let blocks = log.files[index].commits.last!.start / 4096
                let block = Bool.random(using: &generator) ? 0 : Int.random(in: 0..<blocks, using: &generator)
                let count = min(Int.random(in: 1...6, using: &generator), blocks - block)
                harm(
                    &harmed[index], block * 4096..<(block + count) * 4096,
                    from: log.files.randomElement(using: &generator)!, &generator)
            }
            for file in harmed { try file.save() }
            let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
            check(ReadBack(view), view.report, log.ledger, mayMiss: log.ledger.names, "seed \(seed), round \(round)")
        }
    }

    private func check(
        _ read: ReadBack, _ report: RecoveryReport, _ ledger: Ledger, mayMiss: Set<RecordName>, _ context: String
    ) {
        #expect(read.failures.isEmpty && read.duplicates.isEmpty, "\(context)")
        #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value }, "\(context): wrong or invented")
        let missing = ledger.names.subtracting(read.records.keys)
        #expect(missing.isSubset(of: mayMiss), "\(context): \(missing.subtracting(mayMiss)) lost outside of damage")
        #expect(missing.isEmpty || report.hasLoss, "\(context): \(missing.count) lost in silence: \(report)")
    }

    private func harm(
        _ file: inout JournalImage, _ range: Range<Int>, from other: JournalImage, _ generator: inout SplitMix
    ) {
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: file.zero(range)
        case 1: file.put(range.map { _ in UInt8.random(in: 0...255, using: &generator) }, at: range.lowerBound)
        default:
            // Blocks of the log itself, in the wrong place: a misdirected write.
            let start = Int.random(in: 0..<(other.bytes.count - range.count) / 4096, using: &generator) * 4096
            file.put(Array(other.bytes[start..<start + range.count]), at: range.lowerBound)
        }
    }

    /// Back to the log as it was written, less the damage that the next round brings.
    private func removeNewFiles(_ files: [JournalImage]) throws {
        let names = Set(files.map(\.name))
        for file in try JournalImage.live(in: directory.path) where !names.contains(file.name) {
            try FileManager.default.removeItem(atPath: file.path)
        }
    }
}

/// A small generator with a seed (SplitMix64), so that a failing round can be had again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
