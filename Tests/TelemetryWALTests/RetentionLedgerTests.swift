import Testing
import WALFormat

@testable import TelemetryWAL

/// What is decided about dropping, without a log.
@Suite struct RetentionLedgerTests {
    private let tenant: TenantName = "acme"

    /// 100 records of 100 bytes, one a second.
    private var state: LogState {
        var state = LogState()
        let index = state.makeIndex(of: tenant)
        for number in 1...UInt64(100) {
            state.noteAppended(through: number, length: 100, received: number * 1_000_000_000, at: index)
        }
        state.setNextSequence(101, at: index)
        return state
    }

    private func ledger(_ policy: RetentionPolicy, _ state: LogState) -> RetentionLedger {
        var ledger = RetentionLedger(standard: RetentionPolicy(), own: [tenant: policy])
        for tenant in state.tenants { ledger.add(tenant) }
        return ledger
    }

    /// As much goes as has to, and a 16th of the budget besides; what goes once does not go again.
    @Test func aBudgetTakesWhatIsOver() throws {
        let state = state
        var ledger = ledger(RetentionPolicy(budget: 8000, whenFull: .dropOldest), state)
        #expect(ledger.overBudget(tenant: 0, taken: 8000, adding: 0, in: state) == nil)
        let drop = try #require(ledger.overBudget(tenant: 0, taken: 10_000, adding: 100, in: state))
        #expect(drop.sequences == 1...26 && drop.length == 2600 && drop.cause == .budget)
        ledger.note(drop, tenant: 0)
        #expect(ledger.overBudget(tenant: 0, taken: 10_000, adding: 100, in: state) == nil)
        let more = try #require(ledger.overBudget(tenant: 0, taken: 10_000, adding: 1000, in: state))
        #expect(more.sequences.lowerBound == 27)
        ledger.note(more, tenant: 0)
        let records = ledger.unwrittenRecords(in: state)
        guard records.count == 1, case .dropped(tenant, .budget, more.sequences.upperBound, let total) = records[0]
        else {
            Issue.record("\(records)")
            return
        }
        #expect(total.records == more.sequences.upperBound)
    }

    /// Only what is old enough goes, and only what is durable.
    @Test func anAgeTakesWhatIsOld() throws {
        let state = state
        let ledger = ledger(RetentionPolicy(age: 10_000_000_000), state)
        #expect(ledger.agedOut(tenant: 0, at: 5_000_000_000, in: state) == nil)
        let drop = try #require(ledger.agedOut(tenant: 0, at: 60_000_000_000, in: state))
        #expect(drop.sequences.upperBound <= 50 && drop.sequences.upperBound >= 46)
        #expect(ledger.drop(tenant: 0, through: 500, cause: .space, in: state)?.sequences == 1...100)
    }

    /// What a subscriber has is not dropped any more, nor counted.
    @Test func whatIsDeliveredIsNotCounted() throws {
        var state = state
        state.apply(.subscriber(name: "s", isRegistered: true))
        state.apply(.cursor(subscriber: "s", tenant: tenant, acknowledgedThrough: 40))
        let ledger = ledger(RetentionPolicy(budget: 4096, whenFull: .dropOldest), state)
        let drop = try #require(ledger.overBudget(tenant: 0, taken: 10_000, adding: 0, in: state))
        #expect(drop.sequences.lowerBound == 41)
    }

    /// A total that was given back, or written late, counts nothing twice.
    @Test func totalsMayBeWrittenTwice() throws {
        var state = state
        var ledger = ledger(RetentionPolicy(), state)
        ledger.note(try #require(ledger.drop(tenant: 0, through: 10, cause: .space, in: state)), tenant: 0)
        let (keys, early) = ledger.takeUnwritten(in: state)
        #expect(ledger.unwritten.isEmpty && ledger.hasDropsUnderWay(in: state))
        ledger.giveBack(keys)
        ledger.note(try #require(ledger.drop(tenant: 0, through: 25, cause: .space, in: state)), tenant: 0)
        let late = ledger.takeUnwritten(in: state).records
        for record in late + early + late + early { state.apply(record) }
        #expect(state.tenants[0].droppedThrough == 25 && state.tenants[0].drops[.space]?.records == 25)
        #expect(!ledger.hasDropsUnderWay(in: state))
        #expect(state.heldLength(tenant: 0) == 7500)
        // A checkpoint says the same, within its bound.
        let checkpoint = state.checkpoint()
        #expect(checkpoint.reduce(0) { $0 + $1.length } <= state.checkpointBound)
        var again = LogState()
        for record in checkpoint { again.apply(record, at: 200_000_000_000) }
        #expect(again.tenants[0].drops == state.tenants[0].drops && again.tenants[0].droppedThrough == 25)
        #expect(again.heldLength(tenant: 0) == 7500 && again.releasedThrough(tenant: 0) == 25)
    }
}
