import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// A way to make one case of `RecoveryCase` happen: writes a log, harms it, says what recovery must find.
struct RecoveryScenario: Sendable, CustomTestStringConvertible {
    let what: RecoveryCase
    let build: @Sendable (String) throws -> RecoveryExpectation

    init(_ what: RecoveryCase, _ build: @escaping @Sendable (String) throws -> RecoveryExpectation) {
        self.what = what
        self.build = build
    }

    var testDescription: String { what.rawValue }

    static let all = files + commits
}

@Suite struct RecoveryCaseTests {
    @Test(arguments: RecoveryScenario.all) func isMetReportedAndSurvived(_ scenario: RecoveryScenario) throws {
        let directory = TemporaryDirectory()
        var expected = try scenario.build(directory.path)
        expected.cases.append(scenario.what)
        try checkRecovery(of: directory.path, expected)
    }

    @Test func everyCaseHasAScenario() {
        #expect(Set(RecoveryScenario.all.map(\.what)) == Set(RecoveryCase.allCases))
    }
}

/// A log of three tenants over several files, as most scenarios begin. Nothing of it is reclaimed: a subscriber has
/// acknowledged a part of one tenant only.
struct StandardLog {
    static let tenants: [TenantName] = ["alpha", "beta", "gamma"]

    var ledger = Ledger()
    var cursors: [TenantName: UInt64] = [:]
    /// The log's files with commits, oldest first, as they lie on disk.
    var files: [JournalImage] = []

    /// Writes the log. `closing`: ends it in order; otherwise as a crash would.
    init(at path: String, files wanted: Int = 3, closing: Bool = true, plan: FaultPlan = FaultPlan()) throws {
        try write(at: path, files: wanted, closing: closing, plan: plan)
        try waitForNoWriter(at: path)
        files = try JournalImage.live(in: path)
        try #require(files.count == wanted)
    }

    private mutating func write(at path: String, files wanted: Int, closing: Bool, plan: FaultPlan) throws {
        let log = try openPatiently(at: path, plan: plan)
        try log.register(subscriber: "collector")
        var round = 0
        var last = 0
        while last < 6 {
            try ledger.append(to: log, Self.tenants[round % Self.tenants.count], length: 3000)
            round += 1
            if round == 9 {
                log.acknowledge(through: 5, of: "beta", subscriber: "collector")
                cursors["beta"] = 5
            }
            if log.liveFileCount == wanted { last += 1 }
        }
        // Scenarios take a spare for theirs and leave the log another, however slow the machine.
        let deadline = endOfPatience()
        while log.core.lock.withLock({ log.core.spares.count < 2 && log.core.preparerFailure == nil }),
            Date() < deadline
        {
            Thread.sleep(forTimeInterval: 0.002)
        }
        if closing { try log.closeBlocking() }
    }

    /// The same with damage in its oldest file.
    static func damaged(at path: String) throws -> StandardLog {
        let standard = try StandardLog(at: path, files: 3)
        var file = standard.files[0]
        file.zero(file.commits[4].headers)
        try file.save()
        return standard
    }

    func acknowledgeAll(_ log: FaultyLog) {
        for (tenant, last) in ledger.highest { log.acknowledge(through: last, of: tenant, subscriber: "collector") }
    }

    /// An expectation of everything, to be changed into what the damage leaves.
    var expectation: RecoveryExpectation { RecoveryExpectation(ledger: ledger, cursors: cursors) }
}

/// A log whose files take turns, each in its second life or a later one: no file beyond the first four can be made,
/// and the subscriber acknowledges as it goes.
struct RecycledLog {
    static let tenant: TenantName = "alpha"

    var ledger = Ledger()
    var acknowledged: UInt64 = 0
    var newest: JournalImage

    /// Writes until the newest file is as wanted or writing fails, then ends as a crash would.
    init(
        at path: String, plan: FaultPlan = FaultPlan(), until isReached: (JournalImage) -> Bool
    ) throws {
        newest = try Self.write(at: path, plan: plan, &ledger, &acknowledged, until: isReached)
        try waitForNoWriter(at: path)
    }

    private static func write(
        at path: String, plan: FaultPlan, _ ledger: inout Ledger, _ acknowledged: inout UInt64,
        until isReached: (JournalImage) -> Bool
    ) throws -> JournalImage {
        let made = Counter(4)
        plan.setCreate { _ in made.next() >= 0 ? nil : .noSpace }
        let log = try openPatiently(at: path, plan: plan)
        try log.register(subscriber: "collector")
        var newest: JournalImage?
        let deadline = endOfPatience()
        var round = 0
        while round < 2000 {
            do {
                let names = try ledger.append(to: log, tenant, length: 3000)
                round += 1
                acknowledged = names[0].sequence
                log.acknowledge(through: acknowledged, of: tenant, subscriber: "collector")
            } catch WALError.journalFull {
                // The next file is on its way back from the subscriber.
                try #require(Date() < deadline)
                Thread.sleep(forTimeInterval: 0.001)
                continue
            } catch WALError.failed {
                break
            }
            newest = try JournalImage.live(in: path).last
            if let newest, isReached(newest) { break }
        }
        return try #require(newest)
    }

    /// Everything that the subscriber does not have must come back, what it has may.
    var expectation: RecoveryExpectation {
        var expected = RecoveryExpectation(ledger: ledger)
        expected.delivered = [Self.tenant: acknowledged]
        return expected
    }
}
