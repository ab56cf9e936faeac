import Foundation
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

@Suite struct AppendTests {
    let directory = TemporaryDirectory()

    @Test func whatWasAppendedIsReadBackAfterClose() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        for number in 1...50 {
            let receipt = try await log.append(numberedRecord(number), tenant: "acme")
            #expect(receipt.sequence == UInt64(number))
        }
        let batch = try await log.append(contentsOf: (51...60).map { numberedRecord($0) }, tenant: "acme")
        #expect(batch.sequences == 51...60)
        let blocking = try log.appendBlocking(numberedRecord(1), tenant: "other")
        #expect(blocking.sequence == 1)
        try await log.close()
        let found = try contents(of: directory.path)
        #expect(found["acme"]?.count == 60)
        #expect(found["acme"]?[57] == numberedRecord(57).payload)
        #expect(found["other"]?[1] == numberedRecord(1).payload)
    }

    @Test func whatWasAppendedIsThereWithoutClose() async throws {
        do {
            let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
            for number in 1...20 { try await log.append(numberedRecord(number), tenant: "acme") }
        }
        let log = try await reopened()
        #expect(log.recoveryReport.records == 20)
        #expect(try await log.append(numberedRecord(21), tenant: "acme").sequence == 21)
        try await log.close()
        #expect(try contents(of: directory.path)["acme"]?.count == 21)
    }

    /// The threads of an abandoned log let go of its lock a moment later.
    private func reopened() async throws -> WriteAheadLog {
        let deadline = endOfPatience()
        while true {
            do { return try await WriteAheadLog.open(at: directory.path, options: smallOptions()) } catch {
                guard case .storage(let cause) = error, case .locked = cause.code, Date() < deadline else {
                    throw error
                }
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    @Test func enqueuedRecordsAreDurableBehindTheBarrier() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        try await log.append(numberedRecord(0), tenant: "warm-up")
        var last: Ticket?
        for number in 1...12 { last = try log.enqueue(numberedRecord(number), tenant: "acme") }
        try await log.durable(through: try #require(last))
        #expect(log.tenants.first { $0.name == "acme" }?.nextSequence == 13)
        try await log.close()
    }

    /// The first file takes a hundred records even if each is a commit. Behind it `enqueue` refuses as long as the next
    /// file is being made, which takes seconds on a busy device, and nothing else.
    @Test func enqueueNeedsNoWarmUpAndGoesOnBehindRotation() throws {
        let log = try WriteAheadLog.openBlocking(at: directory.path, options: quietOptions(fileSize: 512 << 10))
        for number in 1...100 { _ = try log.enqueue(numberedRecord(number), tenant: "acme") }
        for number in 101...200 {
            try waitUntil {
                do throws(WALError) { _ = try log.enqueue(numberedRecord(number), tenant: "acme") } catch {
                    guard case .journalFull = error else { throw error }
                    return false
                }
                return true
            }
        }
        try log.closeBlocking()
        #expect(try contents(of: directory.path)["acme"]?.count == 200, "close writes what was enqueued")
    }

    @Test func recordsOfZeroBytesAndOfTheLimitAreTakenAndNoLarger() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 1 << 20))
        try await log.append(TelemetryRecord(kind: .opaque, payload: []), tenant: "acme")
        let limit = (1 << 20) / 4 - 16
        try await log.append(TelemetryRecord(kind: .opaque, payload: .init(repeating: 7, count: limit)), tenant: "acme")
        for length in [limit + 1, 64 << 20] {
            await #expect {
                try await log.append(
                    TelemetryRecord(kind: .opaque, payload: .init(repeating: 7, count: length)), tenant: "acme")
            } throws: {
                guard case WALError.recordTooLarge(length, limit) = $0 else { return false }
                return true
            }
        }
        try await log.close()
        #expect(try contents(of: directory.path)["acme"]?.mapValues(\.count) == [1: 0, 2: limit])
    }

    @Test func closedLogRefusesAndWaitersAreTold() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        try await log.close()
        try await log.close()
        await #expect(throws: WALError.self) { try await log.append(numberedRecord(1), tenant: "acme") }
        #expect(throws: WALError.self) { try log.enqueue(numberedRecord(1), tenant: "acme") }
    }

    @Test func manyThreadsAndTasksWithLittleStagingMemoryAllGetThrough() async throws {
        var options = smallOptions(fileSize: 1 << 20)
        options.stagingLimit = 1 << 20
        let log = try await WriteAheadLog.open(at: directory.path, options: options)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<32 {
                group.addTask {
                    for number in 1...10 {
                        try await log.append(
                            numberedRecord(number, length: 100_000), tenant: try TenantName("task-\(task)"))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(log.statistics.records == 320)
        try await log.close()
    }

    @Test func manyTasksAppendAtATime() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for tenant in 0..<40 {
                group.addTask {
                    for number in 1...25 {
                        let receipt = try await log.append(
                            numberedRecord(number), tenant: try TenantName("tenant-\(tenant)"))
                        #expect(receipt.sequence == UInt64(number))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(log.statistics.records == 1000)
        try await log.close()
        let found = try contents(of: directory.path)
        #expect(found.count == 40)
        #expect(found.values.allSatisfy { $0.count == 25 })
    }

    @Test func journalRotatesAndRecyclesWhatIsAcknowledged() async throws {
        let log = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 512 << 10))
        try log.register(subscriber: "collector")
        for round in 0..<12 {
            for number in 0..<20 {
                try await log.append(numberedRecord(round * 20 + number, length: 20_000), tenant: "acme")
            }
            for try await batch in log.records(of: "acme", subscriber: "collector") {
                log.acknowledge(batch, subscriber: "collector")
            }
            try await log.flushAcknowledgements()
        }
        #expect(log.liveFileCount <= 2)
        try await log.close()
        // Recycled, not made anew: ten files' worth went through the first few.
        let files = try FileManager.default.contentsOfDirectory(atPath: directory.appending("journal"))
        #expect(files.count <= 6)
        #expect(files.allSatisfy { $0 < "00000008.journal" }, "\(files.sorted())")
        let again = try await WriteAheadLog.open(at: directory.path, options: smallOptions(fileSize: 512 << 10))
        #expect(!again.recoveryReport.hasLoss)
        #expect(again.tenants[0].nextSequence == 241)
        #expect(again.tenants[0].acknowledgedThrough["collector"] == 240)
        try await again.close()
    }
}
