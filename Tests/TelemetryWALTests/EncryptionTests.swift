import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Logs whose tenants are encrypted, or some of them: what reaches the disk, what comes back, what becomes of keys.
@Suite(.timeLimit(.minutes(5))) struct EncryptionTests: EncryptionSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    let keys = SimulatedKeys()

    @Test(arguments: CompressionPolicy.allCases) func plainBytesNeverReachTheDisk(compression: CompressionPolicy) throws
    {
        // One tenant in the open, so that the scan is seen to find what there is.
        let open: TenantName = "gamma"
        keys.rotate("alpha")
        keys.rotate("beta/ü")
        var ledger = Ledger()
        let log = try self.open(encrypted(compression))
        try log.register(subscriber: "reader")
        // Single records, small batches that are copied, and long ones that are not.
        for tenant in Self.tenants {
            for _ in 0..<20 { try ledger.append(to: log, tenant, count: 1, length: 300) }
            try ledger.append(to: log, tenant, count: 8, length: 900)
            try ledger.append(to: log, tenant, count: 40, length: 900)
        }
        while log.segmentCount < 12 {
            try fill(log, &ledger, batches: 20)
            try log.compactBlocking()
        }
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        let secret = PayloadScan(ledger.records.filter { $0.key.tenant != open }.map(\.value))
        #expect(try secret.places(below: directory.path).isEmpty)
        if compression == .never {
            let plain = PayloadScan(ledger.records.filter { $0.key.tenant == open }.map(\.value))
            #expect(try !plain.places(below: directory.path).isEmpty, "the scan finds nothing at all")
        }
        let again = try self.open(encrypted(compression))
        check(try read(again, acknowledging: true).records, ledger.records)
        try again.closeBlocking()
    }

    @Test func rotatedKeysGoOnReading() throws {
        rotateAll()
        let old = try #require(keys.currentIdentifier(of: "alpha"))
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        rotateAll()
        let new = try #require(keys.currentIdentifier(of: "alpha"))
        try fill(log, &ledger, batches: 10)
        check(try read(log).records, ledger.records)
        // Records keep the key under which they were appended, wherever they go.
        try log.compactBlocking()
        rotateAll()
        try fill(log, &ledger, batches: 10)
        let now = try #require(keys.currentIdentifier(of: "alpha"))
        check(try read(log).records, ledger.records)
        try log.closeBlocking()
        let found = try identifiers(of: "alpha")
        #expect(found.segments == [old, new])
        #expect(found.journal.contains(now))
        let again = try open(encrypted())
        check(try read(again).records, ledger.records)
        try again.closeBlocking()
    }

    @Test func missingKeyStopsItsTenantOnly() throws {
        keys.rotate("alpha")
        keys.rotate("gamma")
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 10)
        try log.compactBlocking()
        try fill(log, &ledger, batches: 10)
        keys.setFailing(true, "alpha")
        let found = try read(log, acknowledging: true)
        check(found.records, ledger.records.filter { $0.key.tenant != "alpha" })
        #expect(found.errors.count == 1)
        for error in found.errors {
            guard case .keyUnavailable("alpha", let sequences?, let reason) = error else {
                Issue.record("\(error)")
                continue
            }
            #expect(sequences.lowerBound == 1)
            #expect(reason.contains("the key service is away"))
        }
        // Appends of that tenant are refused whole, and others go on.
        #expect {
            try log.appendBlocking(numberedRecord(1), tenant: "alpha")
        } throws: {
            guard case .keyUnavailable("alpha", nil, _)? = $0 as? WALError else { return false }
            return true
        }
        try ledger.append(to: log, "gamma")
        // Nothing is lost: with the key, it is there.
        keys.setFailing(false, "alpha")
        let behind = try read(log, acknowledging: true)
        #expect(behind.errors.isEmpty)
        check(found.records.merging(behind.records) { _, new in new }, ledger.records)
        try log.closeBlocking()
    }

    @Test func forgottenKeyTakesItsRecordsAlone() throws {
        rotateAll()
        let forgotten = try #require(keys.currentIdentifier(of: "alpha"))
        var ledger = Ledger()
        let log = try open(encrypted())
        try log.register(subscriber: "reader")
        try fill(log, &ledger, batches: 5)
        try log.compactBlocking()
        try fill(log, &ledger, batches: 5)
        let gone = ledger.names.filter { $0.tenant == "alpha" }
        keys.rotate("alpha")
        try fill(log, &ledger, batches: 5)
        keys.forget(forgotten)
        ledger.forget(gone)
        let found = try read(log)
        check(found.records, ledger.records)
        var told: UInt64 = 0
        for error in found.errors {
            guard case .keyForgotten("alpha", let sequences, forgotten) = error else {
                Issue.record("\(error)")
                continue
            }
            told += UInt64(sequences.count)
        }
        #expect(told == UInt64(gone.count))
        // What moves on moves without them, and that is no loss.
        let statistics = try log.compactBlocking()
        #expect(statistics.recordsForgotten == UInt64(gone.count / 2))
        #expect(statistics.recordsLost == 0)
        check(try read(log).records, ledger.records)
        try fill(log, &ledger, batches: 5)
        try log.compactBlocking()
        check(try read(log, acknowledging: true).records, ledger.records)
        try log.closeBlocking()
        let view = try view()
        #expect(!view.report.hasLoss)
        for segment in view.segments {
            let report = try view.report(on: segment, opensFrames: true)
            #expect(report?.isDamaged == false)
        }
    }
}
