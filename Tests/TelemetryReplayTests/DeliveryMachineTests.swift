import Foundation
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// The replayer's state machine, with a clock of the test's own.
@Suite struct DeliveryMachineTests {
    private let second: UInt64 = 1_000_000_000

    /// Batches of some tenants, of records 1 to `records`, read out of a log.
    private func batches(tenants: [TenantName] = ["t"], records: Int, length: Int = 100) throws -> [RecordBatch] {
        let directory = TemporaryDirectory()
        let log = try WriteAheadLog.openBlocking(at: directory.path, options: smallOptions())
        for tenant in tenants {
            for number in 1...records { try log.appendBlocking(numberedRecord(number, length: length), tenant: tenant) }
        }
        try log.closeBlocking()
        var found: [RecordBatch] = []
        var walk = try WriteAheadLogReader(at: directory.path).records()
        while let batch = try walk.next() { found.append(batch) }
        return found
    }

    private func machine(
        _ change: (inout ReplayOptions) -> Void = { _ in }, inOrder: Bool = false, isDraining: Bool = true
    ) -> MachineUnderTest {
        var options = ReplayOptions()
        change(&options)
        var machine = DeliveryMachine(options: options, inOrder: inOrder, seed: 1, at: 0)
        machine.isDraining = isDraining
        return MachineUnderTest(machine)
    }

    private let taken = ExportResult.delivered(rejected: 0, message: nil)

    @Test func cursorMovesThroughWhatHasEndedFromTheFirstOn() throws {
        let machine = machine { $0.maximumBatchRecords = 5 }
        for batch in try batches(records: 15) { machine.add(batch, at: 0) }
        let requests = (0..<3).compactMap { _ in machine.nextRequest(at: 0) }
        #expect(requests.map { $0.batch.records.map(\.sequence) } == [Array(1...5), Array(6...10), Array(11...15)])
        machine.finish(requests[1].identifier, with: taken, at: 1)
        #expect(machine.takeAcknowledgements().isEmpty, "what comes before has not arrived")
        machine.finish(requests[0].identifier, with: taken, at: 2)
        #expect(machine.takeAcknowledgements().map(\.through) == [10])
        machine.finish(requests[2].identifier, with: taken, at: 3)
        #expect(machine.takeAcknowledgements().map(\.through) == [15])
        #expect(machine.isIdle && machine.heldBytes == 0)
    }

    @Test func noMoreIsSentThanMayComeTwice() throws {
        let machine = machine {
            $0.maximumBatchRecords = 1
            $0.maximumRequestsPerTenant = 2
        }
        for batch in try batches(records: 6) { machine.add(batch, at: 0) }
        var sent: [UInt64] = []
        for _ in 0..<4 {
            guard let request = machine.nextRequest(at: 0) else { break }
            sent += request.batch.records.map(\.sequence)
            machine.finish(request.identifier, with: taken, at: 0)
            _ = machine.takeAcknowledgements()
        }
        #expect(sent == [1, 2], "no acknowledgement is durable")
        #expect(machine.waitsForDurability)
        machine.acknowledged(.init(lane: 0, tenant: "t", through: 1))
        #expect(!machine.waitsForDurability)
        #expect(machine.nextRequest(at: 0)?.batch.records.map(\.sequence) == [3])
        #expect(machine.nextRequest(at: 0) == nil)
    }

