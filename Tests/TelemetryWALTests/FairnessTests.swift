import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// A tenant that floods does not keep others from their share of staging and of the device.
@Suite struct FairnessTests {
    private let directory = TemporaryDirectory()
    private let plan = FaultPlan()
    private let flooder: TenantName = "flooder"
    private let quiet: TenantName = "quiet"

    /// One commit at a time, so that what waits is known.
    private func open(_ change: (inout WriteAheadLogOptions) -> Void = { _ in }) throws -> FaultyLog {
        var options = quietOptions(fileSize: 16 << 20)
        options.commitsUnderWay = 1
        options.stagingLimit = 8 << 20
        change(&options)
        return try openPatiently(at: directory.path, options: options, plan: plan)
    }

    /// Holds the device at a write of another tenant's. What is staged from then on waits.
    private func hold(_ log: FaultyLog) -> (gate: Gate, held: Thread) {
        let gate = Gate()
        plan.setWrite { _, _ in gate.admit() }
        let held = Thread { _ = try? log.appendBlocking(numberedRecord(0), tenant: "held") }
        held.start()
        gate.waitUntilHeld()
        return (gate, held)
    }

    /// Enqueues until nothing more is taken; returns the bytes taken and the last ticket.
    @discardableResult
    private func flood(
        _ log: FaultyLog, _ tenant: TenantName, length: Int = 10_000, upTo end: Int = .max
    ) throws -> (Int, Ticket?) {
        var (taken, last): (Int, Ticket?) = (0, nil)
        while taken < end {
            do throws(WALError) {
                last = try log.enqueue(numberedRecord(taken, length: length), tenant: tenant)
                taken += length + 16
            } catch {
                guard case .stagingFull = error else { throw error }
                break
            }
        }
        return (taken, last)
    }

    @Test func aFloodLeavesOthersRoomInStaging() throws {
        let log = try open()
        let (gate, _) = hold(log)
        let limit = 8 << 20
        let (first, _) = try flood(log, flooder)
        #expect(first <= limit / 16 * 15 && first > limit / 16 * 15 - 20_000)
        // Of the 16th that is left, each takes a little.
        for number in 0..<36 {
            let tenant = try TenantName("next-\(number % 12)")
            _ = try log.enqueue(numberedRecord(number, length: 10_000), tenant: tenant)
        }
        // Who has more than a little enters by the reserve, and counts from then on.
        _ = try log.enqueue(numberedRecord(1, length: 10_000), tenant: "next-0")
        #expect(throws: WALError.self) { try log.enqueue(numberedRecord(1, length: 10_000), tenant: "next-0") }
        #expect(throws: WALError.self) { try log.enqueue(numberedRecord(1, length: 10_000), tenant: flooder) }
        #expect(log.statistics.backPressure == 3)
        gate.open()
        try waitUntil { log.statistics.records > UInt64(first / 10_016) }
        #expect(log.core.lock.withLock { log.core.stagedWeight } == 0)
        try log.closeBlocking()
    }

