import WALFormat
import WALStorage

/// The overwriting of what the log's directory holds of a tenant that is being erased (`LogCore+Erasure`): file by file, each
/// by what it is at the moment, since files move, leave and are begun meanwhile. What is clean stays clean, for nothing
/// of what goes is written again.
extension LogCore {
    /// Overwrites all that the log's directory holds of a tenant. Holds no lock.
    func overwrite(_ report: inout ErasureReport, isAgain: Bool) throws(StorageError) {
        var scrub = FileScrub<Storage>(
            format: format, tenant: report.tenant, through: report.through, rewritesZeros: isAgain
        ) { [self] in
            lock.withLock { !isStopped }
        }
        try removeSegments(&scrub, &report)
        #if Simulation
            if DeliberateBug.isActive(.eraseMissesJournal) { return }
        #endif
        try overwriteJournal(&scrub, &report)
        try overwriteQuarantine(&scrub, &report)
    }

    // MARK: - Segments

    /// Overwrites and removes the tenant's segments, and whatever else lies in its directories.
    private func removeSegments(
        _ scrub: inout FileScrub<Storage>, _ report: inout ErasureReport
    ) throws(StorageError) {
        let tenant = report.tenant
        // Out of the catalogue first: nobody is to open one, or to remove it otherwise.
        let kept = lock.withLock { () -> Set<String> in
            _ = segments.removeFirst(of: tenant, through: report.through)
            return Set(segments.entries(of: tenant).map(\.name))
        }
        let directory = SegmentName.directory(of: tenant)
        for place in [directory, "quarantine/" + directory] {
            let isKept = { place == directory && kept.contains($0) }
            let names = try names(in: place).filter { !$0.hasSuffix("~") && !isKept($0) }
            var done: [String] = []
            for name in names {
                let path = place + "/" + name
                let file: Storage.File
                do throws(StorageError) {
                    if try isForeignSegment(path, of: tenant) {
                        report.leftAlone.append(path)
                        continue
                    }
                    file = try storage.open(path, forWriting: true)
                } catch {
                    if error.code == .notFound { continue }
                    // A directory that somebody put there.
                    guard error.code == .other else { throw error }
                    report.leftAlone.append(path)
                    continue
                }
                let before = scrub.overwritten
                try scrub.zero(file, 0..<file.size())
                file.discardBlocks(from: 0)
                report.note(path, overwritten: scrub.overwritten - before, isRemoved: true)
                done.append(path)
            }
            // All of them with one sync of the directory. Should it not come to that, there are only zeros left of them. (Of
            // those that were removed before there may be more, and a loss of power may bring them back until then.)
            try storage.discard(done)
            if try storage.exists(place) { try storage.synchronize(directories: [place]) }
        }
        lock.withLock {
            // There is room again, for journal files, too.
            preparerFailure = nil
            preparerWake.signal()
            wakeRoomWaiters()
        }
    }

    /// Names in a directory, which need not be there.
    private func names(in directory: String) throws(StorageError) -> [String] {
        try SegmentCatalog.names(in: directory, storage)
    }

    private func isForeignSegment(_ path: String, of tenant: TenantName) throws(StorageError) -> Bool {
        let summary: SegmentSummary?
        do throws(StorageError) { summary = try SegmentCatalog.summary(path, in: storage, format) } catch {
            // What cannot be read cannot say that it is another's.
            guard error.code == .ioFailure else { throw error }
            summary = nil
        }
        return summary.map { $0.logIdentifier != format.logIdentifier || $0.tenant != tenant } ?? false
    }

    // MARK: - Journal files

    /// What a journal file is at the moment, to a scrub.
    private enum Role {
        /// Takes commits.
        case current
        /// May be spared for a while: it was taken out of the list.
        case spare
        /// Holds commits and takes no more.
        case sealed
        /// Somebody else is at it: the preparer, or a commit that begins it.
        case busy
        /// Nobody's: a copy, another log's, or one that waits to be removed.
        case idle
    }

