import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Damaged segments are written anew in their place, and are kept as they were beside.
@Suite struct SegmentRepairTests: RepairSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    @Test(arguments: 0..<5) func aDamagedSegmentIsWrittenAnew(_ number: Int) throws {
        var ledger = Ledger()
        try segmentedLog(&ledger)
        let path = try #require(segmentPaths.dropFirst().first)
        try wound(path, Wound.allCases[number])
        let relative = String(path.dropFirst(directory.path.count + 1))
        let harmed = try Data(contentsOf: URL(fileURLWithPath: path))
        let names = segmentPaths
        let plan = try repair.plan()
        #expect(plan.steps.map(\.path) == [relative] && plan.steps.first?.action == .rewriteSegment)
        let report = try repairAndCheck(ledger)
        #expect(report.segmentsRewritten == 1 && report.setAside == ["quarantine/" + relative + ".1"])
        // A last block that was cut is filled up.
        let kept = try Data(contentsOf: URL(fileURLWithPath: directory.path + "/quarantine/" + relative + ".1"))
        #expect(kept.prefix(harmed.count) == harmed && kept.count < harmed.count + 4096)
        #expect(segmentPaths == names)
        try checkThatItGoesOn(&ledger)
        // Again: the first copy stays.
        try wound(path, .everything)
        #expect(try repairAndCheck(ledger).setAside == ["quarantine/" + relative + ".2"])
    }

    /// What was done is told also where it ends half-way.
    @Test func whatWasDoneIsToldWhereItFails() throws {
        var ledger = Ledger()
        try segmentedLog(&ledger)
        let paths = segmentPaths.map { String($0.dropFirst(directory.path.count + 1)) }
        let (first, second) = (try #require(paths.first), try #require(paths.last))
        for path in [first, second] { try wound(directory.path + "/" + path, .frame) }
        let steps = try repair.plan().steps.map(\.path)
        #expect(Set(steps) == [first, second])
        let last = steps[1].split(separator: "/").dropLast().joined(separator: "/")
        plan.setCreate { $0.hasPrefix(last + "/") ? .ioFailure : nil }
        var report = RepairReport()
        #expect(throws: WALError.self) { try repair.run(&report, forgetsSubscribers: true) }
        #expect(report.plan.steps.map(\.path) == steps && report.segmentsRewritten == 1)
        #expect(report.setAside == steps.map { "quarantine/" + $0 + ".1" })
        plan.setCreate(nil)
        #expect(try repairAndCheck(ledger).segmentsRewritten == 1)
    }

    /// Losses that came into segments before there was a repair are given up, too; nothing goes to quarantine for that.
    @Test func lossesThatMovedBefore() throws {
        let (ledger, _, hit) = try damagedJournal()
        var log = try open()
        try log.compactBlocking()
        #expect(log.compactionStatistics.recordsLost == UInt64(hit.records.count))
        try log.closeBlocking()
        let report = try repairAndCheck(ledger)
        #expect(report.segmentsRewritten == 1 && report.setAside.isEmpty)
        #expect(report.recordsGivenUp == UInt64(hit.records.count))
        // Merging keeps what is said.
        log = try open()
        var more = ledger
        for _ in 0..<20 {
            try fill(log, &more, batches: 2)
            try log.compactBlocking()
        }
        #expect(log.compactionStatistics.segmentsMerged > 0)
        try log.closeBlocking()
        let (givenUp, others) = try losses(try view())
        #expect(givenUp == Set(hit.records) && others.isEmpty)
    }

    /// What an erasure that is not complete leaves is written anew, and what goes is left to the erasure.
    @Test(arguments: Wound.allCases) func beyondAnErasureThatGoesOn(_ harm: Wound) throws {
        var ledger = Ledger()
        let log = try open()
        let tenant = Self.tenants[0]
        try fill(log, &ledger, batches: 12)
        let erasure = try log.core.beginErasure(of: tenant, isHeld: true)
        try fill(log, &ledger, batches: 12)
        try log.compactBlocking()
        try log.closeBlocking()
        log.core.endWaiting(for: erasure)
        let through = erasure.report.through
        let path = try #require(
            segmentPaths.first { path in
                let name = String(path.split(separator: "/").last ?? "")
                return path.contains(SegmentName.directory(of: tenant) + "/")
                    && SegmentName.sequences(of: name).map { $0.lowerBound > through } ?? false
            })
        try wound(path, harm)
        let erased = Set((1...through).map { RecordName(tenant, $0) })
        #expect(try repairAndCheck(ledger, acknowledged: erased).segmentsRewritten == 1)
        try checkThatItGoesOn(&ledger)
    }

    /// What everybody has is not carried on, nor given up.
    @Test func whatIsDeliveredIsNoLoss() throws {
        var ledger = Ledger()
        try segmentedLog(&ledger)
        var log = try open()
        let tenant = Self.tenants[0]
        let first = try #require(log.segmentCount > 0 ? segmentPaths.first : nil)
        let covered = try #require(SegmentName.sequences(of: String(first.split(separator: "/").last ?? "")))
        try log.register(subscriber: "collector")
        log.acknowledge(through: covered.upperBound - 1, of: tenant, subscriber: "collector")
        try log.closeBlocking()
        try wound(first, .everything)
        let acknowledged = Set((1..<covered.upperBound).map { RecordName(tenant, $0) })
        let report = try repairAndCheck(ledger, acknowledged: acknowledged)
        #expect(report.recordsGivenUp == 1)
        log = try open()
        let (records, damages) = try deliver(log, to: "collector")
        #expect(damages.count == 1)
        #expect(records.count == ledger.records.count - acknowledged.count - 1)
        try log.closeBlocking()
    }

    /// Whatever goes wrong on the way, the segment as it was is still there, and the next repair is whole.
    @Test(arguments: 0..<3) func aRepairThatFails(_ number: Int) throws {
        var ledger = Ledger()
        try segmentedLog(&ledger)
        let path = try #require(segmentPaths.first)
        try wound(path, .frame)
        let harmed = try Data(contentsOf: URL(fileURLWithPath: path))
        switch number {
        case 0: plan.setCreate { $0.hasPrefix("quarantine/") ? .noSpace : nil }
        case 1: plan.setCreate { $0.hasPrefix("tenants/") ? .noSpace : nil }
        default:
            plan.setWrite { path, _ in
                path.contains("/tenants/") && !path.contains("quarantine") ? .fails(.ioFailure) : nil
            }
        }
        #expect(throws: WALError.self) { try repair.run() }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == harmed)
        plan.setCreate(nil)
        plan.setWrite(nil)
        try repairAndCheck(ledger)
    }
}