    /// What one waits for is a commit or two, not all that another has enqueued.
    @Test(.timeLimit(.minutes(60)), arguments: [false, true]) func anAppendGoesBeforeWhatIsEnqueued(_ isTask: Bool)
        async throws
    {
        let log = try open()
        try log.appendBlocking(numberedRecord(1), tenant: quiet)
        let (gate, _) = hold(log)
        try flood(log, flooder)
        let number = Shared(UInt64(0))
        if isTask {
            let task = Task { [quiet] in
                number.value = try await log.append(numberedRecord(2), tenant: quiet).sequence
            }
            // By suspending: the task may need this thread, and have to wait for its turn for minutes.
            while log.statistics.passingAppends == 0 { try await Task.sleep(for: .milliseconds(1)) }
            gate.open()
            _ = await task.result
        } else {
            let thread = Thread { [quiet] in
                number.value = (try? log.appendBlocking(numberedRecord(2), tenant: quiet).sequence) ?? 0
            }
            thread.start()
            try waitUntil { log.statistics.passingAppends == 1 }
            gate.open()
            try waitUntil { number.value > 0 && thread.isFinished }
        }
        try log.closeBlocking()
        #expect(number.value == 2)
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.findings.isEmpty)
        let places = try commits(of: view)
        // The held write, then the group that the append passed into: before all other groups of the flood.
        let own = try #require(places[quiet]?.last)
        #expect(try #require(places[flooder]).count { $0 > own } >= 6)
        #expect(try #require(places[flooder]?.first) >= own)
    }

    /// By tenant, the commits that have records of it.
    private func commits(of view: WriteAheadLogReader<DirectStorage>) throws -> [TenantName: [UInt64]] {
        var places: [TenantName: [UInt64]] = [:]
        var batches = view.records()
        while let batch = try batches.next() {
            if places[batch.tenant]?.last != batch.commitNumber {
                places[batch.tenant, default: []].append(batch.commitNumber)
            }
        }
        return places
    }

    /// So does the first append of a tenant that the log does not know.
    @Test func aNewTenantGoesBeforeWhatIsEnqueued() throws {
        let log = try open()
        let (gate, _) = hold(log)
        try flood(log, flooder)
        let thread = Thread { [quiet] in _ = try? log.appendBlocking(numberedRecord(1), tenant: quiet) }
        thread.start()
        try waitUntil { log.statistics.passingAppends == 1 }
        gate.open()
        try log.closeBlocking()
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        let places = try commits(of: view)
        #expect(try #require(places[quiet]) == [try #require(places[flooder]?.first)])
    }

    /// A tenant's own records stay in order: what it appends does not pass what it has enqueued.
    @Test func aTenantDoesNotPassItself() throws {
        let log = try open()
        let (gate, _) = hold(log)
        let (taken, _) = try flood(log, flooder, upTo: 5 << 20)
        let count = UInt64(taken / 10_016)
        let index = try #require(log.core.lock.withLock { log.core.state.index(of: flooder) })
        let thread = Thread { [flooder] in _ = try? log.appendBlocking(numberedRecord(2), tenant: flooder) }
        thread.start()
        try waitUntil { log.core.lock.withLock { log.core.tenantStaging[index].nextSequence == count + 2 } }
        #expect(log.core.lock.withLock { log.core.tenantStaging[index].lastGroup == log.core.openGroup.number })
        #expect(log.statistics.passingAppends == 0)
        gate.open()
        try log.closeBlocking()
        let read = ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal))
        #expect(read.records[RecordName(flooder, count + 1)] == numberedRecord(2).payload)
    }

    /// A ticket covers all that was enqueued before it, whatever appends pass.
    @Test func aBarrierCoversAllThatWasEnqueuedBefore() throws {
        let log = try open()
        try log.appendBlocking(numberedRecord(1), tenant: quiet)
        let (gate, _) = hold(log)
        let (taken, _) = try flood(log, flooder, length: 50_000)
        let thread = Thread { [quiet] in _ = try? log.appendBlocking(numberedRecord(2), tenant: quiet) }
        thread.start()
        try waitUntil { log.statistics.passingAppends == 1 }
        let ticket = try log.enqueue(numberedRecord(3), tenant: quiet)
        gate.open()
        try log.durableBlocking(through: ticket)
        #expect(log.statistics.records >= UInt64(taken / 50_016) + 4)
        try log.closeBlocking()
    }

    /// One that appends much is not let past by all of it: what it may add to each waiting group is bounded.
    @Test func whatPassesIsBoundedByRound() throws {
        let log = try open { $0.stagingLimit = 64 << 20 }
        for tenant in [quiet, "large"] { try log.appendBlocking(numberedRecord(1), tenant: tenant) }
        let (gate, _) = hold(log)
        try flood(log, flooder, upTo: 8 << 20)
        let groups = log.core.lock.withLock { log.core.closedGroups.map(\.rawLength) }
        try #require(groups.count >= 6)
        let threads = (0..<40).map { number in
            Thread { [quiet] in _ = try? log.appendBlocking(numberedRecord(number, length: 10_000), tenant: quiet) }
        }
        for thread in threads { thread.start() }
        try waitUntil { log.statistics.passingAppends == 40 }
        let target = LogFront.groupTarget(log.core.options)
        let added = zip(log.core.lock.withLock { log.core.closedGroups.map(\.rawLength) }, groups).map { $0 - $1 }
        #expect(added.reduce(0, +) == 40 * 10_016)
        for length in added { #expect(length <= target / 8 + 10_016) }
        #expect(added[0] <= target / 8 && added[0] > target / 8 - 10_016)
        // A long batch comes behind as many groups as give it its length together.
        let batch = (0..<30).map { numberedRecord($0, length: 10_000) }
        let long = Thread { _ = try? log.appendBlocking(contentsOf: batch, tenant: "large") }
        long.start()
        try waitUntil { log.statistics.passingAppends == 41 }
        let after = zip(log.core.lock.withLock { log.core.closedGroups.map(\.rawLength) }, groups).map { $0 - $1 }
        #expect(zip(after, added).map { $0 - $1 }.firstIndex { $0 > 0 } == 2)
        gate.open()
        try log.closeBlocking()
        #expect(try contents(of: directory.path)["quiet"]?.count == 41)
    }

    /// With a device that takes less than two tenants append, each gets through what its weight says: write by write,
    /// each let go when nothing more is taken.
    @Test func weightsShareTheDevice() throws {
        let log = try open {
            $0.journalFileSize = 128 << 20
            $0.journalLimit = 1 << 30
            $0.tenantWeights = ["heavy": 300]
        }
        let permits = DispatchSemaphore(value: 0)
        plan.setWrite { _, _ in
            permits.wait()
            return nil
        }
        let record = numberedRecord(1, length: 8000)
        /// Enqueues of both in turn until neither is taken; returns how many of each.
        func fill() throws -> (light: Int, heavy: Int) {
            var (counts, isRefused) = ([0, 0], [false, false])
            while isRefused != [true, true] {
                for (place, tenant) in (["light", "heavy"] as [TenantName]).enumerated() where !isRefused[place] {
                    do throws(WALError) {
                        _ = try log.enqueue(record, tenant: tenant)
                        counts[place] += 1
                    } catch {
                        guard case .stagingFull = error else { throw error }
                        isRefused[place] = true
                    }
                }
            }
            return (counts[0], counts[1])
        }
        func ratio(rounds: Int) throws -> Double {
            var (light, heavy) = (0, 0)
            for round in 0..<rounds {
                let before = log.statistics.writes
                permits.signal()
                try waitUntil { log.statistics.writes > before }
                let taken = try fill()
                // What waits has to come to its shares first.
                if round >= rounds / 2 { (light, heavy) = (light + taken.light, heavy + taken.heavy) }
            }
            return Double(heavy) / Double(max(1, light))
        }
        _ = try fill()
        let before = try ratio(rounds: 40)
        #expect(before > 2.6 && before < 3.4, "\(before)")
        // Weights may change while the log is open.
        try log.setWeight(300, of: "light")
        try log.setWeight(100, of: "heavy")
        let after = 1 / (try ratio(rounds: 40))
        #expect(after > 2.6 && after < 3.4, "\(after)")
        plan.setWrite(nil)
        for _ in 0..<100 { permits.signal() }
        try log.closeBlocking()
        #expect(log.core.lock.withLock { log.core.stagedWeight == 0 && log.core.stagedTenants == 0 })
    }

    /// Everything arrives, once and in order, from one file to the next, while appends pass and writes fail.
    @Test(arguments: [false, true]) func passingLosesNothing(_ fails: Bool) throws {
        let log = try open {
            $0.journalFileSize = 1 << 20
            $0.stagingLimit = 1 << 20
            $0.commitsUnderWay = 2
        }
        let writes = Counter(1_000_000)
        let gate = Gate()
        plan.setWrite { _, range in
            if let held = gate.admit() { return held }
            return fails && range.lowerBound > 0 && writes.next() % 50 == 0 ? .failsHolding([0..<4096]) : nil
        }
        let counts = Shared([TenantName: Int]())
        let failures = Shared([String]())
        let threads = (0..<6).map { number in
            Thread {
                let tenant = (try? TenantName("tenant-\(number)")) ?? "none"
                var count = 0
                var last: Ticket?
                for round in 0..<300 {
                    let text = Array("record \(count + 1) ".utf8)
                    let payload = text + [UInt8](repeating: 7, count: number < 2 ? 20_000 : 300)
                    let record = TelemetryRecord(kind: .opaque, payload: payload)
                    do {
                        if number < 2 || round % 7 == 6 {
                            last = try log.enqueue(record, tenant: tenant)
                        } else {
                            _ = try log.appendBlocking(record, tenant: tenant)
                        }
                        count += 1
                    } catch {
                        if case WALError.stagingFull = error {
                        } else if case WALError.journalFull = error {
                        } else {
                            failures.change { $0.append("\(error)") }
                        }
                        if let last { _ = try? log.durableBlocking(through: last) }
                    }
                }
                if let last { _ = try? log.durableBlocking(through: last) }
                counts.change { $0[tenant] = count }
            }
        }
        for thread in threads.prefix(2) { thread.start() }
        gate.waitUntilHeld()
        try waitUntil { log.core.lock.withLock { !log.core.closedGroups.isEmpty } }
        for thread in threads.dropFirst(2) { thread.start() }
        try waitUntil { log.statistics.passingAppends > 0 }
        gate.open()
        try waitUntil { threads.allSatisfy(\.isFinished) }
        plan.setWrite(nil)
        try log.closeBlocking()
        #expect(failures.value == [])
        #expect(log.statistics.passingAppends > 0)
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.report.findings.isEmpty, "\(view.report.findings)")
        let read = ReadBack(view)
        #expect(read.duplicates.isEmpty)
        for (tenant, count) in counts.value {
            #expect(read.records.keys.count { $0.tenant == tenant } == count)
            for number in stride(from: 1, through: count, by: 1) {
                let payload = read.records[RecordName(tenant, UInt64(number))]
                #expect(payload?.starts(with: Array("record \(number) ".utf8)) == true)
            }
        }
    }

    /// Weights are the options': they hold for tenants that the log knows from before as well.
    @Test func weightsHoldWhenTheLogIsOpenedAgain() throws {
        var log = try open()
        try log.appendBlocking(numberedRecord(1), tenant: "heavy")
        try log.closeBlocking()
        log = try open { $0.tenantWeights = ["heavy": 300] }
        let weights = log.core.lock.withLock { log.core.tenantStaging.map(\.weight) }
        #expect(weights == [300])
        try log.closeBlocking()
    }

    @Test func weightsOutOfRangeAreRefused() throws {
        for weight in [0, -1, 10_001] {
            #expect(throws: WALError.self) { try open { $0.tenantWeights = ["heavy": weight] } }
        }
        let log = try open()
        #expect(throws: WALError.self) { try log.setWeight(0, of: quiet) }
        try log.closeBlocking()
    }
}