    private func overwriteJournal(
        _ scrub: inout FileScrub<Storage>, _ report: inout ErasureReport
    ) throws(StorageError) {
        // What is clean stays clean: nothing of what goes is written again.
        var clean: Set<String> = []
        while true {
            let all = try names(in: "journal")
            let names = all.filter { JournalFileName.number(of: $0) != nil && !clean.contains($0) }
            if names.isEmpty {
                let strange = all.filter {
                    JournalFileName.number(of: $0) == nil && !$0.hasSuffix(SegmentName.temporarySuffix)
                }
                report.leftAlone += strange.map { "journal/" + $0 }
                return
            }
            var didAny = false
            for name in names {
                let before = scrub.overwritten
                guard try overwriteJournalFile(name, &scrub, &report) else { continue }
                didAny = true
                clean.insert(name)
                report.note("journal/" + name, overwritten: scrub.overwritten - before)
                // Others' segments that everybody has need not wait for all of it.
                lock.withLock { while !isStopped, removeSegments() {} }
            }
            if !didAny { try waitForOthers() }
        }
    }

    /// Waits until whoever is at a file may be through.
    private func waitForOthers() throws(StorageError) {
        lock.lock()
        defer { lock.unlock() }
        if isStopped || refusal != nil {
            throw StorageError(.other, operation: "overwrite, as the log has ended", path: storage.rootDescription)
        }
        if isPreparing || !retired.isEmpty { hurryPreparer() }
        roomCondition.wait(lock, until: .now + 20_000_000)
    }

    /// Scrubs a journal file if nobody else is at it. Returns whether it is clean.
    private func overwriteJournalFile(
        _ name: String, _ scrub: inout FileScrub<Storage>, _ report: inout ErasureReport
    ) throws(StorageError) -> Bool {
        let (role, promised, keptEnd) = lock.withLock { () -> (Role, FileScrub<Storage>.Life?, UInt64?) in
            let role = self.role(of: name)
            switch role {
            case .spare: takeSpare(name)
            case .sealed, .current, .idle: pinnedFile = name
            case .busy: break
            }
            let live = files.first { $0.name == name }
            return (
                role,
                live.map {
                    .init(epoch: $0.header.epoch, fileSequence: $0.header.fileSequence, end: $0.endOffset)
                }, keptUntilRotation[name]?.endOffset
            )
        }
        if role == .busy { return false }
        defer { lock.withLock { giveBack(name) } }
        let file: Storage.File
        do throws(StorageError) { file = try storage.open("journal/" + name, forWriting: true) } catch {
            // Removed meanwhile.
            if error.code == .notFound { return true }
            throw error
        }
        switch role {
        case .current:
            if let promised, let end = promised.end { try scrub.scrubJournal(file, upTo: end, promised) }
            return try overwriteFreeEnd(of: file, named: name, &scrub)
        default:
            let header = try header(of: file)
            if header?.logIdentifier ?? format.logIdentifier != format.logIdentifier {
                report.leftAlone.append("journal/" + name)
            } else {
                // After a crash a file that left may have to be read again, until the next one is begun.
                let own = header.map { copiedLife($0) ?? life($0, end: keptEnd) }
                try scrub.scrubJournal(file, upTo: file.size(), promised ?? own)
            }
        }
        return true
    }

    /// Under the lock.
    private func role(of name: String) -> Role {
        if let current = machine.current, current.name == name {
            // Nobody need be about to begin it.
            if current.isBegun { return .current }
            return slotsUnderWay.isEmpty && !isEncoding && keptUntilRotation[name] == nil ? .current : .busy
        }
        if files.contains(where: { $0.name == name }) { return .sealed }
        if spares.contains(where: { $0.name == name }) { return .spare }
        let isPreparers = isPreparing || retired.contains { $0.name == name }
        return isPreparers ? .busy : .idle
    }

    /// Takes a spare out of use. Whoever needs one waits. Under the lock.
    private func takeSpare(_ name: String) {
        guard let place = spares.firstIndex(where: { $0.name == name }) else { return }
        heldSpare = spares.remove(at: place)
        admission.spares = regularSpareCount
    }

    /// Gives back what a scrub kept to itself. Under the lock.
    private func giveBack(_ name: String) {
        pinnedFile = nil
        if let spare = heldSpare {
            heldSpare = nil
            addSpare(spare)
        }
        reclaim()
        // It has let both alone, and may have slept over what else there was to do.
        preparerWake.signal()
        wakeRoomWaiters()
    }

    /// The later of a journal file's headers; nil where neither is whole.
    private func header(of file: Storage.File) throws(StorageError) -> JournalFileHeader? {
        try file.journalHeaders(blockSize: format.blockSize).max { $0.fileSequence < $1.fileSequence }
    }

    /// The life that a file's header names.
    private func life(_ header: JournalFileHeader, end: UInt64?) -> FileScrub<Storage>.Life {
        .init(epoch: header.epoch, fileSequence: header.fileSequence, end: end)
    }