    @Test func failuresWaitLongerEachTimeAndThenOneRequestIsTriedAlone() throws {
        let machine = machine {
            $0.maximumBatchRecords = 1
            $0.initialBackoff = .milliseconds(100)
            $0.maximumBackoff = .milliseconds(800)
        }
        for batch in try batches(records: 8) { machine.add(batch, at: 0) }
        var now: UInt64 = 0
        let first = (0..<4).compactMap { _ in machine.nextRequest(at: now) }
        #expect(first.count == 4)
        // What fails together is one failure.
        for request in first { machine.finish(request.identifier, with: .retry(reason: "busy", after: nil), at: now) }
        var pauses: [Double] = []
        for _ in 0..<6 {
            #expect(machine.nextRequest(at: now) == nil)
            let wake = try #require(machine.wakeTime(at: now))
            pauses.append(Double(wake - now) / 1e6)
            now = wake
            let request = try #require(machine.nextRequest(at: now))
            #expect(request.batch.records.map(\.sequence) == [1], "in order")
            #expect(machine.nextRequest(at: now) == nil, "one alone")
            machine.finish(request.identifier, with: .retry(reason: "busy", after: nil), at: now)
        }
        for (pause, most) in zip(pauses, [100.0, 200, 400, 800, 800, 800]) {
            #expect(pause >= most / 2 && pause <= most, "\(pauses)")
        }
        #expect(machine.nextRequest(at: now) == nil)
        now = try #require(machine.wakeTime(at: now))
        let last = try #require(machine.nextRequest(at: now))
        machine.finish(last.identifier, with: taken, at: now)
        _ = machine.takeAcknowledgements()
        #expect(machine.nextRequest(at: now) != nil && machine.nextRequest(at: now) != nil, "all again")
    }

    @Test func whatTheReceiverAsksForIsWaitedFor() throws {
        let machine = machine()
        for batch in try batches(records: 1) { machine.add(batch, at: 0) }
        let request = try #require(machine.nextRequest(at: 0))
        machine.finish(request.identifier, with: .retry(reason: "429", after: .seconds(7)), at: second)
        #expect(machine.nextRequest(at: 8 * second - 1) == nil)
        #expect(machine.nextRequest(at: 8 * second) != nil)
    }

    @Test func littleWaitsForMoreAndNotForLong() throws {
        let machine = machine(
            {
                $0.maximumBatchAge = .milliseconds(200)
                $0.maximumBatchRecords = 4
            }, isDraining: false)
        let batches = try batches(records: 6)
        for batch in batches.prefix(3) { machine.add(batch, at: 0) }
        #expect(machine.nextRequest(at: 0) == nil)
        #expect(machine.wakeTime(at: 0) == 200_000_000)
        for batch in batches.dropFirst(3) { machine.add(batch, at: 100_000_000) }
        #expect(machine.nextRequest(at: 100_000_000)?.batch.records.count == 4, "enough for a request")
        #expect(machine.nextRequest(at: 100_000_000) == nil)
        #expect(machine.nextRequest(at: 300_000_000)?.batch.records.count == 2)
    }

    @Test func concurrencyIsHalvedWhereTheReceiverCannotTakeIt() throws {
        let tenants = try (0..<8).map { try TenantName("t\($0)") }
        let machine = machine { $0.maximumConcurrentRequests = 8 }
        for batch in try batches(tenants: tenants, records: 1) { machine.add(batch, at: 0) }
        let requests = (0..<8).compactMap { _ in machine.nextRequest(at: 0) }
        #expect(requests.count == 8)
        for request in requests { machine.finish(request.identifier, with: .retry(reason: "busy", after: nil), at: 0) }
        // They were sent before it was known: they count once.
        let later = 20 * second
        #expect((0..<8).compactMap { _ in machine.nextRequest(at: later) }.count == 4)
    }

