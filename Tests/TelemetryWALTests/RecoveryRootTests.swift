import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What stands around the commits: FORMAT, left-over files, files of no use, the lock.
@Suite struct RecoveryRootTests {
    let directory = TemporaryDirectory()

    private var format: URL { URL(fileURLWithPath: directory.appending("FORMAT")) }

    /// FORMAT, whatever is wrong with it, costs nothing as long as a journal file is there to tell the same.
    @Test(arguments: ["first copy", "second copy", "both copies", "cut", "empty", "missing"])
    func formatIsDamaged(_ damage: String) throws {
        let log = try StandardLog(at: directory.path)
        let identifier = log.files[0].header.logIdentifier
        var bytes = [UInt8](try Data(contentsOf: format))
        if damage == "first copy" || damage == "both copies" { bytes[20] ^= 1 }
        if damage == "second copy" || damage == "both copies" { bytes[4096 + 20] ^= 1 }
        if damage == "cut" { bytes.removeLast(bytes.count - 100) }
        if damage == "empty" { bytes = [] }
        try Data(bytes).write(to: format)
        if damage == "missing" { try FileManager.default.removeItem(at: format) }
        #expect(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal).format.logIdentifier == identifier)
        try checkRecovery(of: directory.path, log.expectation)
        #expect(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal).format.logIdentifier == identifier)
        // The writer puts right what was wrong.
        let healed = [UInt8](try Data(contentsOf: format))
        #expect(try healed.withRawSpan { try RootFormat.decode($0) }.logIdentifier == identifier)
    }

    /// A device that cannot read FORMAT, or the first block of a journal file as well, does not keep the log from
    /// opening: the headers' second copies say the same.
    @Test(arguments: [false, true]) func formatIsUnreadable(_ headersAre: Bool) throws {
        let log = try StandardLog(at: directory.path)
        let identifier = log.files[0].header.logIdentifier
        let plan = FaultPlan()
        plan.setContents { $0 == "FORMAT" }
        if headersAre { plan.setRead { $1.overlaps(0..<1) } }
        let storage = FaultyStorage(at: directory.path, plan: plan)
        let view = try WriteAheadLogReader(storage: storage, scope: .wholeJournal)
        #expect(view.format.logIdentifier == identifier)
        #expect(!view.report.hasLoss, "\(view.report.findings)")
        checkRecords(ReadBack(view), log.expectation.ledger.records)
    }

