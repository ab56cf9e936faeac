import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Cases that concern commits inside a file.
extension RecoveryScenario {
    static let commits: [RecoveryScenario] = [
        RecoveryScenario(.commitAccepted) { try StandardLog(at: $0, closing: false).expectation },
        RecoveryScenario(.cleanEnd) { try StandardLog(at: $0, closing: false).expectation },
        RecoveryScenario(.tornTail) { path in
            let log = try StandardLog(at: path, closing: false)
            var file = log.files[2]
            let last = file.commits.last!
            file.zero(last.range.upperBound - 4096..<last.range.upperBound)
            try file.save()
            var expected = log.expectation
            expected.ledger.forget(last.records)
            expected.tornTailBytes = UInt64(last.range.count)
            return expected
        },
        RecoveryScenario(.unvouchedCommit) { path in
            let log = try StandardLog(at: path, closing: false)
            var file = log.files[2]
            let last = file.commits.last!
            let behind = file.craftedCommit(
                [CraftedFrame("alpha", 900, [[1, 2, 3]])], durableThrough: last.header.commitNumber - 1)
            file.put(behind, at: file.end)
            file.zero(last.headers)
            try file.save()
            var expected = log.expectation
            expected.ledger.forget(last.records)
            expected.tornTailBytes = UInt64(last.range.count + behind.count)
            return expected
        },
        RecoveryScenario(.supersededTail) { path in
            let plan = FaultPlan()
            let writes = Counter(12)
            // The device holds all of the commit and says that it failed: it must not come back twice.
            plan.setWrite { _, _ in writes.next() == 0 ? .failsHolding([0..<1 << 20]) : nil }
            return try StandardLog(at: path, plan: plan).expectation
        },
        RecoveryScenario(.staleEpoch, recycledFile),
        RecoveryScenario(.commitsDamaged) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            let hit = file.commits[4...5]
            for commit in hit { file.zero(commit.headers) }
            try file.save()
            var expected = log.expectation
            expected.lost = Set(hit.flatMap(\.records))
            expected.finding = .init(
                what: .commitsDamaged, file: file.name,
                byteRange: file.commits[4].range.lowerBound..<file.commits[5].range.upperBound,
                commits: file.commits[4].header.commitNumber...file.commits[5].header.commitNumber)
            return expected
        },
        RecoveryScenario(.frameDamaged) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            let commit = file.commits[4]
            let body = commit.body(commit.frames[0])
            file.flip(at: body.upperBound - 1)
            try file.save()
            var expected = log.expectation
            expected.lost = Set(commit.records)
            expected.finding = .init(
                what: .frameDamaged, file: file.name, byteRange: body,
                commits: commit.header.commitNumber...commit.header.commitNumber)
            return expected
        },
        RecoveryScenario(.chainBroken) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            // A whole commit of the right number in the right place, and not the one that was acknowledged.
            let (before, commit) = (file.commits[3], file.commits[4])
            let forged = try forgery(of: commit, in: file)
            #expect(forged.count <= commit.range.count && before.range.upperBound == commit.range.lowerBound)
            file.zero(commit.range)
            file.put(forged, at: commit.range.lowerBound)
            try file.save()
            var expected = log.expectation
            expected.lost = Set(commit.records)
            expected.finding = .init(
                what: .commitsDamaged, file: file.name, byteRange: commit.range,
                commits: commit.header.commitNumber...commit.header.commitNumber)
            return expected
        },
        RecoveryScenario(.rangeUnreadable) { path in
            let log = try StandardLog(at: path)
            let file = log.files[1]
            let commit = file.commits[4]
            var expected = log.expectation
            let bad = UInt64(commit.range.lowerBound)..<UInt64(commit.range.lowerBound + 4096)
            expected.plan.setRead { [path = file.path] in $0 == path && $1.overlaps(bad) }
            expected.lost = Set(commit.records)
            expected.finding = .init(
                what: .rangeUnreadable, file: file.name, byteRange: commit.range,
                commits: commit.header.commitNumber...commit.header.commitNumber)
            return expected
        },
        RecoveryScenario(.sequenceGap) { path in
            let log = try StandardLog(at: path, closing: false)
            var file = log.files[2]
            let next = log.ledger.highest["alpha"]! + 1
            file.put(file.craftedCommit([CraftedFrame("alpha", next + 5, [[9]])]), at: file.end)
            let end = file.end
            try file.save()
            var expected = log.expectation
            expected.ledger.note(RecordName("alpha", next + 5), [9])
            expected.lost = Set((next..<next + 5).map { RecordName("alpha", $0) })
            // The commits' running count says that no record stood between.
            expected.countsLoss = false
            expected.finding = .init(what: .sequenceGap, file: file.name, byteRange: end..<end)
            return expected
        },
    ]

    /// A commit with the number and place of another, whose chain does not fit.
    private static func forgery(of commit: JournalImage.Commit, in file: JournalImage) throws -> [UInt8] {
        CraftedFrame.commit(
            [CraftedFrame("alpha", 700, [[6, 6, 6]])], of: file.header.log,
            CommitPlacement(
                epoch: file.header.epoch, fileSequence: file.sequence, offset: UInt64(commit.start),
                commitNumber: commit.header.commitNumber, durableThrough: commit.header.durableThrough,
                recordsBefore: commit.header.recordsBefore,
                previousChecksum: commit.header.previousChecksum ^ 1))
    }

    /// A file in its second life, with whole commits of its first behind the end.
    @Sendable private static func recycledFile(_ path: String) throws -> RecoveryExpectation {
        let recycled = try RecycledLog(at: path) { newest in
            newest.sequence > 4 && newest.commits.count == 6 && newest.holdsStaleCommits
        }
        #expect(recycled.newest.bytes.count == 256 << 10)
        return recycled.expectation
    }
}
