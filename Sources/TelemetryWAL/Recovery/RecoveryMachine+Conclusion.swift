import WALFormat

/// What only the whole log shows: losses that are none, numbers that must not be given again, where the log goes on.
extension RecoveryMachine {
    /// Concludes after the last file: settles what only the whole shows, and says where the log goes on.
    mutating func finish(
        segments: SegmentCatalog, leftovers: SegmentCatalog.Leftovers, nextFileNumber: UInt64
    ) -> RecoveredLog {
        for tenant in segments.tenants.keys.sorted() {
            state.setSegmented(tenant, through: segments.coveredThrough(tenant))
        }
        excuseErasedFrames(by: state)
        guardSequenceNumbers()
        // A subscriber that came after the last checkpoint is known by one record, which damage may have swallowed.
        let mayLackSubscribers =
            !files.isEmpty && (!knowsState || report.findings.dropFirst(lossStart).contains { $0.what.isLoss })
        excuseDeliveredFiles()
        report.liveFiles = files.count
        var reusable = chain.reusable
        var current: CommitterMachine.CurrentFile?
        if let last = files.last {
            if last.endOffset == last.header.commitsStart, last.damage.isEmpty, !last.holdsLoss {
                // Its first write was torn: the file is no part of the log.
                files.removeLast()
                reusable.append(ReusableFile(name: last.name, size: last.header.capacity))
                report.liveFiles -= 1
            } else if isClean {
                current = CommitterMachine.CurrentFile(
                    name: last.name, header: last.header, nextOffset: last.endOffset, isBegun: true)
            }
        }
        let lastCommit = expectedCommit - 1
        previous.lastCommit = lastCommit
        if let last = files.last, last.sequence == previous.fileSequence { previous.endOffset = last.endOffset }
        let machine = CommitterMachine(
            current: current, lastCommit: lastCommit, lastChecksum: previous.lastChecksum,
            recordsBefore: recordsSoFar, previous: previous, lastFileSequence: chain.highestSequence)
        return RecoveredLog(
            state: state, segments: segments, leftovers: leftovers, files: files, reusable: reusable,
            nextFileNumber: nextFileNumber, lastCommit: lastCommit,
            durableThrough: durableThrough, machine: machine,
            mayLackSubscribers: mayLackSubscribers,
            missing: missingEpochs, report: report)
    }

    /// Of the files whose loss is told, the epochs.
    private var missingEpochs: [UInt64: UInt64] {
        let told = Set(report.findings.lazy.filter { $0.what == .fileMissing }.map(\.fileSequence))
        return Dictionary(
            chain.missing.filter { told.contains($0.sequence) }.map { ($0.sequence, $0.epoch) }, uniquingKeysWith: max)
    }

    /// Whether nobody is promised anything that stood before a file, but what segments hold.
    private func isSettled(before index: Int) -> Bool {
        guard index < files.count, !state.cursors.isEmpty || state.hasSegments || state.hasDrops else { return false }
        return state.tenants.indices.allSatisfy { tenant in
            let next = files[index...].lazy.compactMap { $0.extents[tenant]?.firstSequence }.first
            return state.settledThrough(tenant: tenant) + 1 >= next ?? state.tenants[tenant].nextSequence
        }
    }

    /// What is missing or damaged and was delivered to everyone, or is in segments, is no loss: a file that was being used again when the
    /// power went, for one. Where its new life's commits show that, it does not matter who subscribes now.
    private mutating func excuseDeliveredFiles() {
        for (sequence, _, before) in chain.missing where isSettled(before: before) {
            excuse(sequence, as: .fileMissingDelivered) { $0 == .fileMissing }
        }
        let accepted = files.filter(\.hasAcceptedCommit)
        for index in files.indices where files[index].holdsLoss {
            let sequence = files[index].sequence
            let isBegunAnew = files[index].latestLife.isTornBeginning(
                in: sequence, of: accepted, newest: accepted.last?.sequence)
            guard isBegunAnew || isSettled(before: index + 1) else { continue }
            // What shows that it had left the log stands in the file: no evidence of damage, and to stay where it is until
            // the next header, which does without it.
            if isBegunAnew { (files[index].holdsLoss, files[index].isSuspect) = (false, true) }
            excuse(sequence, as: .damagedDelivered) { $0.isLoss && $0 != .fileMissing }
            files[index].excusedFrames = damagedFrames[sequence] ?? []
        }
    }

