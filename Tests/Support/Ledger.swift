import Foundation
import TelemetryWAL
import WALFormat
import WALStorage

/// A record as the log names it.
public struct RecordName: Hashable, Sendable, CustomStringConvertible {
    public var tenant: TenantName
    public var sequence: UInt64

    public init(_ tenant: TenantName, _ sequence: UInt64) {
        self.tenant = tenant
        self.sequence = sequence
    }

    public var description: String { "\(tenant)/\(sequence)" }

    /// Users' records of a frame.
    public static func all(of frame: LocatedFrame) -> [RecordName] {
        guard let tenant = frame.header.tenant else { return [] }
        return (frame.header.firstSequence...frame.header.lastSequence).map { RecordName(tenant, $0) }
    }
}

public typealias FaultyLog = WriteAheadLogEngine<FaultyStorage>

/// What a test appended and got a receipt for: what the log owes it.
public struct Ledger: Sendable {
    public private(set) var records: [RecordName: [UInt8]] = [:]
    private var nextNumber = 1

    public init() {}

    public var names: Set<RecordName> { Set(records.keys) }

    /// Appends records in one commit and notes them.
    @discardableResult
    public mutating func append(
        to log: WriteAheadLogEngine<some JournalStorage>, _ tenant: TenantName, count: Int = 4, length: Int = 1500
    ) throws -> [RecordName] {
        let batch = (nextNumber..<nextNumber + count).map { numberedRecord($0, length: length) }
        nextNumber += count
        let receipt = try log.appendBlocking(contentsOf: batch, tenant: tenant)
        let names = receipt.sequences.map { RecordName(tenant, $0) }
        for (name, record) in zip(names, batch) {
            precondition(records[name] == nil, "sequence number given twice: \(name)")
            records[name] = record.payload
        }
        return names
    }

    /// Takes records that something other than `append` put into the log.
    public mutating func note(_ name: RecordName, _ payload: [UInt8]) { records[name] = payload }

    public mutating func forget(_ names: some Sequence<RecordName>) { for name in names { records[name] = nil } }

    /// The highest sequence number acknowledged, by tenant.
    public var highest: [TenantName: UInt64] {
        records.keys.reduce(into: [:]) { $0[$1.tenant] = max($0[$1.tenant] ?? 0, $1.sequence) }
    }
}

/// All that a view of a log reads, and what went wrong on the way.
public struct ReadBack {
    public var records: [RecordName: [UInt8]] = [:]
    public var duplicates: [RecordName] = []
    public var damaged: [String] = []
    public var failures: [String] = []

    public init(_ reader: WriteAheadLogReader<some JournalStorage>) {
        var stored = reader.records()
        // A reader that fails at one place for ever must not hang the test.
        while failures.count < 64 {
            do {
                guard let batch = try stored.next() else { return }
                for record in batch.records {
                    let name = RecordName(batch.tenant, record.sequence)
                    if records.updateValue(Array(record.payload), forKey: name) != nil { duplicates.append(name) }
                }
            } catch WALError.damaged(let path, let offset, let reason) {
                damaged.append("\(path) \(offset): \(reason)")
            } catch {
                failures.append("\(error)")
            }
        }
    }
}

/// Options under which a log's layout on disk depends on the test alone: no commit is written for being idle.
public func quietOptions(fileSize: UInt64 = 256 << 10) -> WriteAheadLogOptions {
    var options = smallOptions(fileSize: fileSize)
    options.idleMilliseconds = 3_600_000
    // Tests of recovery want all damage told at once.
    options.recoveryScope = .wholeJournal
    return options
}

/// Opens a log, waiting for the threads of one that was let go just before.
public func openPatiently(
    at path: String, options: WriteAheadLogOptions = quietOptions(), plan: FaultPlan = FaultPlan()
) throws -> FaultyLog {
    let deadline = endOfPatience()
    while true {
        do { return try FaultyLog.open(storage: FaultyStorage(at: path, plan: plan), options: options) } catch {
            guard case .storage(let cause) = error, case .locked = cause.code, Date() < deadline else { throw error }
            Thread.sleep(forTimeInterval: 0.002)
        }
    }
}

/// Waits until a log that was let go has no writer any more.
public func waitForNoWriter(at path: String) throws {
    let storage = FaultyStorage(at: path)
    try waitUntil { try storage.writer() == .none }
}
