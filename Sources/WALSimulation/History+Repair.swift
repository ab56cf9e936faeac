import TelemetryWAL

/// A repair before the log is opened, under the same faults and ends as all else.
extension History {
    /// In the log's process. What could be read before must be read after, as ever: the next look says so. Here: that a
    /// repair to which nothing happened leaves nothing to be done, and that there is none where nothing was spoiled.
    func repair() {
        let faults = kernel.plan
        var options = logOptions
        options.segmentLimit = max(options.segmentLimit, 1 << 20)
        // Where the journal is at its limit there may be no file to go on in: told, and no failure.
        if repairs?.chance(oneIn: 2) ?? false { options.journalLimit = 64 << 20 }
        do throws(WALError) {
            let report = try LogRepair(at: Self.root, options: options).run(
                forgetsSubscribers: subscriberNames.isEmpty)
            kernel.note(
                "repaired: \(report.plan.steps.map { "\($0.action) \($0.path)" }), left \(report.remaining.steps)")
            if kernel.process.isDead { return noteUnfinished() }
            judge.noteMediaFaults()
            note(report.plan)
            let wasDisturbed = FaultKind.allCases.contains {
                $0 != .slowWrite && kernel.plan.happened($0) > faults.happened($0)
            }
            if wasDisturbed { return }
            if !report.plan.isEmpty, !judge.mediaFaults, !readsFail, kernel.plan.happened(.staleFile) == 0 {
                judge.fail("a repair finds what nobody spoiled: \(report.plan.steps)")
            }
            if !report.remaining.isEmpty, !report.mayLackSubscribers, !readsFail {
                judge.fail("a repair leaves \(report.remaining.steps)")
            }
        } catch {
            kernel.note("repair: \(error)")
            noteUnfinished()
            if kernel.process.isDead { return }
            let isExcused = FaultKind.allCases.contains {
                $0 != .slowWrite && kernel.plan.happened($0) > faults.happened($0)
            }
            if case .journalFull = error { return }
            if case .keyUnavailable(let tenant, _, _) = error, wereKeysAway(tenant, since: .max) { return }
            if !isExcused { judge.fail("a repair fails: \(error)") }
        }
    }

    /// What was given up before it ended was told by a plan that nobody keeps.
    private func noteUnfinished() {
        judge.noteMediaFaults()
        if judge.mediaFaults { (judge.repairHasTold, judge.mayHaveSkipped) = (true, true) }
    }

    /// The device fails to read some of what stands there, each time.
    private var readsFail: Bool { kernel.plan.happened(.unreadableSector) > 0 || kernel.plan.happened(.readError) > 0 }

    private func note(_ plan: RepairPlan) {
        judge.mayHaveSkipped = judge.mayHaveSkipped || !plan.isEmpty
        let isUnnamed = plan.steps.contains { $0.unnamedRecords > 0 || $0.action == .giveUp || $0.action == .setAside }
        judge.repairHasTold = judge.repairHasTold || isUnnamed
    }
}
