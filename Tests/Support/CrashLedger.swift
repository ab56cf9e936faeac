import Foundation
import TelemetryWAL
import WALFormat

/// What writers that were killed had said: what was acknowledged to them, and by them. Holds the log against it.
public struct CrashLedger: Sendable {
    /// Numbers of records, by tenant and sequence number.
    public private(set) var acknowledged: [TenantName: [UInt64: Int]] = [:]
    /// The subscriber's cursors, by tenant.
    public private(set) var cursors: [TenantName: UInt64] = [:]
    /// Sequence numbers that were given twice.
    public private(set) var givenTwice: [RecordName] = []

    public init() {}

    public var recordCount: Int { acknowledged.values.reduce(0) { $0 + $1.count } }

    /// Takes what a writer printed. A last line without its end was cut off by the kill: it says nothing.
    public mutating func take(_ output: String) throws {
        for line in output.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            let words = line.split(separator: " ")
            guard words.count >= 3, let sequence = UInt64(words[2]) else { continue }
            let tenant = try TenantName(words[1])
            if words[0] == "a", words.count == 4, let number = Int(words[3]) {
                if acknowledged[tenant]?[sequence] != nil { givenTwice.append(RecordName(tenant, sequence)) }
                acknowledged[tenant, default: [:]][sequence] = number
            } else if words[0] == "c" {
                cursors[tenant] = max(cursors[tenant] ?? 0, sequence)
            }
        }
    }

    /// The record that a writer appends under a number.
    public static func record(_ number: Int) -> TelemetryRecord {
        numberedRecord(number, length: 100 + number % 3000)
    }

    /// What a log shows of what it owes.
    public struct Verdict: Sendable {
        /// Records acknowledged and not delivered since: owed.
        public var owed = 0
        public var recovered = 0
        public var lost = 0
        /// Findings of a log in which nothing was damaged.
        public var falseAlarms = 0
        /// All that is wrong, in words; the first hundred.
        public var problems: [String] = []

        mutating func fail(_ what: String) { if problems.count < 100 { problems.append(what) } }
    }

    /// Reads the whole log and compares.
    public func check(_ root: String) throws -> Verdict {
        var verdict = Verdict()
        for name in givenTwice { verdict.fail("sequence number given twice: \(name)") }
        let reader = try WriteAheadLogReader(at: root, scope: .wholeJournal, opensBodies: true)
        verdict.falseAlarms = reader.report.findings.count
        for finding in reader.report.findings { verdict.fail("false alarm: \(finding)") }
        let found = try contents(of: root)
        var known: Set<TenantName> = []
        for tenant in reader.tenants {
            known.insert(tenant.name)
            check(tenant, held: found[tenant.name] ?? [:], &verdict)
        }
        for (tenant, records) in acknowledged where !known.contains(tenant) {
            verdict.owed += records.count
            verdict.lost += records.count
            verdict.fail("tenant \(tenant) is unknown")
        }
        return verdict
    }

    private func check(_ tenant: TenantStatus, held: [UInt64: [UInt8]], _ verdict: inout Verdict) {
        let name = tenant.name
        let cursor = tenant.acknowledgedThrough["crash"] ?? 0
        if cursor < cursors[name] ?? 0 { verdict.fail("\(name)'s cursor went back to \(cursor)") }
        if cursor >= tenant.nextSequence { verdict.fail("\(name)'s cursor is past the log") }
        for (sequence, number) in acknowledged[name] ?? [:] where sequence > cursor {
            verdict.owed += 1
            if held[sequence] == Self.record(number).payload {
                verdict.recovered += 1
            } else {
                verdict.lost += 1
                verdict.fail("\(name)/\(sequence) is \(held[sequence] == nil ? "lost" : "altered")")
            }
        }
        // Of what is acknowledged, some is there and some is not.
        let sequences = held.keys.filter { $0 > cursor }.sorted()
        guard let first = sequences.first, let last = sequences.last else {
            if cursor + 1 < tenant.nextSequence { verdict.fail("\(name) lacks all that is not acknowledged") }
            return
        }
        if sequences.count != Int(last - first) + 1 { verdict.fail("\(name) has a hole") }
        if first > cursor + 1 { verdict.fail("\(name) lacks its oldest records") }
        if last != tenant.nextSequence - 1 { verdict.fail("\(name) ends before its next number") }
    }
}
