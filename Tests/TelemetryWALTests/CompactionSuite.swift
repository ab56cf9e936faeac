import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What the suites of compaction share: a small journal of three tenants, and a subscriber that takes everything.
protocol CompactionSuite {
    var directory: TemporaryDirectory { get }
    var plan: FaultPlan { get }
}

extension CompactionSuite {
    static var tenants: [TenantName] { ["alpha", "beta/ü", "gamma"] }

    /// Journals of eight files of 256 KiB: what does not fit moves on.
    func options() -> WriteAheadLogOptions {
        var options = quietOptions()
        options.journalLimit = 2 << 20
        options.idleMilliseconds = 5
        return options
    }

    func open(_ options: WriteAheadLogOptions? = nil) throws -> FaultyLog {
        try openPatiently(at: directory.path, options: options ?? self.options(), plan: plan)
    }

    /// Appends so many batches for each tenant.
    func fill(_ log: FaultyLog, _ ledger: inout Ledger, batches: Int) throws {
        for _ in 0..<batches {
            for tenant in Self.tenants { try ledger.append(to: log, tenant, count: 4, length: 3000) }
        }
    }

    /// Waits until something holds.
    func wait(_ what: String, until holds: () throws -> Bool) throws {
        let deadline = endOfPatience()
        while try !holds() {
            if Date() > deadline {
                Issue.record("in vain: \(what)")
                return
            }
            Thread.sleep(forTimeInterval: 0.002)
        }
    }

    var segmentPaths: [String] {
        let root = directory.path + "/tenants"
        let paths = (try? FileManager.default.subpathsOfDirectory(atPath: root)) ?? []
        return paths.filter { $0.contains(".segment") || $0.hasSuffix(".tmp") }.map { root + "/" + $0 }.sorted()
    }

    /// Reads what a subscriber lacks, and checks that each tenant's records come in order, each once. With what it is told
    /// besides.
    func read(
        _ log: FaultyLog, by subscriber: TenantName = "reader", acknowledging: Bool = false
    ) throws -> (records: [RecordName: [UInt8]], errors: [WALError]) {
        var records: [RecordName: [UInt8]] = [:]
        var last: [TenantName: UInt64] = [:]
        var errors: [WALError] = []
        var walk = log.records(subscriber: subscriber).makeBlockingIterator()
        while errors.count < 500 {
            do throws(WALError) {
                guard let batch = try walk.next() else { break }
                for record in batch.records {
                    #expect(record.sequence > last[batch.tenant] ?? 0)
                    last[batch.tenant] = record.sequence
                    records[RecordName(batch.tenant, record.sequence)] = Array(record.payload)
                }
                if acknowledging { log.acknowledge(batch, subscriber: subscriber) }
            } catch { errors.append(error) }
        }
        return (records, errors)
    }

    /// The same where it is told of damage at most.
    func deliver(
        _ log: FaultyLog, to subscriber: TenantName, acknowledging: Bool = true
    ) throws -> (records: [RecordName: [UInt8]], damages: [String]) {
        let found = try read(log, by: subscriber, acknowledging: acknowledging)
        for error in found.errors {
            guard case .damaged = error else { throw error }
        }
        return (found.records, found.errors.map { "\($0)" })
    }

    func check(_ found: [RecordName: [UInt8]], _ expected: [RecordName: [UInt8]]) {
        let missing = expected.keys.filter { found[$0] == nil }.map(\.description).sorted()
        let strange = found.filter { expected[$0.key] != $0.value }.map(\.key.description).sorted()
        #expect(missing.isEmpty, "missing: \(missing.prefix(10)) of \(missing.count)")
        #expect(strange.isEmpty, "strange: \(strange.prefix(10)) of \(strange.count)")
    }

    func checkView(_ ledger: Ledger, _ keys: (any KeyProvider)? = nil) throws {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, keyProvider: keys)
        #expect(!view.report.hasLoss, "\(view.report.findings)")
        let read = ReadBack(view)
        #expect(read.duplicates.isEmpty && read.damaged.isEmpty && read.failures.isEmpty, "\(read.damaged)")
        check(read.records, ledger.records)
    }

    /// A closed log of several files, of which a commit in the oldest is gone.
    func damagedJournal() throws -> (ledger: Ledger, file: JournalImage, hit: JournalImage.Commit) {
        var ledger = Ledger()
        var options = options()
        options.segmentLimit = 0
        let log = try open(options)
        while log.liveFileCount < 5 { try fill(log, &ledger, batches: 1) }
        try log.closeBlocking()
        var file = try #require(try JournalImage.live(in: directory.path).first)
        // Not the first one, and not one that an idle log wrote.
        let hit = try #require(file.commits.dropFirst(3).first { !$0.records.isEmpty })
        file.zero(hit.range)
        try file.save()
        return (ledger, file, hit)
    }
}
