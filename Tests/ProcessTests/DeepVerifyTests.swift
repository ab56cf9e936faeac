import Foundation
import TelemetryWAL
import TestSupport
import Testing
import WALFormat

/// `walctl verify --deep` on a real log.
@Suite struct DeepVerifyTests {
    private let directory = TemporaryDirectory()

    private struct Summary: Decodable {
        struct Finding: Decodable {
            var what: String
            var isLoss: Bool
            var file: String
            var detail: String
        }
        struct Deep: Decodable {
            var frames: UInt64
            var records: UInt64
            var counts: [String: UInt64]
        }
        var findings: [Finding]
        var deep: Deep?
    }

    private func summary(_ text: String) throws -> Summary {
        try JSONDecoder().decode(Summary.self, from: Data(text.utf8))
    }

    @Test func payloadsThatAreNoTelemetryAreFound() throws {
        let root = directory.appending("wal")
        let sample = projectFolder + "/Tests/Fixtures/agent-spans.delimited"
        #expect(try walctl("append", root, sample).status == 0)
        let sound = try walctl("verify", root, "--deep", "--format", "json")
        #expect(sound.status == 0, "\(sound.output)")
        let (report, plain) = (try summary(sound.output), try walctl("verify", root, "--format", "json"))
        #expect(report.findings.isEmpty && report.deep?.records == 1000 && report.deep?.frames ?? 0 > 40)
        #expect(try summary(plain.output).deep == nil)
        // The library takes any bytes.
        let log = try WriteAheadLog.openBlocking(at: root, options: smallOptions())
        try log.appendBlocking(
            TelemetryRecord(kind: .span, payload: Array("no span at all".utf8)), tenant: "careless\u{1B}[31m")
        try log.closeBlocking()
        #expect(try walctl("verify", root).status == 0, "no byte is damaged")
        let found = try walctl("verify", root, "--deep", "--format", "json")
        #expect(found.status == 1)
        let deep = try summary(found.output)
        #expect(deep.deep?.counts == ["payloadInvalid": 1] && deep.findings.count == 1)
        let finding = try #require(deep.findings.first)
        #expect(finding.what == "payloadInvalid" && !finding.isLoss && finding.file.hasPrefix("journal/"))
        #expect(finding.detail.contains("careless") && finding.detail.contains("records 1 to 1"))
        let table = try walctl("verify", root, "--deep")
        #expect(table.status == 1 && table.output.contains("payloadInvalid") && !table.output.contains("\u{1B}[31m"))
        #expect(table.output.contains("1001 records looked into"))
    }
}
