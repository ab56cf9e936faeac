import Foundation
import TestSupport
import Testing
import WALFormat

@testable import TelemetryWAL

/// Cases that concern whole journal files.
extension RecoveryScenario {
    static let files: [RecoveryScenario] = [
        RecoveryScenario(.headerIntact) { try StandardLog(at: $0).expectation },
        RecoveryScenario(.headerCopyDamaged) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            file.flip(bit: 3, at: 100)
            try file.save()
            var expected = log.expectation
            expected.finding = .init(what: .headerCopyDamaged, file: file.name, byteRange: 0..<8192)
            return expected
        },
        RecoveryScenario(.headerLost) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            file.zero(0..<8192)
            try file.save()
            var expected = log.expectation
            expected.finding = .init(what: .headerLost, file: file.name, byteRange: 0..<8192)
            return expected
        },
        RecoveryScenario(.headerDestroyed) { path in
            let log = try StandardLog(at: path)
            var spare = try JournalImage.spares(in: path)[0]
            spare.zero(0..<8192)
            try spare.save()
            var expected = log.expectation
            // It was a spare, but nothing tells: that is said, and the file left alone.
            expected.finding = .init(what: .headerDestroyed, file: spare.name, byteRange: 0..<spare.bytes.count)
            return expected
        },
        RecoveryScenario(.fileAbandoned, abandonedFile),
        RecoveryScenario(.fileSpare) { try StandardLog(at: $0).expectation },
        RecoveryScenario(.fileForeign) { path in
            let log = try StandardLog(at: path)
            var spare = try JournalImage.spares(in: path)[0]
            var header = log.files[0].header
            var generator = SystemRandomNumberGenerator()
            header.logIdentifier = LogIdentifier(using: &generator)
            spare.putHeader(header)
            try spare.save()
            var expected = log.expectation
            expected.finding = .init(what: .fileForeign, file: spare.name, byteRange: 0..<spare.bytes.count)
            return expected
        },
        RecoveryScenario(.fileDuplicated) { path in
            let log = try StandardLog(at: path)
            // An old copy of a file, as a careless restore leaves it beside the original.
            var copy = log.files[1].bytes
            copy.replaceSubrange(
                log.files[1].commits[3].range.lowerBound..<copy.count,
                with: [UInt8](repeating: 0, count: copy.count - log.files[1].commits[3].range.lowerBound))
            try Data(copy).write(to: URL(fileURLWithPath: path + "/journal/000000ff.journal"))
            var expected = log.expectation
            expected.finding = .init(what: .fileDuplicated, file: "000000ff.journal", byteRange: 0..<copy.count)
            return expected
        },
        RecoveryScenario(.fileMissing) { path in
            let log = try StandardLog(at: path)
            let file = log.files[1]
            try FileManager.default.removeItem(atPath: file.path)
            var expected = log.expectation
            expected.lost = Set(file.commits.flatMap(\.records))
            expected.finding = .init(
                what: .fileMissing, file: "(sequence \(file.sequence))", byteRange: 0..<file.bytes.count,
                commits: file.commits[0].header.commitNumber...file.commits.last!.header.commitNumber)
            return expected
        },
        RecoveryScenario(.fileMissingDelivered, deliveredFileMissing),
        RecoveryScenario(.damagedDelivered, deliveredFileDamaged),
        RecoveryScenario(.frameErased, tenantErased),
        RecoveryScenario(.fileTruncated) { path in
            let log = try StandardLog(at: path)
            var file = log.files[1]
            let cut = file.commits[7]
            let whole = file.bytes.count
            file.bytes.removeLast(whole - cut.range.lowerBound)
            try file.save()
            var expected = log.expectation
            expected.lost = Set(file.commits[7...].flatMap(\.records))
            expected.finding = .init(
                what: .fileTruncated, file: file.name, byteRange: cut.range.lowerBound..<whole)
            expected.cases = [.commitsDamaged]
            expected.allowsFurtherFindings = true
            return expected
        },
    ]

    /// The first write of a new life left its header and nothing else; the writer after it took another spare.
    @Sendable private static func abandonedFile(_ path: String) throws -> RecoveryExpectation {
        var log = try StandardLog(at: path, files: 1)
        let last = log.files[0]
        // The spare that is taken up last, so that the next writer leaves it as it is.
        var spare = try JournalImage.spares(in: path).last!
        var header = last.header
        let end = last.commits.last!
        header.epoch = 77
        header.fileSequence = 2
        header.firstCommit = end.header.commitNumber + 1
        header.recordsBefore = UInt64(log.ledger.records.count)
        header.previous = .init(
            fileSequence: 1, epoch: last.header.epoch, endOffset: UInt64(end.range.upperBound),
            lastCommit: end.header.commitNumber, lastChecksum: end.header.checksum)
        spare.putHeader(header)
        try spare.save()
        let writer = try openPatiently(at: path)
        #expect(writer.recoveryReport.findings.isEmpty)
        try log.ledger.append(to: writer, "alpha")
        try writer.closeBlocking()
        return log.expectation
    }

    /// The oldest file was delivered and waits to be used again: the newest header still names it.
    private static func deliverOldestFile(of log: inout StandardLog, at path: String) throws {
        let writer = try openPatiently(at: path)
        for record in log.files[0].commits.flatMap(\.records) {
            writer.acknowledge(through: record.sequence, of: record.tenant, subscriber: "collector")
            log.cursors[record.tenant] = max(log.cursors[record.tenant] ?? 0, record.sequence)
        }
        try writer.closeBlocking()
    }

    /// It was being removed when the power went.
    @Sendable private static func deliveredFileMissing(_ path: String) throws -> RecoveryExpectation {
        var log = try StandardLog(at: path)
        try deliverOldestFile(of: &log, at: path)
        try FileManager.default.removeItem(atPath: log.files[0].path)
        var expected = log.expectation
        expected.delivered = log.cursors
        return expected
    }

    /// Bodies were overwritten, and what says so is there.
    @Sendable private static func tenantErased(_ path: String) throws -> RecoveryExpectation {
        let log = try StandardLog(at: path)
        let writer = try openPatiently(at: path)
        try writer.eraseBlocking("gamma")
        try writer.closeBlocking()
        var expected = log.expectation
        expected.lost = log.ledger.names.filter { $0.tenant == "gamma" }
        return expected
    }

    /// A commit in it has rotted since: nobody will ask for it.
    @Sendable private static func deliveredFileDamaged(_ path: String) throws -> RecoveryExpectation {
        var log = try StandardLog(at: path)
        try deliverOldestFile(of: &log, at: path)
        var file = log.files[0]
        file.zero(file.commits[4].range)
        try file.save()
        var expected = log.expectation
        expected.delivered = log.cursors
        return expected
    }
}
