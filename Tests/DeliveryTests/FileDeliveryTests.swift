import FileExporter
import Foundation
import TelemetryReplay
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

@Suite struct FileDeliveryTests {
    let directory = TemporaryDirectory()

    @Test func cutOffLineOfAnEarlierRunIsReplaced() async throws {
        let path = directory.appending("acme.ndjson")
        try "{\"n\":1}\n{\"n\":2".write(toFile: path, atomically: true, encoding: .utf8)
        let exporter = FileExporter(directory: directory.path)
        let batch = ExportBatch(tenant: "acme", kind: .opaque, records: [.sample])
        guard case .delivered = await exporter.export(batch) else {
            Issue.record("not delivered")
            return
        }
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0] == "{\"n\":1}")
        #expect(lines[1].hasPrefix("{\"opaque\":"))
    }

    @Test func longNamesBecomeNestedDirectories() throws {
        let tenant = try TenantName(String(repeating: "🦖", count: 60))
        let path = FileExporter.path(of: tenant, in: "out")
        #expect(path.split(separator: "/").count > 3)
        #expect(path.split(separator: "/").allSatisfy { $0.utf8.count <= 255 })
    }

    @Test func fullDirectoryIsNoDelivery() async throws {
        let exporter = FileExporter(directory: "/proc/no-such-place")
        let batch = ExportBatch(tenant: "acme", kind: .opaque, records: [.sample])
        guard case .retry(let reason, _) = await exporter.export(batch) else {
            Issue.record("should not be delivered")
            return
        }
        #expect(reason.contains("/proc/no-such-place"))
    }
}
