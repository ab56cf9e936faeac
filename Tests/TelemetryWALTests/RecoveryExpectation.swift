import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What recovery owes a test: which records come back, which are lost, and what the report says of it.
struct RecoveryExpectation {
    /// What was acknowledged, lost records included.
    var ledger: Ledger
    /// Acknowledged records that the damage took.
    var lost: Set<RecordName> = []
    /// Cases that the report counts at least once.
    var cases: [RecoveryCase] = []
    /// The finding that there must be, and be alone: its case, file, bytes and commits. Nil: no finding at all.
    var finding: Finding?
    /// Whether other findings may stand beside it.
    var allowsFurtherFindings = false
    var tornTailBytes: UInt64 = 0
    /// Whether the report's `recordsLost` add up to the records lost.
    var countsLoss = true
    /// Whether the report names each lost record's tenant and sequence number, and no others.
    var namesLoss = true
    /// Through which sequence number the subscriber `collector` has each tenant.
    var cursors: [TenantName: UInt64] = [:]
    /// Through which sequence number every subscriber has each tenant: such records may come back, or not.
    var delivered: [TenantName: UInt64] = [:]
    /// Reads that fail, for the view and for the writer.
    var plan = FaultPlan()

    struct Finding {
        var what: RecoveryCase
        var file: String
        var byteRange: Range<Int>
        var commits: ClosedRange<UInt64>?
    }

    var kept: [RecordName: [UInt8]] { ledger.records.filter { !lost.contains($0.key) } }
}

/// Checks a damaged log: through a read-only view, through a writer, and again after that writer appended and closed.
func checkRecovery(
    of path: String, _ expected: RecoveryExpectation, location: SourceLocation = #_sourceLocation
) throws {
    let view = try WriteAheadLogReader(
        storage: FaultyStorage(at: path, plan: expected.plan), scope: .wholeJournal)
    // Reading tells of each damaged frame that it meets; damaged commits it passes over.
    let frames = view.report.findings.count { $0.what == .frameDamaged }
    checkReport(view.report, expected, location)
    checkRecords(ReadBack(view), expected.kept, delivered: expected.delivered, damagedFrames: frames, location)
    checkState(view.tenants, expected, location)

    let log = try openPatiently(at: path, plan: expected.plan)
    checkReport(log.recoveryReport, expected, location)
    checkState(log.tenants, expected, location)
    var kept = expected.kept
    for (tenant, highest) in expected.ledger.highest {
        let record = numberedRecord(1_000_000 + Int(highest))
        let receipt = try log.appendBlocking(record, tenant: tenant)
        #expect(receipt.sequence > highest, "sequence number given again to \(tenant)", sourceLocation: location)
        kept[RecordName(tenant, receipt.sequence)] = record.payload
    }
    try log.closeBlocking()

    // What recovery once decided it decides again: nothing comes or goes with the second opening, or the third.
    for _ in 1...2 {
        let again = try WriteAheadLogReader(
            storage: FaultyStorage(at: path, plan: expected.plan), scope: .wholeJournal)
        checkRecords(ReadBack(again), kept, delivered: expected.delivered, damagedFrames: frames, location)
        #expect(again.report.hasLoss == view.report.hasLoss, sourceLocation: location)
        checkState(again.tenants, expected, location)
        try openPatiently(at: path, plan: expected.plan).closeBlocking()
    }
}

func checkReport(_ report: RecoveryReport, _ expected: RecoveryExpectation, _ location: SourceLocation) {
    for what in expected.cases {
        #expect(report.cases[what] ?? 0 >= 1, "\(what) is not counted: \(report.cases)", sourceLocation: location)
    }
    #expect(report.tornTailBytes == expected.tornTailBytes, sourceLocation: location)
    #expect(report.hasLoss == (expected.finding?.what.isLoss ?? false), "\(report.findings)", sourceLocation: location)
    guard let wanted = expected.finding else {
        #expect(report.findings.isEmpty, sourceLocation: location)
        return
    }
    let found = report.findings.first { $0.what == wanted.what && $0.file == wanted.file }
    #expect(found != nil, "no \(wanted) in \(report.findings)", sourceLocation: location)
    guard let found else { return }
    if !expected.allowsFurtherFindings {
        #expect(report.findings.count == 1, "\(report.findings)", sourceLocation: location)
    }
    let range = UInt64(wanted.byteRange.lowerBound)..<UInt64(wanted.byteRange.upperBound)
    #expect(found.byteRange == range, sourceLocation: location)
    #expect(found.commits == wanted.commits, sourceLocation: location)
    if expected.countsLoss {
        let counted = report.findings.reduce(0) { $0 + ($1.recordsLost ?? 0) }
        #expect(counted == UInt64(expected.lost.count), "\(report.findings)", sourceLocation: location)
    }
    if expected.namesLoss {
        let named = report.findings.flatMap(\.losses).flatMap { loss in
            loss.sequences.map { RecordName(loss.tenant, $0) }
        }
        #expect(named.count == Set(named).count, sourceLocation: location)
        #expect(Set(named) == expected.lost, sourceLocation: location)
    }
}

func checkRecords(
    _ read: ReadBack, _ kept: [RecordName: [UInt8]], delivered: [TenantName: UInt64] = [:], damagedFrames: Int = 0,
    _ location: SourceLocation = #_sourceLocation
) {
    #expect(read.duplicates.isEmpty, "read twice", sourceLocation: location)
    #expect(read.failures.isEmpty, sourceLocation: location)
    #expect(read.damaged.count <= damagedFrames, "\(read.damaged)", sourceLocation: location)
    let missing = kept.keys.filter { read.records[$0] == nil && $0.sequence > delivered[$0.tenant] ?? 0 }
    let invented = read.records.keys.filter { kept[$0] == nil }
    #expect(missing.isEmpty, "not read back", sourceLocation: location)
    #expect(invented.isEmpty, "never appended, or not acknowledged", sourceLocation: location)
    let wrong = kept.filter { name, bytes in read.records[name].map { $0 != bytes } ?? false }
    #expect(wrong.isEmpty, "wrong bytes", sourceLocation: location)
}

private func checkState(
    _ tenants: [TenantStatus], _ expected: RecoveryExpectation, _ location: SourceLocation
) {
    for (tenant, highest) in expected.ledger.highest {
        let status = tenants.first { $0.name == tenant }
        #expect(status?.nextSequence ?? 0 > highest, "\(tenant)", sourceLocation: location)
        if let through = expected.cursors[tenant] {
            #expect(status?.acknowledgedThrough["collector"] == through, "\(tenant)", sourceLocation: location)
        }
    }
}
