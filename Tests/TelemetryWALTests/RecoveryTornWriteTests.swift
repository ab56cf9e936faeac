import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// The power goes during a write, and the device has taken any of its blocks and not the others: every combination is
/// tried. None is loss, none brings back half a commit, none takes what was acknowledged before.
@Suite struct RecoveryTornWriteTests {
    let directory = TemporaryDirectory()

    @Test func commitIsTorn() throws {
        let log = try StandardLog(at: directory.path, closing: false)
        let file = log.files[2]
        let commit = file.commits.last!
        var before = file
        before.zero(commit.range)
        try tearEveryWay(
            TornWrite(before: before, after: file.bytes, range: commit.range), log.ledger, pending: commit.records)
    }

    /// The first write of a fresh file: headers, checkpoint and commit at once.
    @Test func firstWriteOfAFreshFileIsTorn() throws {
        let plan = FaultPlan()
        let tear = TornWriteCapture(plan, fromFile: 3)
        var ledger = Ledger()
        do {
            let log = try openPatiently(at: directory.path, plan: plan)
            #expect(throws: WALError.self) {
                while true { try ledger.append(to: log, "alpha", length: 3000) }
            }
        }
        try waitForNoWriter(at: directory.path)
        try tearEveryWay(try tear.result(), ledger, pending: [])
    }

    /// The same for a file that is used again: its earlier life shines through where blocks are missing.
    @Test func firstWriteOfARecycledFileIsTorn() throws {
        let plan = FaultPlan()
        var tear: TornWriteCapture?
        let log = try RecycledLog(at: directory.path, plan: plan) { newest in
            if newest.sequence == 6, tear == nil { tear = TornWriteCapture(plan, fromFile: 1) }
            return false
        }
        try waitForNoWriter(at: directory.path)
        try tearEveryWay(
            try #require(tear).result(), log.ledger, pending: [], delivered: log.expectation.delivered)
    }

    /// Puts together each mixture of old and new blocks and has it read.
    private func tearEveryWay(
        _ torn: TornWrite, _ ledger: Ledger, pending: [RecordName], delivered: [TenantName: UInt64] = [:]
    ) throws {
        let blocks = torn.range.count / 4096
        #expect((3...10).contains(blocks))
        let certain = ledger.records.filter { !pending.contains($0.key) }
        var whole = torn.before
        whole.bytes = torn.after
        try whole.save()
        let commits = try #require(JournalImage(name: whole.name, in: directory.path)).commits
        let atStake = Set(commits.filter { torn.range.overlaps($0.range) }.flatMap(\.records))
        for subset in 0..<1 << blocks {
            var image = torn.before
            for block in 0..<blocks where subset >> block & 1 == 1 {
                let start = torn.range.lowerBound + block * 4096
                image.put(Array(torn.after[start..<start + 4096]), at: start)
            }
            try image.save()
            let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
            let read = ReadBack(view)
            #expect(!view.report.hasLoss, "blocks \(String(subset, radix: 2)): \(view.report.findings)")
            #expect(read.duplicates.isEmpty && read.failures.isEmpty && read.damaged.isEmpty)
            let missing = certain.filter {
                $0.key.sequence > delivered[$0.key.tenant] ?? 0 && read.records[$0.key] != $0.value
            }
            #expect(missing.isEmpty, "blocks \(String(subset, radix: 2)): not read back: \(missing.keys)")
            // The torn commit's own records: all or none.
            let further = Set(read.records.keys.filter { certain[$0] == nil })
            #expect(further.isEmpty || further == atStake, "blocks \(String(subset, radix: 2)): \(further)")
            #expect(subset != 1 << blocks - 1 || further == atStake)
        }
    }
}

/// A write that the power cut: a file before it, the file's bytes after it, the bytes written.
struct TornWrite {
    var before: JournalImage
    var after: [UInt8]
    var range: Range<Int>
}

/// Lets a log's disk die in the first write of a file and keeps what that write would have done.
final class TornWriteCapture: @unchecked Sendable {
    private let lock = NSLock()
    private var before: JournalImage?
    private var after: [UInt8]?
    private var range: Range<Int>?

    /// Waits for the first write of the `number`-th file from now on.
    init(_ plan: FaultPlan, fromFile number: Int) {
        let firsts = Counter(number)
        // At once: the log gives the file up and removes it.
        plan.setHeld { [self] path in
            lock.withLock {
                if after == nil { after = (try? Data(contentsOf: URL(fileURLWithPath: path))).map(Array.init) }
            }
        }
        plan.setWrite { [self] path, range in
            lock.withLock {
                if before != nil { return .fails(.ioFailure) }
                guard range.lowerBound == 0, firsts.next() == 0 else { return nil }
                let url = URL(fileURLWithPath: path)
                let directory = url.deletingLastPathComponent().deletingLastPathComponent().path
                before = JournalImage(name: url.lastPathComponent, in: directory)
                self.range = Int(range.lowerBound)..<Int(range.upperBound)
                return .failsHolding([0..<range.count])
            }
        }
    }

    func result() throws -> TornWrite {
        try lock.withLock {
            let before = try #require(before)
            return TornWrite(before: before, after: try #require(after), range: try #require(range))
        }
    }
}
