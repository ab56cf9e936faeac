import Foundation
import ServiceLifecycleTestKit
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// The replayer as a service: it follows the log, and ends when it is asked to.
@Suite struct ReplayServiceTests {
    let directory = TemporaryDirectory()

    private func open() async throws -> WriteAheadLog {
        try await WriteAheadLog.open(at: directory.path, options: smallOptions())
    }

    @Test func whatBecomesDurableIsSentWithoutBeingAskedFor() async throws {
        let log = try await open()
        let exporter = TestExporter()
        let service = Task { try await Replayer(log: log, subscriber: "s", exporter: exporter).run() }
        for number in 1...5 {
            try await log.append(numberedRecord(number), tenant: "t")
            await patiently { exporter.sequences("t").count == number }
            #expect(exporter.sequences("t").count == number)
            // It has come to the end, and waits.
            try await Task.sleep(for: .milliseconds(300))
        }
        service.cancel()
        try await service.value
        try await log.close()
    }

    @Test func shutdownDrainsAndLeavesCursorsRight() async throws {
        let log = try await open()
        for number in 1...50 { try await log.append(numberedRecord(number), tenant: "t") }
        var options = ReplayOptions()
        options.maximumBatchRecords = 5
        let exporter = TestExporter { batch in
            try? await Task.sleep(for: .milliseconds(30))
            return await TestExporter.takes(batch)
        }
        let replayer = Replayer(log: log, subscriber: "s", exporter: exporter, options: options)
        try await testGracefulShutdown { trigger in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await replayer.run() }
                await patiently { exporter.batches.count >= 2 }
                trigger.triggerGracefulShutdown()
                try await group.waitForAll()
            }
        }
        #expect(exporter.sequences("t").sorted() == Array(1...50), "what was read was sent")
        #expect(log.tenants.first?.acknowledgedThrough["s"] == 50)
        try await log.close()
    }

    @Test func shutdownDoesNotWaitForAReceiverThatHangs() async throws {
        let log = try await open()
        for number in 1...10 { try await log.append(numberedRecord(number), tenant: try TenantName("t\(number % 2)")) }
        var options = ReplayOptions()
        options.shutdownTimeout = .milliseconds(200)
        let exporter = TestExporter { batch in
            if batch.tenant == "t0" { try? await Task.sleep(for: .seconds(3600)) }
            return await TestExporter.takes(batch)
        }
        let replayer = Replayer(log: log, subscriber: "s", exporter: exporter, options: options)
        let start = ContinuousClock.now
        try await testGracefulShutdown { trigger in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await replayer.run() }
                await patiently { exporter.sequences("t1").count == 5 }
                trigger.triggerGracefulShutdown()
                try await group.waitForAll()
            }
        }
        #expect(ContinuousClock.now - start < .seconds(600))
        let cursors = Dictionary(
            uniqueKeysWithValues: log.tenants.map { ($0.name, $0.acknowledgedThrough["s"] ?? 0) })
        #expect(cursors["t1"] == 5)
        try await log.close()
    }

    @Test func receiverThatComesBackGetsEverything() async throws {
        let log = try await open()
        let isUp = Shared(false)
        var options = ReplayOptions()
        options.maximumBackoff = .milliseconds(50)
        options.maximumBatchAge = .zero
        let exporter = TestExporter { batch in
            isUp.value ? await TestExporter.takes(batch) : .retry(reason: "down", after: nil)
        }
        let service = Task { try await Replayer(log: log, subscriber: "s", exporter: exporter, options: options).run() }
        for number in 1...100 { try await log.append(numberedRecord(number), tenant: try TenantName("t\(number % 5)")) }
        await patiently { exporter.batches.count >= 10 }
        #expect(log.tenants.allSatisfy { ($0.acknowledgedThrough["s"] ?? 0) == 0 })
        isUp.value = true
        await patiently { (0..<5).allSatisfy { exporter.sequences(try! TenantName("t\($0)")).count == 20 } }
        for tenant in 0..<5 { #expect(exporter.sequences(try TenantName("t\(tenant)")).sorted() == Array(1...20)) }
        service.cancel()
        try await service.value
        try await log.close()
    }
}
