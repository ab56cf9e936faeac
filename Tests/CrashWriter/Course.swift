import ArgumentParser
import TelemetryWAL
import TestSupport
import WALFormat

/// A log's whole course, from opening to closing, the same each time: one thread of appends in every way there is,
/// with rotations and acknowledgements between. For faults that are put at one point after another of it.
///
/// Prints what `Write` prints, and `x` when the log is closed. It ends with 3 and one line `e ERROR` where something
/// fails.
struct Course: AsyncParsableCommand {
    @Argument var root: String
    @Argument(help: "The first record's number; a million above that of the writer before.") var first: Int
    @OptionGroup var options: LogOptions
    @Option(help: "Rounds of appends, some 90 KiB each.") var rounds = 13

    /// A round's records for a tenant that go in one batch, one by one, and by `enqueue`.
    private static let (batch, single, enqueued) = (16, 1, 3)

    func run() async throws {
        do {
            let log = try await WriteAheadLog.open(at: root, options: options.walOptions)
            say(["o"])
            try log.register(subscriber: "crash")
            var number = first
            /// Records of many lengths.
            func next() -> Int {
                defer { number += 937 }
                return number
            }
            for round in 0..<rounds {
                for index in 0..<3 {
                    let tenant = try TenantName("tenant-\(index)")
                    let batch = (0..<Self.batch).map { _ in next() }
                    let receipt = try await log.append(contentsOf: batch.map(CrashLedger.record), tenant: tenant)
                    say(zip(receipt.sequences, batch).map { "a \(tenant) \($0) \($1)" })
                    for _ in 0..<Self.single {
                        let number = next()
                        let receipt = try await log.append(CrashLedger.record(number), tenant: tenant)
                        say(["a \(tenant) \(receipt.sequence) \(number)"])
                    }
                    // Which numbers they get a ticket does not say: they count as appended and not as owed.
                    var last: Ticket?
                    for _ in 0..<Self.enqueued {
                        let number = next()
                        do { last = try log.enqueue(CrashLedger.record(number), tenant: tenant) } catch {
                            // Refused at once while the next journal file is being made, as documented. Whether
                            // there will be one is what an append waits for.
                            guard case .journalFull = error else { throw error }
                            let receipt = try await log.append(CrashLedger.record(number), tenant: tenant)
                            say(["a \(tenant) \(receipt.sequence) \(number)"])
                        }
                    }
                    if let last { try await log.durable(through: last) }
                }
                if round % 2 == 1 { try await acknowledgeAll(of: log) }
            }
            try await log.close()
            say(["x"])
        } catch { end(error) }
    }
}

/// Delivers and acknowledges all that a log holds, and closes it. Prints like `Course`, and `f FILES`: how many live
/// files were left.
struct Drain: AsyncParsableCommand {
    @Argument var root: String
    @OptionGroup var options: LogOptions
    @Option(help: "Flush acknowledgements after so many batches, and not only at the end.") var flushEvery: Int?

    func run() async throws {
        do {
            let log = try await WriteAheadLog.open(at: root, options: options.walOptions)
            say(["o"])
            try log.register(subscriber: "crash")
            try await acknowledgeAll(of: log, flushEvery: flushEvery)
            say(["f \(log.liveFileCount)"])
            try await log.close()
            say(["x"])
        } catch { end(error) }
    }
}

/// Reads to the end what the subscriber `crash` has not, acknowledges it durably, and says so. On the way
/// acknowledgements may find no room, as long as they free no file; at the end there must be.
private func acknowledgeAll(of log: WriteAheadLog, flushEvery: Int? = nil) async throws {
    var through: [TenantName: UInt64] = [:]
    var batches = 0
    for try await batch in log.records(subscriber: "crash") {
        log.acknowledge(batch, subscriber: "crash")
        through[batch.tenant] = batch.sequences.upperBound
        batches += 1
        guard let flushEvery, batches % flushEvery == 0 else { continue }
        do { try await log.flushAcknowledgements() } catch {
            guard case .journalFull = error else { throw error }
        }
    }
    try await log.flushAcknowledgements()
    say(through.sorted { $0.key < $1.key }.map { "c \($0.key) \($0.value)" })
}