    /// The life that a file's header names, if the log has it in a file of another name: who opens the log next takes
    /// either of them.
    private func copiedLife(_ header: JournalFileHeader) -> FileScrub<Storage>.Life? {
        lock.withLock {
            files.first { $0.sequence == header.fileSequence && $0.header.epoch == header.epoch }.map {
                .init(epoch: header.epoch, fileSequence: header.fileSequence, end: $0.endOffset, isCopy: true)
            }
        }
    }

    // MARK: - The present file's free end

    /// Overwrites what stands in the present file behind its last commit: earlier lives of it. Returns false if it is
    /// not the present file any more.
    private func overwriteFreeEnd(
        of file: Storage.File, named name: String, _ scrub: inout FileScrub<Storage>
    ) throws(StorageError) -> Bool {
        lock.lock()
        var top = machine.current?.header.capacity ?? 0
        while let current = machine.current, current.name == name {
            let free = max(current.nextOffset, placedEnd ?? 0)
            var start = max(free, top - min(top, UInt64(FileScrub<Storage>.pieceLength)))
            if start <= free {
                // The last piece: no commit takes its place before it is done.
                closedRange = 0..<current.header.capacity
                while placedEnd != nil { roomCondition.wait(lock) }
                start = machine.current?.nextOffset ?? top
                guard machine.current?.name == name, start < top else {
                    openRange()
                    break
                }
            } else {
                closedRange = start..<top
            }
            lock.unlock()
            var failure: StorageError?
            do throws(StorageError) { try scrub.zero(file, start..<top) } catch { failure = error }
            lock.lock()
            let isLast = closedRange?.lowerBound == 0
            openRange()
            if let failure {
                lock.unlock()
                throw failure
            }
            top = start
            if isLast { break }
        }
        // What was under way when it began has overwritten what stood there when it is durable; else the file is sealed,
        // and looked at again.
        while let current = machine.current, current.name == name, !isStopped,
            files.first(where: { $0.name == name }).map({ $0.endOffset < top }) ?? true
        {
            if slotsUnderWay.isEmpty, !isEncoding { break }
            roomCondition.wait(lock)
        }
        let isClean = machine.current?.name == name && !isStopped
        lock.unlock()
        // What those commits cover comes up again with a loss of power as long as they may go with one.
        if options.durability == .processCrash { try file.synchronize() }
        return isClean
    }

    /// Commits may go anywhere again. Under the lock.
    private func openRange() {
        closedRange = nil
        wakeRoomWaiters()
    }

    // MARK: - What was set aside

    /// Scrubs journal files in quarantine.
    private func overwriteQuarantine(
        _ scrub: inout FileScrub<Storage>, _ report: inout ErasureReport
    ) throws(StorageError) {
        for name in try names(in: "quarantine") where name != SegmentName.root {
            let before = scrub.overwritten
            let path = "quarantine/" + name
            let file: Storage.File
            do throws(StorageError) { file = try storage.open(path, forWriting: true) } catch {
                // A directory that somebody put there.
                if error.code == .notFound || error.code == .other {
                    report.leftAlone.append(path)
                    continue
                }
                throw error
            }
            let header = try header(of: file)
            guard name.contains(JournalFileName.suffix + "."),
                header?.logIdentifier ?? format.logIdentifier == format.logIdentifier
            else {
                report.leftAlone.append(path)
                continue
            }
            let own = header.map { life($0, end: nil) }
            // Without a flush for each commit, one that others vouch for may have been written in parts all the same.
            if options.durability == .processCrash {
                try scrub.scrubJournal(file, upTo: file.size(), own)
            } else {
                try scrub.scrubQuarantined(file, own)
            }
            report.note(path, overwritten: scrub.overwritten - before)
        }
    }

    /// Overwrites a file that is about to be removed: it may hold something of a tenant that is being erased. Holds no
    /// lock.
    func overwriteRemoved(_ name: String) throws(StorageError) {
        guard try storage.exists(name) else { return }
        var scrub = FileScrub<Storage>(format: format, tenant: nil, through: .max, rewritesZeros: true) { [self] in
            lock.withLock { !isStopped }
        }
        let file = try storage.open(name, forWriting: true)
        // Should it not come to the removal, it must still tell what it is.
        let start = UInt64(FormatLimits.headerCopies * format.blockSize)
        let size = try file.size()
        try scrub.zero(file, min(start, size)..<size)
        file.discardBlocks(from: start)
    }
}
