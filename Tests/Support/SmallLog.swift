import Foundation
import Logging
import TelemetryWAL
import WALFormat

/// Options that make small files, so that tests reach rotation and recycling with little I/O.
public func smallOptions(fileSize: UInt64 = 1 << 20) -> WriteAheadLogOptions {
    var options = WriteAheadLogOptions()
    options.journalFileSize = fileSize
    options.journalLimit = 256 << 20
    options.writePath = writePathUnderTest
    options.logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    return options
}

/// The write path that tests use: `WAL_TEST_WRITE_PATH`, `automatic` if it is not set. CI runs them on each.
public var writePathUnderTest: WritePath {
    ProcessInfo.processInfo.environment["WAL_TEST_WRITE_PATH"].flatMap(WritePath.init) ?? .automatic
}

/// A record whose payload begins with a number, so that it can be told from all others, and goes on with bytes that
/// compress a little.
public func numberedRecord(_ number: Int, length: Int = 200, kind: RecordKind = .opaque) -> TelemetryRecord {
    var payload = Array("record \(number) ".utf8)
    payload.reserveCapacity(length + 4)
    var value = UInt64(truncatingIfNeeded: number) &* 0x9E37_79B9_7F4A_7C15 | 1
    while payload.count < length {
        value ^= value << 13
        value ^= value >> 7
        value ^= value << 17
        // The digits of one number after another: tests spend much of their time here.
        let rest = Int(value % 1000)
        if rest >= 100 { payload.append(UInt8(48 + rest / 100)) }
        if rest >= 10 { payload.append(UInt8(48 + rest / 10 % 10)) }
        payload.append(UInt8(48 + rest % 10))
        payload.append(UInt8(ascii: ","))
    }
    return TelemetryRecord(kind: kind, timestamp: UInt64(number), payload: Array(payload.prefix(max(length, 1))))
}

/// Everything that a log holds, by tenant, as a fresh read-only view sees it: sequence number and payload.
public func contents(of path: String) throws -> [TenantName: [UInt64: [UInt8]]] {
    let reader = try WriteAheadLogReader(at: path)
    var records = reader.records()
    var found: [TenantName: [UInt64: [UInt8]]] = [:]
    while let batch = try records.next() {
        for record in batch.records {
            precondition(found[batch.tenant]?[record.sequence] == nil, "a record was read twice")
            found[batch.tenant, default: [:]][record.sequence] = Array(record.payload)
        }
    }
    return found
}
