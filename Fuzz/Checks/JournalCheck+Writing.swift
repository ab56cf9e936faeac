import Logging
import TelemetryWAL
import WALFormat

/// Nobody's records are encrypted, and none that are can be read.
private struct NoKeys: KeyProvider {
    func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { nil }
    func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        throw KeyProviderError("the fuzzer has no keys")
    }
}

extension JournalCheck {
    /// A writer goes on behind whatever was found: what it appends is there when the log is read again, and nothing
    /// that was there is gone.
    func writer(
        scope: RecoveryScope, blockSize: Int, isForged: Bool, _ before: Expectation
    ) throws(FuzzViolation) {
        // A checkpoint is authority: whoever begins there may know less than who reads what is before it.
        let mayKnowLess = before.isRefused || (isForged && scope == .sinceCheckpoint)
        let written = storage.copy()
        var options = WriteAheadLogOptions()
        options.recoveryScope = scope
        options.journalFileSize = UInt64(max(Int(FormatLimits.minimumJournalFileSize), 32 * blockSize))
        options.journalLimit = 1 << 50
        options.writePath = .plain
        options.commitsUnderWay = 1
        // Without, nothing is appended to an encrypted log.
        options.keyProvider = NoKeys()
        options.logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
        let log: WriteAheadLogEngine<MemoryStorage>
        do throws(WALError) { log = try WriteAheadLogEngine.open(storage: written, options: options) } catch {
            var isAtLimit = false
            if case .unsupportedFormat(_, let reason) = error { isAtLimit = reason.contains("the format's limit") }
            // What the device fails to read now may be read another time, and nothing else is the log's.
            var isUnread = false
            if case .damaged(_, _, let reason) = error {
                isUnread = reason.contains("the device fails to read its header") && before.liveFiles == 0
            }
            try require(before.isRefused || isAtLimit || isUnread, "a log that can be read can be opened: \(error)")
            let untouched = storage.files.filter { $0.key != "FORMAT" }
            try require(
                written.files.filter { $0.key != "FORMAT" } == untouched, "a log that is refused is not touched")
            return
        }
        let tenant: TenantName = "fuzz"
        let payload = Array("appended behind it".utf8)
        var receipts: [Receipt] = []
        do throws(WALError) {
            try log.register(subscriber: "fuzz-subscriber")
            for name in before.nextSequences.keys.sorted().prefix(1) + [tenant] {
                receipts.append(try log.appendBlocking(TelemetryRecord(kind: .opaque, payload: payload), tenant: name))
            }
            try log.closeBlocking()
        } catch { throw FuzzViolation(description: "violated: a log that was opened takes an append: \(error)") }
        let check = JournalCheck(
            storage: written, opensBodies: opensBodies, forgesHeaders: forgesHeaders, forgesSegments: forgesSegments)
        // What reading everything refuses a writer that reads since the checkpoint may not have seen: a commit that no
        // reader of this version can open, in a file before the newest.
        guard case .view(let after) = try check.outcome(mayKnowLess ? scope : .wholeJournal) else {
            // Nor need it be seen by the next one, who may have to read more.
            if before.isRefused { return }
            throw FuzzViolation(description: "violated: a log that was written can be read")
        }
        // What was written may be in a file that forged headers deny, its records, its subscribers and the closing mark.
        // A writer passes over a segment that names another tenant or range, where a reader believes the name.
        if forgesHeaders || forgesSegments { return }
        for receipt in receipts {
            // Its tenant's earlier records are in a file that the checkpoint denies: the number is given again.
            if mayKnowLess, receipt.sequence < before.nextSequences[receipt.tenant] ?? 0 { continue }
            try require(
                after.locked.contains(receipt.tenant)
                    || after.records[receipt.tenant]?[receipt.sequence]?.payload == payload,
                "what was acknowledged is there: \(receipt)\n\(after.text)")
            if let next = before.nextSequences[receipt.tenant] {
                try require(receipt.sequence >= next, "no sequence number is given twice")
            }
        }
        try require(after.reader.subscribers.contains("fuzz-subscriber"), "a subscriber that came is there")
        try require(
            after.reader.report.wasClosed, "a log that was closed says so:\n\(before.text)\nbecame\n\(after.text)")
        // With subscribers, what they have acknowledged may leave. Where the headers of two files are lost, and the head
        // of the older one, that one has no place any more once a newer file has a header: it is left alone, and told.
        let isTold = after.reader.report.cases[.headerDestroyed] ?? 0 > before.destroyedFiles
        if mayKnowLess || before.hasSubscribers || isTold { return }
        for (tenant, records) in before.records {
            for (sequence, record) in records {
                try require(
                    after.records[tenant]?[sequence] == record,
                    "what was there is there: record \(sequence)\n\(before.text)\nbecame\n\(after.text)")
            }
        }
    }
}