    @Test func whoStandsStillGivesRoomAndIsReadAgainFromThere() throws {
        let batches = try batches(tenants: ["a", "b"], records: 30, length: 1000)
        let machine = machine {
            $0.maximumBatchBytes = 2000
            $0.maximumBufferedBytes = 60_000
            $0.initialBackoff = .seconds(5)
        }
        for batch in batches where batch.tenant == "a" { machine.add(batch, at: 0) }
        let request = try #require(machine.nextRequest(at: 0))
        machine.finish(request.identifier, with: .retry(reason: "down", after: nil), at: 0)
        #expect(machine.full(at: 0) == ["a"])
        for batch in batches where batch.tenant == "b" { machine.add(batch, at: 0) }
        #expect(machine.room == 0)
        // b is sent, and nothing else can be: a's place is taken.
        while let next = machine.nextRequest(at: 0) {
            #expect(next.batch.tenant == "b")
            machine.finish(next.identifier, with: .retry(reason: "down", after: nil), at: 0)
        }
        let evicted = machine.evictions(at: 0)
        let through = try #require(evicted.first { $0.tenant == "a" }?.through)
        #expect(machine.room > 0 && through >= 1 && through < 30)
        // What was cut off stays, and comes first.
        let woken = try #require(
            (0..<20).lazy.compactMap { _ in machine.nextRequest(at: 30 * self.second) }.first { $0.batch.tenant == "a" }
        )
        #expect(woken.batch.records.first?.sequence == 1)
    }

    @Test func numbersThatNobodyCanDeliverAreAcknowledgedInTheirTurn() throws {
        let machine = machine { $0.maximumBatchRecords = 2 }
        let batches = try batches(records: 2)
        machine.add(batches[0], at: 0)
        machine.addGap(2...5, of: "t", at: 0)
        let request = try #require(machine.nextRequest(at: 0))
        #expect(machine.takeAcknowledgements().isEmpty)
        machine.finish(request.identifier, with: taken, at: 0)
        #expect(machine.takeAcknowledgements().map(\.through) == [5])
        machine.addGap(6...9, of: "t", at: 0)
        #expect(machine.nextRequest(at: 0) == nil)
        #expect(machine.takeAcknowledgements().map(\.through) == [9])
        #expect(machine.isIdle)
    }

    @Test func tenantIsGivenUpWhenItsRequestsFailForTooLong() throws {
        let machine = machine {
            $0.giveUpAfter = .seconds(3)
            $0.maximumBackoff = .seconds(1)
        }
        for batch in try batches(records: 3) { machine.add(batch, at: 0) }
        var now: UInt64 = 0
        while let request = machine.nextRequest(at: now) {
            machine.finish(request.identifier, with: .retry(reason: "down", after: nil), at: now)
            guard machine.nextRequest(at: now) == nil, let wake = machine.wakeTime(at: now) else { break }
            now = wake
        }
        #expect(machine.halted == ["t": "down"] && now >= 3 * second && now < 5 * second)
        #expect(machine.isIdle && machine.heldBytes == 0 && machine.haltedRecords == 3)
    }
}

/// The machine as an object: an expectation cannot change a value that it looks at.
private final class MachineUnderTest {
    private var machine: DeliveryMachine

    init(_ machine: DeliveryMachine) { self.machine = machine }

    func add(_ batch: RecordBatch, at now: UInt64) { machine.add(batch, at: now) }
    func addGap(_ sequences: ClosedRange<UInt64>, of tenant: TenantName, at now: UInt64) {
        machine.addGap(sequences, of: tenant, at: now)
    }
    func nextRequest(at now: UInt64) -> DeliveryMachine.Request? { machine.nextRequest(at: now) }
    func finish(_ identifier: UInt64, with result: ExportResult, at now: UInt64) {
        machine.finish(identifier, with: result, at: now)
    }
    func takeAcknowledgements() -> [DeliveryMachine.Position] { machine.takeAcknowledgements() }
    func acknowledged(_ position: DeliveryMachine.Position) { machine.acknowledged(position) }
    func wakeTime(at now: UInt64) -> UInt64? { machine.wakeTime(at: now) }
    func full(at now: UInt64) -> Set<TenantName> { machine.full(at: now) }
    func evictions(at now: UInt64) -> [DeliveryMachine.Position] { machine.evictions(at: now) }
    var isIdle: Bool { machine.isIdle }
    var heldBytes: Int { machine.heldBytes }
    var haltedRecords: UInt64 { machine.haltedRecords }
    var halted: [TenantName: String] { machine.halted }
    var room: Int { machine.room }
    var waitsForDurability: Bool { machine.waitsForDurability }
}
