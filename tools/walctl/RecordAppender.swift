import Foundation
import OTLPProtocol
import TelemetryWAL
import WALFormat

/// Takes records from a parser into a log, and keeps the account: what became durable, how fast, what was refused.
struct RecordAppender {
    private let log: WriteAheadLog
    private let everyone: TenantName?
    private let tenantAttribute: String
    private let batch: Int
    private let printsReceipts: Bool

    private var waiting: [OTLPRecord] = []
    private var waitingTenant: TenantName?
    private var tenants: Set<TenantName> = []
    private var latencies: [UInt64] = []
    private var appended = 0
    private var bytes = 0
    /// Records that the log did not take.
    private(set) var refused = 0
    private static var complaintLimit: Int { 10 }

    init(log: WriteAheadLog, tenant: TenantName?, tenantAttribute: String, batch: Int, receipts: Bool) {
        self.log = log
        everyone = tenant
        self.tenantAttribute = tenantAttribute
        self.batch = batch
        printsReceipts = receipts
    }

    /// Reads an input to its end. What precedes a fault in it is appended before the fault is thrown.
    mutating func read(_ input: InputFile, parser: OTLPInputParser) throws(CommandFailure) {
        var parser = parser
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = try input.read(&buffer)
            let records: [OTLPRecord]
            do throws(OTLPInputError) {
                records = count == 0 ? try parser.finish() : try parser.append(buffer[..<count])
            } catch {
                for record in error.completedRecords { try take(record) }
                try flush()
                throw CommandFailure("\(input.name): \(error)", .findings)
            }
            for record in records { try take(record) }
            if count == 0 { break }
        }
        try flush()
    }

    private mutating func take(_ record: OTLPRecord) throws(CommandFailure) {
        let name: TenantName
        if let everyone {
            name = everyone
        } else {
            guard let text = record.tenant else {
                refuse("a record names no tenant by \(tenantAttribute); give --tenant or --tenant-attribute")
                return
            }
            do throws(TenantNameError) { name = try TenantName(text) } catch {
                refuse("\(tenantAttribute): \(error)")
                return
            }
        }
        if waiting.count >= batch || (waitingTenant != nil && waitingTenant != name) { try flush() }
        waitingTenant = name
        waiting.append(record)
    }

    private mutating func refuse(_ reason: String, count: Int = 1) {
        refused += count
        if refused <= Self.complaintLimit { Terminal.complain(reason) }
    }

    /// Makes what waits durable.
    private mutating func flush() throws(CommandFailure) {
        guard let tenant = waitingTenant, !waiting.isEmpty else { return }
        let records = waiting
        waiting = []
        do throws(WALError) {
            try append(records, tenant: tenant)
        } catch {
            switch error {
            case .batchTooLarge where records.count > 1:
                // A batch is a convenience of ours: its records go one by one.
                for record in records { try appendOne(record, tenant: tenant) }
            case .recordTooLarge where records.count > 1:
                for record in records { try appendOne(record, tenant: tenant) }
            case .recordTooLarge, .tooManyTenants: refuse("tenant \(tenant): \(error)")
            case .dropped, .keyUnavailable, .journalUnavailable: refuse("\(error)", count: records.count)
            default: throw CommandFailure(error)
            }
        }
    }

    private mutating func appendOne(_ record: OTLPRecord, tenant: TenantName) throws(CommandFailure) {
        do throws(WALError) { try append([record], tenant: tenant) } catch {
            switch error {
            case .recordTooLarge: refuse("tenant \(tenant): \(error)")
            case .dropped, .keyUnavailable, .journalUnavailable: refuse("\(error)")
            default: throw CommandFailure(error)
            }
        }
    }

    private mutating func append(_ records: [OTLPRecord], tenant: TenantName) throws(WALError) {
        let start = ContinuousClock.now
        let sequences: ClosedRange<UInt64>
        if records.count == 1 {
            let receipt = try log.appendBlocking(TelemetryRecord(records[0]), tenant: tenant)
            sequences = receipt.sequence...receipt.sequence
        } else {
            sequences = try log.appendBlocking(contentsOf: records.map(TelemetryRecord.init), tenant: tenant).sequences
        }
        let nanoseconds = UInt64((ContinuousClock.now - start) / .nanoseconds(1))
        latencies.append(nanoseconds)
        tenants.insert(tenant)
        appended += records.count
        for record in records { bytes += record.payload.count }
        if printsReceipts { printReceipt(records, tenant: tenant, sequences: sequences, nanoseconds: nanoseconds) }
    }

    private struct ReceiptLine: Encodable {
        var tenant: String
        var first: UInt64
        var last: UInt64
        var ids: [String]
        var microseconds: Double
    }

    private func printReceipt(
        _ records: [OTLPRecord], tenant: TenantName, sequences: ClosedRange<UInt64>, nanoseconds: UInt64
    ) {
        let line = ReceiptLine(
            tenant: tenant.description, first: sequences.lowerBound, last: sequences.upperBound,
            ids: records.compactMap(\.identifier), microseconds: Double(nanoseconds / 100) / 10)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard var text = try? encoder.encode(line) else { return }
        text.append(UInt8(ascii: "\n"))
        // Past stdio's buffer: a receipt that is printed must be seen even if the process dies next.
        FileHandle.standardOutput.write(text)
    }

    /// Says on standard error what was done.
    func printSummary() {
        if refused > Self.complaintLimit {
            Terminal.complain("and \(refused - Self.complaintLimit) more records were refused")
        }
        var text = "appended \(appended) records of \(tenants.count) tenants, \(bytes) bytes"
        let sorted = latencies.sorted()
        if !sorted.isEmpty {
            let p50 = sorted[sorted.count / 2] / 1000
            let p99 = sorted[min(sorted.count - 1, sorted.count * 99 / 100)] / 1000
            text += "; durable after p50 \(p50) µs, p99 \(p99) µs"
        }
        if refused > 0 { text += "; refused \(refused)" }
        Terminal.write(text + "\n")
    }
}

extension TelemetryRecord {
    init(_ record: OTLPRecord) {
        self.init(kind: record.kind, timestamp: record.timestamp, payload: record.payload)
    }
}
