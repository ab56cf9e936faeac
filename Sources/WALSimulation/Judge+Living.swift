import TelemetryWAL
import WALFormat

/// What a look beside a living writer must show: less than a look at a log that nobody writes, for the last commits
/// may be under way, and files leave the log meanwhile.
extension Judge {
    /// Records that a look begun now must show: owed, and in commits that others vouch for whose writes were done and which
    /// still stand. (One whose write failed may stand on the disk and vouch, but need not be part of the log.)
    func promised() -> [Int] {
        let through = registry.vouchedByWritten
        return attempts.indices.filter { number in
            guard attempts[number].state == .owed, let place = registry.place(of: number), place.isIntact else {
                return false
            }
            return place.commitNumber <= through
        }
    }

    /// Holds what was seen against what was promised when the look began.
    func checkLiving(_ contents: Contents, promised: [Int], tellsLoss: Bool, told: String) {
        noteMediaFaults()
        // Where the disk breaks its word, the writer may not have come upon it yet, and the last look will judge.
        if mediaFaults { return }
        // A stale copy of a file with damage in it stands for it once it is set aside, until a checkpoint does without both.
        let losses = told.split(separator: "; ").filter { !$0.hasPrefix(RecoveryCase.fileDuplicated.rawValue) }
        let isMistaken =
            !losses.isEmpty && losses.allSatisfy { loss in kernel.staleCopies.contains { loss.contains($0) } }
        if tellsLoss, !isMistaken, !isBegunInParts(told) {
            fail("a look beside the writer tells a loss that there is none: \(told)")
        }
        var seen: Set<Int> = []
        for (tenant, records) in contents.sorted(by: { $0.key < $1.key }) {
            let reclaimed = acknowledgedByAll(tenant)
            var last: UInt64 = 0
            for (sequence, number) in records {
                if sequence <= last { fail("beside the writer \(tenant)/\(sequence) is read behind \(last)") }
                // What is dropped meanwhile may leave under the reader.
                if last > 0, !mayDrop(tenant), isGap(from: last, to: sequence, of: tenant, reclaimed: reclaimed) {
                    fail("beside the writer \(tenant)'s records jump from \(last) to \(sequence)")
                }
                last = sequence
                // What a look shows is durable: no crash may take it back.
                delivered(number, sequence: sequence)
                if !seen.insert(number).inserted { fail("beside the writer record \(number) is there twice") }
            }
        }
        for number in promised where !seen.contains(number) {
            let attempt = attempts[number]
            if mayDrop(attempt.tenant) || registry.isForgotten(number) { continue }
            if attempt.sequence.map({ $0 <= acknowledgedByAll(attempt.tenant) }) ?? true { continue }
            fail(
                "beside the writer record \(number) of \(attempt.tenant) (\(attempt.sequence ?? 0)), durable and "
                    + "vouched for, is not read")
        }
    }

    /// Whether losses, with "; " between them, are all in files that were begun in parts, while somebody has come since who
    /// lacks what everybody had: then the log cannot tell that they had left.
    func isBegunInParts(_ told: String) -> Bool {
        let lacksSome = subscribers.values.contains { subscriber in
            subscriber.isRegistered
                && numbersReclaimed.contains { subscriber.acknowledged[$0.key] ?? 0 < $0.value }
        }
        guard lacksSome else { return false }
        let names = registry.namesOfFilesBegunInParts
        let losses = told.split(separator: "; ").filter { !$0.hasPrefix("run walctl verify") }
        return !losses.isEmpty && losses.allSatisfy { loss in names.contains { loss.contains($0) } }
    }

    /// Through which number every subscriber has a tenant's records, so that the writer may take them out.
    private func acknowledgedByAll(_ tenant: TenantName) -> UInt64 {
        let now = subscribers.values.filter { $0.isRegistered && !$0.mayBeGone }
            .map { $0.acknowledged[tenant] ?? 0 }.min()
        return max(now ?? 0, reclaimedThrough(tenant))
    }
}
