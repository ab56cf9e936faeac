import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What may happen to a segment.
enum Wound: CaseIterable { case frame, summaries, everything, index, cut }

/// What the suites of repair share: the check that nothing is left amiss, nothing given up that can be read, and nothing
/// lost unsaid.
protocol RepairSuite: CompactionSuite {}

extension RepairSuite {

    var repair: LogRepair<FaultyStorage> {
        LogRepair(storage: FaultyStorage(at: directory.path, plan: plan), options: options())
    }

    func view() throws -> WriteAheadLogReader<DirectStorage> {
        try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, opensBodies: true)
    }

    /// The log's files but LOCK, by path below the root.
    func files() throws -> [String: Data] {
        var files: [String: Data] = [:]
        for path in try FileManager.default.subpathsOfDirectory(atPath: directory.path) where path != "LOCK" {
            var isDirectory: ObjCBool = false
            let full = directory.path + "/" + path
            if FileManager.default.fileExists(atPath: full, isDirectory: &isDirectory), !isDirectory.boolValue {
                files[path] = try Data(contentsOf: URL(fileURLWithPath: full))
            }
        }
        return files
    }

    /// What segments say to be given up, and what is lost and not given up.
    func losses(
        _ view: WriteAheadLogReader<DirectStorage>
    ) throws -> (givenUp: Set<RecordName>, others: [SegmentReport.Loss]) {
        var givenUp: Set<RecordName> = []
        var others: [SegmentReport.Loss] = []
        for segment in view.segments {
            for loss in try #require(try view.report(on: segment, opensFrames: true)).losses {
                if loss.isGivenUp {
                    givenUp.formUnion(loss.sequences.map { RecordName(segment.tenant, $0) })
                } else {
                    others.append(loss)
                }
            }
        }
        return (givenUp, others)
    }

    /// Repairs, and holds the outcome against what could be read before and what was appended.
    @discardableResult
    func repairAndCheck(
        _ ledger: Ledger, acknowledged: Set<RecordName> = [], _ context: String = ""
    ) throws -> RepairReport {
        let before = ReadBack(try view()).records
        let report = try repair.run(forgetsSubscribers: true)
        #expect(report.remaining.isEmpty, "\(context): \(report.plan.steps) left \(report.remaining.steps)")
        let after = try view()
        #expect(after.report.findings.isEmpty, "\(context): \(after.report.findings)")
        let read = ReadBack(after)
        #expect(read.failures.isEmpty && read.duplicates.isEmpty, "\(context): \(read.failures)")
        let missing = Set(before.keys).subtracting(read.records.keys).subtracting(acknowledged)
        #expect(
            missing.isEmpty,
            "\(context): could be read before: \(missing.map(\.description).sorted().prefix(5)) of \(missing.count)")
        #expect(read.records.allSatisfy { ledger.records[$0.key] == $0.value }, "\(context): what is read is right")
        let (givenUp, others) = try losses(after)
        #expect(others.isEmpty, "\(context): \(others)")
        #expect(givenUp.isDisjoint(with: read.records.keys), "\(context): nothing is given up that can be read")
        let lost = ledger.names.subtracting(read.records.keys).subtracting(acknowledged)
        // What recovery cannot tell whose it was is given up with the files that held it, and counted there.
        let named = Set(
            report.plan.steps.flatMap(\.losses).flatMap { loss in loss.sequences.map { RecordName(loss.tenant, $0) } })
        let isAllNamed = report.plan.steps.allSatisfy { $0.action != .giveUp && $0.unnamedRecords == 0 }
        let unsaid = lost.intersection(isAllNamed ? lost : named).subtracting(givenUp)
        #expect(unsaid.isEmpty, "\(context): lost and not said: \(unsaid.map(\.description).sorted().prefix(5))")
        return report
    }

    /// The log goes on, with numbers that nobody had.
    func checkThatItGoesOn(_ ledger: inout Ledger) throws {
        let log = try open()
        #expect(!log.recoveryReport.hasLoss)
        try fill(log, &ledger, batches: 3)
        try log.closeBlocking()
        #expect(try view().report.findings.isEmpty)
    }

    func wound(_ path: String, _ wound: Wound) throws {
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        switch wound {
        case .frame: bytes[5000] ^= 1
        case .summaries:
            bytes[100] ^= 1
            bytes[bytes.count - 4000] ^= 1
        case .everything: bytes = [UInt8](repeating: 0, count: bytes.count)
        case .index: bytes[bytes.count - 4096 - 4096 + 8] ^= 0xFF
        case .cut: bytes.removeLast(bytes.count / 2 + 100)
        }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    func segmentedLog(_ ledger: inout Ledger) throws {
        let log = try open()
        for _ in 0..<3 {
            try fill(log, &ledger, batches: 12)
            try log.compactBlocking()
        }
        try log.closeBlocking()
    }
}
