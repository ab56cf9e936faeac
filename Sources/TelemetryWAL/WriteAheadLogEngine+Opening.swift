import Logging
import SystemPackage
import WALFormat
import WALStorage

extension WriteAheadLogEngine {
    /// Opens the log in a storage, creating it where there is none, and recovers what a crash left. Blocks while it
    /// reads the journal. Throws `.storage` (with `.locked` for a second writer), `.notALog`, `.unsupportedFormat`,
    /// `.invalidOption`, and `.damaged` where the device fails to read a journal file's header and no other file is live.
    public static func open(
        storage: Storage, options: WriteAheadLogOptions = WriteAheadLogOptions(),
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> WriteAheadLogEngine {
        try open(storage: storage, options: options, progress: progress) { (_, _) throws(WALError) in }
    }

    /// The same, with something to be done before the shared journal's threads begin.
    ///
    /// `opensOthers`: tenants' own journals are opened as well; without, they are left alone, and nobody may append: the
    /// journal is to be repaired.
    static func open(
        storage: Storage, dedicated: DedicatedRoot? = nil, options: WriteAheadLogOptions, opensOthers: Bool = true,
        progress: (@Sendable (UInt64, UInt64) -> Void)?,
        beforeStart prepare: (LogCore<Storage>, RecoveryReport) throws(WALError) -> Void
    ) throws(WALError) -> WriteAheadLogEngine {
        let options = try options.checked()
        let (core, report) = try openJournal(
            storage: storage, options: options, dedicated: dedicated, mayBeginAnew: !opensOthers, progress: progress
        ) { (core, report) throws(WALError) in
            // Before there are threads that have to end first.
            if opensOthers { _ = try PlacementRoot(storage: storage, format: core.format).table() }
            try prepare(core, report)
        }
        do throws(WALError) {
            let journals = try Journals(
                shared: core, root: PlacementRoot(storage: storage, format: core.format), options: options,
                opensOthers: opensOthers)
            return WriteAheadLogEngine(journals: journals, report: report)
        } catch {
            core.abandon()
            throw error
        }
    }

    /// Opens a journal: the shared one at a log's root, or a tenant's own. `options` are checked. `mayBeginAnew`: also where
    /// the device fails to read all that is there.
    static func openJournal(
        storage: Storage, options: WriteAheadLogOptions, dedicated: DedicatedRoot? = nil,
        mayBeginAnew: Bool = false, progress: (@Sendable (UInt64, UInt64) -> Void)? = nil,
        beforeStart prepare: (LogCore<Storage>, RecoveryReport) throws(WALError) -> Void
    ) throws(WALError) -> (LogCore<Storage>, RecoveryReport) {
        let (format, lock) = try LogRoot(storage: storage, logger: options.logger, dedicated: dedicated)
            .openForWriting()
        let recovered = try Recovery(
            storage: storage, format: format, scope: options.recoveryScope, isForWriter: true, progress: progress
        ).run()
        if let numbers = recovered.exhaustedNumbers {
            throw .unsupportedFormat(
                path: storage.rootDescription, reason: "\(numbers) have come to the format's limit: it can only be read"
            )
        }
        // What cannot be read now may be another time; a journal that was begun anew would have passed over it by then.
        if !mayBeginAnew, recovered.files.isEmpty,
            let unread = recovered.report.findings.first(where: { $0.what == .rangeUnreadable })
        {
            throw .damaged(
                path: storage.rootDescription + "/journal/" + unread.file, offset: 0,
                reason:
                    "the device fails to read its header, and no other file is the log's; try again, or have walctl repair "
                    + "set it aside")
        }
        var options = options
        options.isEncrypted = options.isEncrypted || format.isEncrypted || recovered.report.readEncrypted
        let file: Storage.File?
        do throws(StorageError) {
            for name in try storage.entries(of: "journal") where name.hasSuffix(".tmp") {
                try storage.remove("journal/" + name)
            }
            // A segment's name may be seen and not durable yet, the process before having been killed. What it covers
            // must not leave the journal, nor a merge's outcome stand for what it was made of, before it is.
            try storage.synchronize(directories: recovered.segments.directories)
            // What lies about of a tenant that is being erased is overwritten first.
            let erased = recovered.state.tenants.indices.filter { recovered.state.isBeingErased(tenant: $0) }
                .map { SegmentName.directory(of: recovered.state.tenants[$0].name) + "/" }
            try storage.discard(
                (recovered.leftovers.superseded + recovered.leftovers.temporary).filter { path in
                    !erased.contains { path.hasPrefix($0) }
                })
            file = try recovered.machine.current.map { (current) throws(StorageError) in
                try storage.open("journal/" + current.name, forWriting: true)
            }
            // What is read as the log's end may lie in the device's cache only: durable before it is relied on, and
            // before the next file's header vouches for it.
            #if Simulation
                let skips = DeliberateBug.isActive(.skipSynchronizeAtOpening)
            #else
                let skips = false
            #endif
            if !skips, let last = recovered.files.last {
                let newest = try storage.open("journal/" + last.name, forWriting: true)
                try newest.synchronize()
            }
        } catch { throw .storage(error) }
        let core = LogCore(
            storage: storage, options: options, format: format, recovered: recovered, currentFile: file,
            storageLock: lock, queue: try queue(of: storage, options))
        if core.retention.policies.contains(where: { !$0.causes.isEmpty }), !core.checkpointFits(growingBy: 0) {
            throw .invalidOption(LogCore<Storage>.policiesDoNotFit)
        }
        report(recovered.report, to: options.logger)
        for path in recovered.leftovers.foreign {
            options.logger.error(
                "a segment is another log's, tenant's or range's than its place says: it is left alone",
                metadata: ["file": "\(storage.rootDescription)/\(path)"])
        }
        try prepare(core, recovered.report)
        core.lock.withLock { core.reclaim() }
        core.start()
        core.waitUntilReady()
        return (core, recovered.report)
    }

    /// The queue that commits go through; nil for the plain path.
    private static func queue(of storage: Storage, _ options: WriteAheadLogOptions) throws(WALError) -> Storage.Queue? {
        if options.writePath == .plain || options.commitsUnderWay == 1 { return nil }
        do throws(StorageError) { return try storage.makeWriteQueue(depth: options.commitsUnderWay) } catch {
            if options.writePath == .ring { throw .storage(error) }
            options.logger.debug("no io_uring: commits go the plain path", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    static func report(_ report: RecoveryReport, to logger: Logger) {
        for finding in report.findings {
            logger.log(
                level: finding.what.isLoss ? .error : .warning, "recovery: \(finding.what.rawValue): \(finding.detail)",
                metadata: [
                    "file": "\(finding.file)", "bytes": "\(finding.byteRange)",
                    "recordsLost": "\(finding.recordsLost.map(String.init) ?? "unknown")",
                ])
        }
        if report.tornTailBytes > 0 {
            logger.info(
                "recovery: an unfinished commit at the log's end was dropped; it was never acknowledged",
                metadata: ["file": "\(report.tornTailFile ?? "")", "bytes": "\(report.tornTailBytes)"])
        }
    }
}

extension WriteAheadLogEngine where Storage == DirectStorage {
    /// Opens the log in a directory, creating both where there is none, and recovers what a crash left. Throws like
    /// `open(storage:options:progress:)`. The journal is read on a thread of its own.
    public static func open(
        at path: String, options: WriteAheadLogOptions = WriteAheadLogOptions()
    ) async throws(WALError) -> WriteAheadLog {
        let queue = BlockingQueue(name: "wal-open")
        let result = await queue.run { () -> Result<WriteAheadLog, WALError> in
            do throws(WALError) { return .success(try openBlocking(at: path, options: options)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The same as `open(at:options:)`, blocking the calling thread.
    public static func openBlocking(
        at path: String, options: WriteAheadLogOptions = WriteAheadLogOptions(),
        progress: (@Sendable (UInt64, UInt64) -> Void)? = nil
    ) throws(WALError) -> WriteAheadLog {
        try open(
            storage: DirectStorage(root: FilePath(path), direct: options.directIO), options: options,
            progress: progress)
    }
}