    /// Where there is no journal file to tell the same, the device's error is what the caller hears.
    @Test func unreadableFormatWithoutJournalIsAnError() throws {
        try openPatiently(at: directory.path).closeBlocking()
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.appending("journal")) {
            try FileManager.default.removeItem(atPath: directory.appending("journal/" + name))
        }
        let plan = FaultPlan()
        plan.setContents { $0 == "FORMAT" }
        #expect { try WriteAheadLogReader(storage: FaultyStorage(at: directory.path, plan: plan)) } throws: {
            if case WALError.storage(let cause) = $0 { cause.code == .ioFailure } else { false }
        }
    }

    /// Where FORMAT is gone, one foreign journal file must not decide which log this is.
    @Test func foreignFileDoesNotReplaceTheFormat() throws {
        let log = try StandardLog(at: directory.path)
        var generator = SplitMix(seed: 3)
        var stranger = try #require(try JournalImage.spares(in: directory.path).first)
        var header = stranger.header
        header.logIdentifier = LogIdentifier(using: &generator)
        stranger.putHeader(header)
        // The first in order of names.
        try FileManager.default.moveItem(
            atPath: log.files[0].path, toPath: directory.appending("journal/000000ff.journal"))
        try Data(stranger.bytes).write(to: URL(fileURLWithPath: log.files[0].path))
        try FileManager.default.removeItem(atPath: stranger.path)
        try FileManager.default.removeItem(at: format)
        // Which is which nobody can tell: both are refused, and nothing is written.
        func isRefusal(_ error: any Error) -> Bool { if case WALError.notALog = error { true } else { false } }
        #expect { try WriteAheadLogReader(at: directory.path, scope: .wholeJournal) } throws: { isRefusal($0) }
        #expect { try openPatiently(at: directory.path) } throws: { isRefusal($0) }
        #expect(!FileManager.default.fileExists(atPath: format.path))
    }

    /// A foreign file is left as it is, byte for byte.
    @Test func foreignFileIsLeftAlone() throws {
        let log = try StandardLog(at: directory.path)
        var stranger = try #require(try JournalImage.spares(in: directory.path).first)
        var generator = SplitMix(seed: 3)
        var header = log.files[0].header
        header.logIdentifier = LogIdentifier(using: &generator)
        stranger.putHeader(header)
        try stranger.save()
        let writer = try openPatiently(at: directory.path)
        for _ in 0..<60 { try writer.appendBlocking(numberedRecord(1, length: 12_000), tenant: "alpha") }
        try writer.closeBlocking()
        #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: stranger.path))) == stranger.bytes)
    }

    /// Files of another version stop the opening; nothing of them is changed.
    @Test func newerFormatIsRefused() throws {
        _ = try StandardLog(at: directory.path, files: 1)
        var bytes = [UInt8](try Data(contentsOf: format))
        for base in [0, 4096] {
            bytes[base + 12] = 99
            let checksum = bytes.withRawSpan { CRC32C.checksum($0.extracting(base + 12..<base + 4096)) }
            for byte in 0..<4 { bytes[base + 8 + byte] = UInt8(truncatingIfNeeded: checksum >> UInt32(8 * byte)) }
        }
        try Data(bytes).write(to: format)
        func isRefusal(_ error: any Error) -> Bool {
            if case WALError.unsupportedFormat = error { true } else { false }
        }
        #expect { try WriteAheadLogReader(at: directory.path, scope: .wholeJournal) } throws: { isRefusal($0) }
        #expect { try openPatiently(at: directory.path) } throws: { isRefusal($0) }
        #expect([UInt8](try Data(contentsOf: format)) == bytes)
    }

    /// Names of files say nothing about their place in the log.
    @Test func filesAreSwapped() throws {
        let log = try StandardLog(at: directory.path)
        let (first, third) = (log.files[0], log.files[2])
        try Data(third.bytes).write(to: URL(fileURLWithPath: first.path))
        try Data(first.bytes).write(to: URL(fileURLWithPath: third.path))
        try checkRecovery(of: directory.path, log.expectation)
    }

    /// A journal file that is empty, cut to its first header, all zeros or noise: what it held is lost, and said.
    @Test(arguments: ["empty", "one block", "zeros", "noise", "ones"]) func wholeFileIsDamaged(_ damage: String) throws
    {
        let log = try StandardLog(at: directory.path)
        var file = log.files[1]
        let lost = Set(file.commits.flatMap(\.records))
        switch damage {
        case "empty": file.bytes = []
        case "one block": file.bytes.removeLast(file.bytes.count - 4096)
        case "zeros": file.zero(0..<file.bytes.count)
        case "ones": file.bytes = [UInt8](repeating: 0xFF, count: file.bytes.count)
        default:
            var generator = SplitMix(seed: 1)
            file.bytes = file.bytes.map { _ in UInt8.random(in: 0...255, using: &generator) }
        }
        try file.save()
        var expected = log.expectation
        expected.lost = lost
        let commits = file.commits[0].header.commitNumber...file.commits.last!.header.commitNumber
        if damage == "one block" {
            expected.cases = [.headerCopyDamaged, .fileTruncated, .commitsDamaged]
            expected.finding = .init(what: .fileTruncated, file: file.name, byteRange: 4096..<256 << 10)
        } else {
            expected.cases = [.headerDestroyed]
            expected.finding = .init(
                what: .fileMissing, file: "(sequence \(file.sequence))", byteRange: 0..<256 << 10, commits: commits)
        }
        expected.allowsFurtherFindings = true
        try checkRecovery(of: directory.path, expected)
    }

    /// Without any file there is no log to lose: a directory with FORMAT alone is an empty log of that name.
    @Test func everythingIsMissing() throws {
        let log = try StandardLog(at: directory.path)
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.appending("journal")) {
            try FileManager.default.removeItem(atPath: directory.appending("journal/" + name))
        }
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        #expect(view.format.logIdentifier == log.files[0].header.logIdentifier)
        #expect(ReadBack(view).records.isEmpty)
        try FileManager.default.removeItem(at: format)
        #expect { try WriteAheadLogReader(at: directory.path, scope: .wholeJournal) } throws: {
            if case WALError.notALog = $0 { true } else { false }
        }
    }

    @Test func leftOversOfAnInterruptedCreationGo() throws {
        let log = try StandardLog(at: directory.path)
        let names = ["journal/00000063.journal.tmp", "journal/alignment-probe.tmp", "FORMAT.tmp"]
        for name in names { try Data(log.files[0].bytes).write(to: URL(fileURLWithPath: directory.appending(name))) }
        try checkRecovery(of: directory.path, log.expectation)
        for name in names.dropLast() {
            #expect(!FileManager.default.fileExists(atPath: directory.appending(name)), "\(name)")
        }
    }

    /// An old backup of a live file beside it: the two are the same life, and the longer one is the log.
    @Test(arguments: ["00000000.journal", "000000ff.journal"]) func oldCopyOfAFileStandsBesideIt(_ name: String) throws
    {
        let log = try StandardLog(at: directory.path, files: 1)
        var old = log.files[0]
        old.zero(old.commits[3].range.lowerBound..<old.bytes.count)
        let other = directory.appending("journal/" + name)
        if name == log.files[0].name {
            // The backup gets the live file's name, and comes first or last in the directory.
            try FileManager.default.moveItem(
                atPath: log.files[0].path, toPath: directory.appending("journal/000000fe.journal"))
        }
        try Data(old.bytes).write(to: URL(fileURLWithPath: other))
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        checkRecords(ReadBack(view), log.ledger.records)
    }

    @Test func secondWriterIsRefused() throws {
        let log = try openPatiently(at: directory.path)
        var ledger = Ledger()
        try ledger.append(to: log, "alpha")
        #expect { try WriteAheadLog.openBlocking(at: directory.path, options: quietOptions()) } throws: {
            guard case WALError.storage(let cause) = $0 else { return false }
            return cause.code == .locked(byProcess: Int(getpid())) && cause.description.contains("\(getpid())")
        }
        // The refused one has changed nothing for the first.
        try ledger.append(to: log, "alpha")
        try log.closeBlocking()
        checkRecords(ReadBack(try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)), ledger.records)
    }

    @Test(.enabled(if: getuid() != 0, "root may do anything")) func directoryWithoutRights() throws {
        _ = try StandardLog(at: directory.path, files: 1)
        try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: directory.appending("journal"))
        defer {
            try? FileManager.default.setAttributes(
                [.posixPermissions: 0o700], ofItemAtPath: directory.appending("journal"))
        }
        #expect { try WriteAheadLogReader(at: directory.path, scope: .wholeJournal) } throws: {
            if case WALError.storage(let cause) = $0 { cause.code == .permissionDenied } else { false }
        }
    }
}
