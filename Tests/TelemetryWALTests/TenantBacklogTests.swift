import Testing
import WALFormat

@testable import TelemetryWAL

/// Bytes and times by sequence number.
@Suite struct TenantBacklogTests {
    private static let second: UInt64 = 1_000_000_000

    /// 100 records of 50 bytes, one a second.
    private var uniform: TenantBacklog {
        var backlog = TenantBacklog()
        for number in 1...UInt64(100) { backlog.append(through: number, length: 50, received: number * Self.second) }
        return backlog
    }

    @Test func bytesAreCountedAndNotForgotten() {
        var backlog = uniform
        #expect(backlog.appendedLength == 5000)
        #expect(backlog.length(above: 0) == 5000)
        #expect(backlog.length(above: 40) == 3000)
        #expect(backlog.length(above: 100) == 0)
        #expect(backlog.length(above: 1000) == 0)
        backlog.release(through: 40)
        #expect(backlog.length(above: 40) == 3000 && backlog.appendedLength == 5000)
        backlog.release(through: 10)
        #expect(backlog.baseSequence == 40, "nothing is taken back")
        backlog.release(through: 100)
        #expect(backlog.length(above: 100) == 0 && backlog.appendedLength == 5000)
        backlog.append(through: 101, length: 7, received: 1)
        #expect(backlog.length(above: 100) == 7)
    }

    /// What is appended again, as it is when a write is repeated, counts once.
    @Test func aNumberCountsOnce() {
        var backlog = uniform
        backlog.append(through: 100, length: 50, received: 200 * Self.second)
        backlog.append(through: 60, length: 50, received: 200 * Self.second)
        #expect(backlog == uniform)
    }

    @Test func theNumberThatReachesALength() {
        let backlog = uniform
        for length: UInt64 in [0, 1, 49, 50, 51, 777, 2500, 4999, 5000] {
            let sequence = backlog.sequence(reaching: length)
            #expect(backlog.length(through: sequence) >= length)
            #expect(sequence == 0 || backlog.length(through: sequence - 1) < length)
        }
        #expect(backlog.sequence(reaching: 5001) == 100)
    }

    /// Nobody's age is taken for more than it is.
    @Test func theNumberReceivedByATime() {
        let backlog = uniform
        for time in 0...UInt64(101) {
            let sequence = backlog.sequence(receivedBy: time * Self.second)
            #expect(sequence <= time)
            #expect(sequence + 4 >= min(time, 100), "within a 32nd of what waits")
        }
        #expect(backlog.received(of: 1) == Self.second && backlog.received(of: 100) == 100 * Self.second)
        #expect(backlog.received(of: 0) == nil && backlog.received(of: 101) == nil)
    }

    /// However much comes, few points are kept, and they stay near each other.
    @Test func pointsStayFew() {
        var backlog = TenantBacklog()
        for number in 1...UInt64(200_000) {
            backlog.append(through: number, length: 100 + number % 7, received: number * 1_000_000)
        }
        #expect(backlog.steps.count <= 128)
        let span = backlog.appendedLength
        var before: UInt64 = 0
        for step in backlog.steps {
            #expect(step.length - before <= span / 15)
            before = step.length
        }
    }

    /// A clock that is set back makes nothing old that is not; one that jumps ahead makes what comes later stay longer.
    @Test func aClockThatIsSetBackDropsNothing() {
        var backlog = uniform
        backlog.append(through: 150, length: 2500, received: Self.second)
        #expect(backlog.sequence(receivedBy: 2 * Self.second) <= 2)
        #expect(backlog.received(of: 150) == 100 * Self.second)
    }

    /// What a checkpoint says is what the next opening goes on with.
    @Test func aSummaryBringsItBack() {
        var backlog = uniform
        backlog.append(through: 101, length: 5000, received: 130 * Self.second)
        let summary = backlog.summary(releasedThrough: 40)
        #expect(summary.appendedLength == 10000 && summary.releasedThrough == 40 && summary.releasedLength == 2000)
        #expect(summary.oldestReceived == 41 * Self.second)
        var again = TenantBacklog(summary, nextSequence: 102, received: 140 * Self.second)
        #expect(again.length(above: 40) == 8000)
        #expect(again.received(of: 41) == 41 * Self.second)
        #expect(again.sequence(receivedBy: 139 * Self.second) == 40)
        // A point from elsewhere makes it better.
        again.refine(at: 100, length: 5000, received: 100 * Self.second)
        #expect(again.length(above: 100) == 5000 && again.sequence(receivedBy: 139 * Self.second) == 100)
        again.refine(at: 30, received: 1)
        again.refine(at: 500, received: 1)
        #expect(again.steps.count == 2, "what is released or not there has no points")
        let empty = TenantBacklog(backlog.summary(releasedThrough: 101), nextSequence: 102, received: 1)
        #expect(empty.length(above: 101) == 0 && empty.appendedLength == 10000 && empty.steps.isEmpty)
    }

    /// What is known may begin amid the log; the next checkpoint knows the rest, or of records that are missing.
    @Test func aCheckpointKnowsWhatCameBefore() {
        var backlog = TenantBacklog()
        for number in 51...UInt64(100) { backlog.append(through: number, length: 50, received: number * Self.second) }
        backlog.reconcile(through: 100, appendedLength: 5000, received: 101 * Self.second)
        #expect(backlog.length(above: 0) == 5000 && backlog.length(above: 99) == 50 && backlog.lastSequence == 100)
        backlog.reconcile(through: 100, appendedLength: 10, received: 101 * Self.second)
        backlog.reconcile(through: 90, appendedLength: 9000, received: 101 * Self.second)
        #expect(backlog.appendedLength == 5000, "nothing is taken back, nor is what is older believed")
        backlog.reconcile(through: 110, appendedLength: 5600, received: 101 * Self.second)
        #expect(backlog.appendedLength == 5600 && backlog.lastSequence == 110 && backlog.length(above: 110) == 0)
    }

    /// Numbers out of all bounds, which only hostile bytes have, end in no trap.
    @Test func hostileNumbers() {
        let most = FormatLimits.maximumNumber
        let summary = BacklogSummary(
            appendedLength: most, releasedThrough: most, releasedLength: 0, oldestReceived: .max)
        for next in [0, 1, most] {
            var backlog = TenantBacklog(summary, nextSequence: next, received: 0)
            backlog.append(through: most, length: .max, received: .max)
            backlog.reconcile(through: most, appendedLength: most, received: 0)
            backlog.refine(at: most / 2, length: .max, received: .max)
            _ = backlog.beginsStep(received: 0)
            _ = backlog.sequence(reaching: most)
            _ = backlog.summary(releasedThrough: most)
            backlog.release(through: most)
            #expect(backlog.length(above: 0) <= most)
        }
    }
}
