import Foundation
import TestSupport
import WALFormat

@testable import TelemetryWAL

/// What the suites of placement share: one of compaction's tenants has a journal of its own.
protocol PlacementSuite: CompactionSuite {}

extension PlacementSuite {
    var moved: TenantName { "beta/ü" }
    var ownRoot: String { directory.path + "/dedicated/" + moved.pathComponents.joined(separator: "/") }

    /// Files, without directories.
    func files(below root: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: root).filter { path in
            var isDirectory: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: root + "/" + path, isDirectory: &isDirectory)
            return !isDirectory.boolValue
        }
    }

    /// Changes the table of a log that is not open.
    func changeTable(_ change: (inout PlacementTable) -> Void) throws {
        let path = URL(fileURLWithPath: directory.path + "/PLACEMENTS")
        var table = try Array(Data(contentsOf: path)).withRawSpan { try PlacementTable.decode($0) }
        change(&table)
        try Data(table.encoded()).write(to: path)
    }

    /// Appends records of the moved tenant, no piece of which can come about by chance, and notes them.
    func fillWithSecrets(_ log: FaultyLog, _ secrets: inout [[UInt8]], count: Int = 6) throws {
        for _ in 0..<count {
            let payload = (0..<375).flatMap { _ in withUnsafeBytes(of: UInt64.random(in: 0...UInt64.max)) { Array($0) }
            }
            secrets.append(payload)
            try log.appendBlocking(TelemetryRecord(kind: .opaque, payload: payload), tenant: moved)
        }
    }
}
