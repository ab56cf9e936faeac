import Foundation
import Synchronization
import TelemetryWAL

/// The writers of a measurement. Each counts for itself.
enum Writer {
    struct Result: Sendable {
        var latency = Histogram()
    }

    /// A thread a writer.
    static func blocking(_ wal: WriteAheadLog, _ load: Load, _ clock: Clock) -> [Result] {
        let results = Mutex<[Result]>([])
        let group = DispatchGroup()
        for writer in 0..<load.writers {
            group.enter()
            let thread = Thread {
                var result = Result()
                var number = 0
                var before = now()
                while clock.allows(before, bytes: load.bytes) {
                    let batch = load.batch(writer, number)
                    let tenant = load.tenant(writer, number)
                    do {
                        if batch.count == 1 {
                            try wal.appendBlocking(batch[0], tenant: tenant)
                        } else {
                            try wal.appendBlocking(contentsOf: batch, tenant: tenant)
                        }
                    } catch { fail(error) }
                    let after = now()
                    if before >= clock.start { result.latency.add(after - before) }
                    before = after
                    number += 1
                }
                results.withLock { $0.append(result) }
                group.leave()
            }
            thread.stackSize = 512 << 10
            thread.start()
        }
        group.wait()
        return results.withLock { $0 }
    }

    /// A task a writer.
    static func async(_ wal: WriteAheadLog, _ load: Load, _ clock: Clock) async throws -> [Result] {
        try await withThrowingTaskGroup(of: Result.self) { group in
            for writer in 0..<load.writers {
                group.addTask {
                    var result = Result()
                    var number = 0
                    var before = now()
                    while clock.allows(before, bytes: load.bytes) {
                        let batch = load.batch(writer, number)
                        let tenant = load.tenant(writer, number)
                        if batch.count == 1 {
                            try await wal.append(batch[0], tenant: tenant)
                        } else {
                            try await wal.append(contentsOf: batch, tenant: tenant)
                        }
                        let after = now()
                        if before >= clock.start { result.latency.add(after - before) }
                        before = after
                        number += 1
                    }
                    return result
                }
            }
            var results: [Result] = []
            for try await result in group { results.append(result) }
            return results
        }
    }

    /// One producer that enqueues in bursts of half the staging limit, then waits outside the measured time. Calls
    /// are timed by the hundred: reading the clock takes as long as a third of a call.
    static func enqueue(_ wal: WriteAheadLog, _ load: Load, _ clock: Clock) async throws -> Result {
        var result = Result()
        var number = 0
        let hundreds = max(1, (32 << 20) / (100 * (load.bytes + 16)))
        while clock.allows(now(), bytes: load.bytes) {
            var last: Ticket?
            for _ in 0..<hundreds {
                let before = now()
                do {
                    for _ in 0..<100 {
                        last = try wal.enqueue(
                            load.batches[number % load.batches.count][0], tenant: load.tenant(0, number))
                        number &+= 1
                    }
                } catch {
                    // Back-pressure: the device, or the making of a file, is behind. Not a call's time.
                    try await Task.sleep(for: .milliseconds(1))
                    continue
                }
                let after = now()
                if before >= clock.start { result.latency.add((after - before) / 100, times: 100) }
            }
            if let last { try await wal.durable(through: last) }
        }
        return result
    }

    private static func fail(_ error: any Error) -> Never {
        FileHandle.standardError.write(Data("walbench: \(error)\n".utf8))
        exit(3)
    }
}
