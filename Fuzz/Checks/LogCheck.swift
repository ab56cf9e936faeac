// Whole logs: what is in segments and what is in the journal, as one. The first byte of an input chooses as for a journal
// (`JournalCheck.swift`), the second and the third say where reading begins, in numbers and in times; the rest is a recipe
// (`LogStep`).

import TelemetryWAL
import WALFormat

extension LogBuilder {
    /// The log that an input describes behind its first bytes.
    init(_ input: [UInt8], behind count: Int, compressor: LZ4FrameCompressor) {
        let blockSize = [4096, 8192, 16384, 32768][Int((input.first ?? 0) >> 2 & 3)]
        self.init(recipe: Array(input.dropFirst(count)), blockSize: blockSize, compressor: compressor)
    }
}

extension FuzzChecker {
    func checkLog(_ input: [UInt8]) throws(FuzzViolation) {
        let log = LogBuilder(input, behind: 3, compressor: compressor)
        let choice = input.first ?? 0
        let storage = log.storage(hasFormat: choice & 16 == 0)
        let (place, time) = (input.dropFirst().first ?? 0, input.dropFirst(2).first ?? 0)
        try checkReading(of: log, in: storage, from: place, time)
        try checkJournal(in: storage, choice, log.journal, forgesSegments: log.forgesSegments)
    }

    /// What is read of a part of a log is what the whole has of that part.
    private func checkReading(
        of log: LogBuilder, in storage: MemoryStorage, from place: UInt8, _ time: UInt8
    ) throws(FuzzViolation) {
        let reader: WriteAheadLogReader<MemoryStorage>
        do throws(WALError) {
            reader = try WriteAheadLogReader(
                storage: storage, scope: .wholeJournal, opensBodies: true, keyProvider: FuzzedKeys())
        } catch {
            try require(log.expected == nil, "a log that nothing was done to can be read: \(error)")
            return
        }
        let whole = try ReadRecords(reader.records(), in: storage)
        if let expected = log.expected {
            try require(whole.records == expected, "what was appended is read, and nothing else")
            try require(!reader.report.hasLoss, "nothing is lost in a log that nothing was done to")
        }
        let check = PartCheck(whole: whole, isForged: log.isForged)
        // Small numbers as they are; larger ones count back from a tenant's last.
        func number(of tenant: TenantName) -> UInt64 {
            let last = whole.records[tenant]?.keys.max() ?? 1
            return place < 128 ? max(1, UInt64(place)) : last &+ 8 &- min(last &+ 7, UInt64(place - 128))
        }
        let lowest = RecordMark.times.lowerBound - 1 + UInt64(time & 63)
        let times = lowest...lowest + UInt64(time >> 6) * 8
        for tenant in JournalBuilder.tenants {
            let first = number(of: tenant)
            try check.check(
                ReadRecords(reader.records(of: tenant, from: first), in: storage), of: [tenant]
            ) { (sequence: UInt64, _: StoredRecord) in sequence >= first }
            try check.check(
                ReadRecords(reader.records(of: tenant, from: first, during: times), in: storage), of: [tenant]
            ) { (sequence: UInt64, record: StoredRecord) in sequence >= first && times.contains(record.timestamp) }
        }
        // One of whom the whole has nothing may have something of other times than a frame whose key is not to be had.
        let everybody = Array(Set(whole.records.keys).union(JournalBuilder.tenants))
        try check.check(ReadRecords(reader.records(during: times), in: storage), of: everybody) {
            (_: UInt64, record: StoredRecord) in times.contains(record.timestamp)
        }
        let first = max(1, UInt64(place))
        try check.check(ReadRecords(reader.records(from: first), in: storage), of: everybody) {
            (sequence: UInt64, _: StoredRecord) in sequence >= first
        }
        let nobody = try ReadRecords(reader.records(of: "nobody"), in: storage)
        try require(nobody.records.isEmpty && nobody.damaged.isEmpty, "a tenant that is not known has no record")
    }
}

private struct PartCheck {
    let whole: ReadRecords
    /// What is behind right checksums may contradict itself.
    let isForged: Bool

    /// `isWanted`: what was asked for of these tenants, and of nobody else.
    func check(
        _ part: ReadRecords, of tenants: [TenantName], _ isWanted: (UInt64, StoredRecord) -> Bool
    ) throws(FuzzViolation) {
        try require(Set(part.records.keys).isSubset(of: tenants), "only the tenants asked for are read")
        for tenant in tenants {
            let all = whole.records[tenant] ?? [:]
            let found = part.records[tenant] ?? [:]
            for (sequence, record) in found {
                try require(isWanted(sequence, record), "only what is asked for is read: \(tenant) \(sequence)")
            }
            if isForged || whole.isCutShort || part.isCutShort { continue }
            for (sequence, record) in all where isWanted(sequence, record) {
                try require(found[sequence] == record, "what the whole has a part has: \(tenant) \(sequence)")
            }
            // Behind a record whose key is not to be had, or a place that nothing tells of, the whole may stop earlier.
            guard whole.damaged.isEmpty else { continue }
            for (sequence, record) in found {
                try require(all[sequence] == record, "what a part has the whole has: \(tenant) \(sequence)")
            }
        }
    }
}
