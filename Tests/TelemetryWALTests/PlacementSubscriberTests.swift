import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Who subscribes is the shared journal's to say, and a tenant's own journal may have missed it.
@Suite struct PlacementSubscriberTests: PlacementSuite {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()

    /// Who left and came again while a journal was away has nothing of what it had there.
    @Test(arguments: [false, true]) func cursorsOfAnEarlierRegistrationAreNone(isRepaired: Bool) throws {
        var ledger = Ledger()
        var log = try open()
        try log.register(subscriber: "collector")
        // Keeps all that there is.
        try log.register(subscriber: "keeper")
        try log.placeBlocking(moved, .dedicated())
        for _ in 0..<8 { try ledger.append(to: log, moved) }
        log.acknowledge(through: 20, of: moved, subscriber: "collector")
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        try FileManager.default.moveItem(atPath: ownRoot, toPath: ownRoot + "-away")
        log = try open()
        log.unregister(subscriber: "collector")
        try log.register(subscriber: "collector")
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        try FileManager.default.moveItem(atPath: ownRoot + "-away", toPath: ownRoot)
        #expect(cursor(try WriteAheadLogReader(at: directory.path).tenants) == 0)
        if isRepaired {
            // It begins the journal anew, with who is subscribed.
            var format = try Data(contentsOf: URL(fileURLWithPath: ownRoot + "/FORMAT"))
            format[20] ^= 1
            try format.write(to: URL(fileURLWithPath: ownRoot + "/FORMAT"))
            let repair = LogRepair(storage: FaultyStorage(at: directory.path, plan: plan), options: options())
            let own = try #require(try repair.ownJournals().first)
            _ = try own.repair.get().run(forgetsSubscribers: false)
        }
        log = try open()
        #expect(cursor(log.tenants) == 0)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.flushAcknowledgementsBlocking()
        #expect(cursor(log.tenants) == ledger.highest[moved])
        try log.closeBlocking()
        #expect(cursor(try WriteAheadLogReader(at: directory.path).tenants) == ledger.highest[moved])
    }

    /// Cursors of an earlier registration do not move with a tenant.
    @Test func cursorsOfAnEarlierRegistrationStayBehind() throws {
        let log = try open()
        var ledger = Ledger()
        // As where nobody could tell the journal that it left and came again.
        _ = try ownJournal(of: log, &ledger, registration: 77)
        try log.placeBlocking(moved, .shared)
        #expect(cursor(log.tenants) == 0)
        check(try deliver(log, to: "collector").records, ledger.records)
        try log.closeBlocking()
    }

    /// A journal that knows no number of a registration takes that of the shared one, and keeps what it has.
    @Test func registrationsWithoutANumberGetOne() throws {
        let log = try open()
        var ledger = Ledger()
        let core = try ownJournal(of: log, &ledger, registration: 0)
        let registrations = log.core.lock.withLock { log.core.state.registrations }
        try core.adopt(Subscriptions(registrations: registrations, mayLackSome: false))
        #expect(core.lock.withLock { core.state.registrations } == registrations)
        #expect(cursor(log.tenants) == 8)
        try log.flushAcknowledgementsBlocking()
        try log.closeBlocking()
        #expect(try WriteAheadLogReader(at: ownRoot).subscriptions.registrations == registrations)
    }

    private func cursor(_ tenants: [TenantStatus]) -> UInt64? {
        tenants.first { $0.name == moved }?.acknowledgedThrough["collector"]
    }

    /// Has a tenant's own journal know a subscriber by some number, with a cursor at 8 of 12.
    private func ownJournal(
        of log: FaultyLog, _ ledger: inout Ledger, registration: UInt32
    ) throws -> LogCore<FaultyStorage> {
        try log.register(subscriber: "collector")
        try log.placeBlocking(moved, .dedicated())
        for _ in 0..<3 { try ledger.append(to: log, moved) }
        let core = try #require(log.journals.openCores(with: moved).last)
        core.lock.withLock {
            core.state.apply(.subscriber(name: "collector", isRegistered: true, registration: registration))
            core.state.apply(.cursor(subscriber: "collector", tenant: moved, acknowledgedThrough: 8))
        }
        return core
    }

    /// Where damage took the word that somebody subscribes from the shared journal only, it is who it was, if all others
    /// agree on that.
    @Test(arguments: [true, false]) func whoWasLostInTheSharedJournalKeepsItsCursors(theyAgree: Bool) throws {
        var log = try open()
        try log.placeBlocking(moved, .dedicated())
        try log.placeBlocking("gamma", .dedicated())
        var ledger = Ledger()
        try ledger.append(to: log, "alpha")
        try log.register(subscriber: "collector")
        try log.flushAcknowledgementsBlocking()
        for _ in 0..<2 { try ledger.append(to: log, moved) }
        log.acknowledge(through: 8, of: moved, subscriber: "collector")
        try log.flushAcknowledgementsBlocking()
        for _ in 0..<3 { try ledger.append(to: log, "alpha") }
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).last)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: file.path))
        let hit = try #require(
            file.commits.first { bytes[$0.range].range(of: Data("collector".utf8)) != nil })
        file.zero(hit.range)
        try file.save()
        log = try openPatiently(at: directory.path, options: options(), plan: plan)
        try #require(!log.subscribers.contains("collector"))
        let other = try #require(log.journals.openCores(with: "gamma").last)
        other.lock.withLock {
            let known = other.state.registrations["collector"] ?? 0
            other.state.apply(
                .subscriber(name: "collector", isRegistered: true, registration: theyAgree ? known : known ^ 1))
        }
        try log.register(subscriber: "collector")
        #expect(cursor(log.tenants) == (theyAgree ? 8 : 0))
        try log.closeBlocking()
    }
}
