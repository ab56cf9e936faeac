import Logging
import WALFormat
import WALStorage

/// What a repair does that the log does not do by itself. `LogRepair` has the order.
extension LogCore {
    /// Moves files that are no part of the log to quarantine, and writes damaged segments anew. Before the log's threads
    /// begin, so that nobody reads or changes segments meanwhile. Throws `.storage`, `.unsupportedFormat`; what was done
    /// until then stays done.
    func prepareRepair(found: RecoveryReport, _ report: inout RepairReport) throws(WALError) {
        lock.withLock {
            givesUpLosses = true
            markDamagedFiles(found)
        }
        let strays = Set(self.found(found).steps.filter { $0.action == .setAside }.map(\.path))
        for step in report.plan.steps {
            switch step.action {
            case .rewriteFormat:
                do throws(StorageError) { try storage.replace("FORMAT", with: format.encoded()) } catch {
                    throw .storage(error)
                }
            // What the device failed to read once may be read now, and is no stray then.
            case .setAside: if strays.contains(step.path) { try setAsideJournalFile(step.path, &report) }
            case .moveToSegments, .rewriteSegment, .giveUp: break
            }
        }
        for segment in report.plan.segments { try rewrite(segment, &report) }
    }

    /// What recovery's findings ask a repair for.
    func found(_ report: RecoveryReport) -> RepairPlan {
        let live = lock.withLock { Set(files.map(\.name)) }
        var plan = RepairPlan()
        for finding in report.findings { plan.add(finding, isInLog: live.contains(finding.file)) }
        return plan
    }

    /// Has what recovery found lost in files before one, or in files that are missing there, stated in the tenants' next
    /// segments. What is in none of a tenant's files shows in no other way.
    func stateLosses(before sequence: UInt64, in partition: SegmentPartition<Storage>) {
        for (fileSequence, losses) in recoveredLosses where fileSequence < sequence {
            for loss in losses {
                let bounds = lock.withLock { () -> SegmentPartition<Storage>.Bounds? in
                    guard let index = state.index(of: loss.tenant) else { return nil }
                    return .init(
                        acknowledged: state.releasedThrough(tenant: index),
                        covered: state.tenants[index].segmentedThrough)
                }
                if let bounds { partition.lose([loss.sequences], of: loss.tenant, bounds) }
            }
        }
    }

    /// Has the files in which something was found leave for quarantine, once what can be read of them has moved, and those
    /// stay in which or before which something was lost, until that is stated. Under the lock.
    private func markDamagedFiles(_ report: RecoveryReport) {
        let live = Set(files.map(\.name))
        let damaged = Set(report.findings.lazy.map(\.file).filter(live.contains))
        for index in files.indices where damaged.contains(files[index].name) { files[index].holdsLoss = true }
        for (fileSequence, losses) in recoveredLosses {
            let isStated = losses.allSatisfy { loss in
                state.index(of: loss.tenant).map { loss.sequences.upperBound <= state.settledThrough(tenant: $0) }
                    ?? true
            }
            if !isStated, let index = files.firstIndex(where: { $0.sequence >= fileSequence }) {
                files[index].hasLossesToState = true
            }
        }
    }

    /// A file of the journal's directory that is no part of the log; it may wait to be used again.
    private func setAsideJournalFile(_ path: String, _ report: inout RepairReport) throws(WALError) {
        let name = String(path.split(separator: "/").last ?? "")
        let isUsed = lock.withLock { () -> Bool in
            if files.contains(where: { $0.name == name }) || machine.current?.name == name { return true }
            retired.removeAll { $0.name == name }
            return false
        }
        if !isUsed { try setAsideStray(path, &report) }
    }

    private func setAsideStray(_ path: String, _ report: inout RepairReport) throws(WALError) {
        do throws(StorageError) {
            guard try storage.exists(path) else { return }
            let target = try storage.freeName(inQuarantineFor: path)
            try storage.move(path, to: target)
            logger.warning("repair: set aside", metadata: ["file": "\(path)", "now": "\(target)"])
            report.setAside.append(target)
        } catch { throw .storage(error) }
    }

    /// Whether a segment covers no more than what is erased of its tenant, or may have records of it.
    private func holdsErased(_ entry: SegmentCatalog.Entry, of tenant: TenantName) throws(WALError) -> Bool {
        let through = decidedErasure(of: tenant)
        if entry.covered.lowerBound > through { return false }
        if entry.covered.upperBound <= through { return true }
        let file = try SegmentFile<Storage>.readable { () throws(WALError) in
            try SegmentFile(entry.name, of: tenant, in: storage, format: format, keys: FrameKeys(options.keyProvider))
        }
        return file?.index.frames.contains { $0.firstSequence <= through } ?? true
    }

