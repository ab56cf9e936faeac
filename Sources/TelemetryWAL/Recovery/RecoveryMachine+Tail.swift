import WALFormat

/// Where the log ends in a file: what follows is nothing, torn, or cannot be read, and then nobody can tell.
extension RecoveryMachine {
    /// The log ends here: what follows was never acknowledged. `isFollowed`: the next file says where this one ends.
    mutating func tear(
        from offset: UInt64, _ rest: ArraySlice<ScanEvent>, file: inout LiveFile, unreadable: [Range<UInt64>],
        isFollowed: Bool
    ) -> Bool {
        var end = offset
        for event in rest {
            switch event {
            case .commit(let commit):
                end = max(end, commit.end)
                if commit.header.commitNumber != expectedCommit || commit.isIntact { report.count(.unvouchedCommit) }
            case .headersDamaged(let header): end = max(end, header.offset + UInt64(header.commitLength))
            case .unusable: continue
            }
        }
        // What vouches for it may stand where the device fails.
        if !isFollowed, unreadable.contains(where: { $0.upperBound > offset }) { end = max(end, file.header.capacity) }
        markTorn(&file, offset..<end, unreadable: unreadable)
        return true
    }

    /// Nothing usable follows in the newest file: a clean end, or a header that was torn itself.
    mutating func settleTail(
        _ events: [ScanEvent], file: inout LiveFile, unreadable: [Range<UInt64>]
    ) {
        let tail = file.endOffset
        if unreadable.contains(where: { $0.upperBound > tail }) {
            markTorn(&file, tail..<file.header.capacity, unreadable: unreadable)
            return
        }
        for case .unusable(let range, true) in events where range.upperBound > tail {
            markTorn(&file, tail..<max(tail, range.lowerBound) + UInt64(file.header.blockSize), unreadable: [])
            return
        }
        if isClean { report.count(.cleanEnd) }
    }

    private mutating func markTorn(_ file: inout LiveFile, _ range: Range<UInt64>, unreadable: [Range<UInt64>]) {
        isClean = false
        if let failed = unreadable.first(where: { $0.overlaps(range) }) {
            // Whether an acknowledged commit stood there cannot be told: it is said, not guessed away.
            report.note(
                .rangeUnreadable, file.name, file.sequence, failed,
                "the device fails to read the log's end; acknowledged commits may have stood there")
            file.holdsLoss = true
            unknownBytes += max(range.upperBound, file.header.capacity) - range.lowerBound
            return
        }
        report.count(.tornTail)
        report.tornTailBytes = range.upperBound - range.lowerBound
        report.tornTailFile = file.name
        report.tornTailOffset = range.lowerBound
    }
}