    /// Frames whose records were erased may fail their checks: they were overwritten, or are half way through.
    mutating func excuseErasedFrames(by state: LogState) {
        guard state.tenants.contains(where: { $0.erasedThrough > 0 }) else { return }
        var kept: [RecoveryReport.Finding] = []
        var excusedBefore = 0
        for (index, finding) in report.findings.enumerated() {
            guard let bodies = damagedFrames[finding.fileSequence], bodies.contains(finding.byteRange),
                !finding.losses.isEmpty,
                finding.losses.allSatisfy({ $0.sequences.upperBound <= state.erasedThrough(of: $0.tenant) })
            else {
                kept.append(finding)
                continue
            }
            if index < lossStart { excusedBefore += 1 }
            report.cases[finding.what, default: 1] -= 1
            report.count(.frameErased)
            for index in files.indices where files[index].sequence == finding.fileSequence {
                files[index].excusedFrames.append(finding.byteRange)
            }
        }
        guard kept.count < report.findings.count else { return }
        report.findings = kept
        lossStart -= excusedBefore
        openDamage = nil
        for index in files.indices where damagedFrames[files[index].sequence] != nil {
            let sequence = files[index].sequence
            files[index].holdsLoss = kept.contains {
                $0.fileSequence == sequence && $0.what.isLoss && ![.fileMissing, .sequenceGap].contains($0.what)
            }
        }
    }

    private mutating func excuse(_ sequence: UInt64, as what: RecoveryCase, _ matches: (RecoveryCase) -> Bool) {
        for finding in report.findings where finding.fileSequence == sequence && matches(finding.what) {
            report.cases[finding.what, default: 1] -= 1
            report.count(what)
        }
        report.findings.removeAll { $0.fileSequence == sequence && matches($0.what) }
    }

    static func told(_ finding: RecoveryReport.Finding) -> UInt64 {
        finding.losses.reduce(0) { $0.addingSaturated(UInt64($1.sequences.count)) }
    }

    /// Where records were lost whose tenants nothing tells, any tenant's last numbers may be among them. They must
    /// not be given again: a subscriber's cursor may already be past them. So all tenants' numbers skip as many; and
    /// where not even tenants or counts are known, they go on behind the highest number that can have been given.
    private mutating func guardSequenceNumbers() {
        var unknown: UInt64 = 0
        var isCountKnown = (knowsState && !lacksCheckpoint) || files.isEmpty
        for finding in report.findings.dropFirst(lossStart) where finding.what.isLoss {
            guard let lost = finding.recordsLost else {
                isCountKnown = isCountKnown && finding.what == .sequenceGap
                continue
            }
            unknown = unknown.addingSaturated(lost - min(lost, Self.told(finding)))
        }
        // No tenant has more records than the log, and each has begun at the floor or below. No next number is below the
        // floor: so where that is lost, the highest of them will do. What cannot be read may be records that nobody
        // counted: a byte of an LZ4 frame stands for at most 255 bytes of them, and each takes at least 16.
        let uncounted = unknownBytes * 16
        let floor = state.tenants.reduce(state.sequenceFloor) { max($0, $1.nextSequence) }
        let highest = floor.addingSaturated(recordsSoFar).addingSaturated(uncounted)
        if !isCountKnown {
            state.raiseSequenceFloor(to: highest)
        } else if unknown > 0 {
            state.raiseSequenceFloor(to: state.sequenceFloor.addingSaturated(unknown))
        }
        for (index, tenant) in state.tenants.enumerated() {
            let cursor = state.cursors.keys.map { state.acknowledgedThrough($0, tenant: index) }.max() ?? 0
            let skipped = isCountKnown ? tenant.nextSequence + unknown : max(tenant.nextSequence, highest)
            state.setNextSequence(max(skipped, cursor + 1, tenant.droppedThrough + 1), at: index)
        }
    }
}

extension UInt64 {
    /// The sum, or the highest number that the format allows: what is summed may come from hostile bytes.
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflows) = addingReportingOverflow(other)
        return overflows ? FormatLimits.maximumNumber : Swift.min(sum, FormatLimits.maximumNumber)
    }
}