    private func rewrite(_ segment: SegmentStatus, _ report: inout RepairReport) throws(WALError) {
        let entries = segments.entries(of: segment.tenant)
        guard let entry = entries.first(where: { $0.covered == segment.covered }) else {
            // It names another log, tenant or range, and is no part of this one.
            return try setAsideStray(segment.path, &report)
        }
        // What goes is overwritten where it is.
        if isBeingErased(segment.tenant), try holdsErased(entry, of: segment.tenant) { return }
        // A copy, and the new one.
        if let shortage = shortageOfSpace(for: entry.length.addingSaturated(entry.length)) { throw shortage }
        let acknowledged = mayLackSubscribers ? 0 : state.index(of: segment.tenant).map(state.releasedThrough) ?? 0
        let salvage = SegmentSalvage(
            storage: storage, format: format, tenant: segment.tenant, acknowledged: acknowledged,
            created: wallClockNanoseconds())
        let outcome = try salvage.run(entry) { report.setAside.append($0) }
        segments.replace([entry], of: segment.tenant, with: outcome.entries)
        report.segmentsRewritten += 1
        report.recordsGivenUp += outcome.recordsGivenUp
        logger.warning(
            "repair: a segment was written anew",
            metadata: ["file": "\(segment.path)", "recordsGivenUp": "\(outcome.recordsGivenUp)"])
    }

    /// Has the journal files up to one move into segments, damage given up, and what held any leave for quarantine; then
    /// begins a fresh file, whose header no longer counts them. Throws like `compact`.
    func moveForRepair(through damaged: UInt64) throws(WALError) {
        // What a file that is missing held is stated with what stands behind it.
        let lastFile = lock.withLock { files.first { $0.sequence >= damaged }?.sequence ?? damaged }
        lock.withLock { setAsideFailure = nil }
        // What the newest one holds moves when another is begun. Where there is no file for that, what is before it makes
        // room.
        if lock.withLock({ files.last.map { $0.sequence <= lastFile } ?? false }) {
            do throws(WALError) {
                try lock.withLock { () throws(WALError) in try beginFreshFile() }
            } catch {
                guard case .journalFull = error else { throw error }
                try compactPatiently(through: lastFile)
                try lock.withLock { () throws(WALError) in
                    reclaim()
                    try beginFreshFile()
                }
            }
        }
        try compactPatiently(through: lastFile)
        lock.lock()
        defer { lock.unlock() }
        // Each header comes after what it no longer counts, and before what waits for that: as often as one lets another
        // file go.
        func isLeaving(_ file: LiveFile) -> Bool { file.holdsLoss && mayLeave(file) && file.name != pinnedFile }
        // A damaged file may be gone by the time that the header which still counts it is on disk.
        func countsWhatHasLeft(_ newest: JournalFileHeader) -> Bool {
            newest.oldestLiveFileSequence <= damaged && files[0].sequence > damaged
        }
        func isAnyLeft() -> Bool {
            hasFilesToSetAside || leavingFile != nil || files.first.map(isLeaving) ?? false
                || files.last.map { countsWhatHasLeft($0.header) } ?? false
        }
        var rounds = 2 * files.count + 2
        repeat {
            reclaim()
            while leavingFile != nil || hasFilesToSetAside {
                hurryPreparer()
                roomCondition.wait(lock)
            }
            if let setAsideFailure { throw .storage(setAsideFailure) }
            try beginFreshFile()
            rounds -= 1
        } while rounds > 0 && isAnyLeft()
        if isAnyLeft() { logLater(.warning, "repair: damaged files have not left the journal; run it again", [:]) }
    }

    /// What the device fails to read is given up when it has failed often enough, file by file.
    private func compactPatiently(through lastFile: UInt64) throws(WALError) {
        var attempts = lock.withLock { files.count } * (Self.mostUnreadableAttempts + 1)
        while true {
            do throws(WALError) { return try compact(through: lastFile) } catch {
                attempts -= 1
                guard case .damaged = error, attempts > 0 else { throw error }
            }
        }
    }

    /// Waits until no commit is under way and so many files are free for the next ones, as far as any can be made ready.
    /// Throws where what is under way waits for a file that cannot be. Under the lock.
    func waitUntilNothingIsUnderWay(spares: Int) throws(WALError) {
        while isEncoding || !slotsUnderWay.isEmpty || !turnsToRepeat.isEmpty
            || (regularSpareCount < spares && preparerHasWork)
        {
            if let refusal { throw refusal }
            // One that found no room tries again by itself from time to time.
            if preparerHasWork {
                hurryPreparer()
            } else if let preparerFailure, !turnsToRepeat.isEmpty, regularSpareCount == 0 {
                throw preparerFailure
            }
            roomCondition.wait(lock)
        }
        if let refusal { throw refusal }
    }

    /// Goes on in a fresh journal file. Under the lock.
    func beginFreshFile() throws(WALError) {
        try waitUntilNothingIsUnderWay(spares: 1)
        guard !spares.isEmpty else { throw preparerFailure ?? .journalFull(reason: "no journal file is free") }
        try commitControl(freshFile: true).get()
    }
}
