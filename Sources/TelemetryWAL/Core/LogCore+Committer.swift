import CWALLinux
import WALFormat
import WALStorage

/// The committer's threads: they commit what is staged while nobody else does, and when idle write acknowledgements
/// and the watermark.
extension LogCore {
    @specialized(where Storage == DirectStorage)
    func runCommitter() {
        cwal_sharpen_timers()
        lock.lock()
        defer { lock.unlock() }
        while true {
            if let queue { takeEndedWrites(queue) }
            tellEndedGroups()
            if isStopped {
                // Memory that the device reads from must not go before it has.
                guard let queue, queuedWrites > 0 else { return }
                wait(for: queue)
            } else if shouldBeginCommit, beginCommit() {
                continue
            } else if let queue, queuedWrites > 0 {
                wait(for: queue)
            } else if slotsUnderWay.isEmpty, !isEncoding, refusal == nil,
                hasStagedGroups || (!fewAppend && MonotonicTime.now < gatherDeadline)
            {
                // Appenders call only when a group has gathered: it is this thread that knows when time is up.
                doze(until: gatherDeadline)
            } else if isEncoding || !slotsUnderWay.isEmpty || turnsToRepeat.isEmpty == false {
                // Others are at work, and call when they are through.
                doze(until: .now + idleTime)
            } else if wantsRotation, refusal == nil {
                wantsRotation = false
                rotateIfThatFreesAFile()
            } else if wantsDrops, refusal == nil {
                wantsDrops = false
                if hasPendingControl, !controlIsBlocked, !isClosing {
                    commitControl()
                } else {
                    wakeRoomWaiters()
                }
            } else if hasIdleWork {
                if MonotonicTime.now.since(lastActivity) >= idleTime {
                    commitControl()
                    bufferPool.trim(to: Self.keptStagingBytes)
                } else {
                    doze(until: lastActivity + idleTime)
                }
            } else {
                // Until it is called; or until counts of refused records have waited for long enough.
                dozesWithoutEnd = true
                doze(until: refusalDeadline)
                dozesWithoutEnd = false
            }
        }
    }

    private var idleTime: UInt64 { UInt64(options.idleMilliseconds) * 1_000_000 }
    /// Bytes of staging memory that an idle log keeps.
    private static var keptStagingBytes: Int { 8 << 20 }

    /// Encodes the next group and has it written. Returns whether anything was done.
    private func beginCommit() -> Bool {
        switch encodeNextGroup() {
        case .encoded(let slot):
            if let queue { submit(slot, to: queue) } else { writeHere(slot) }
            return true
        case .failed, .postponed: return true
        case .mustDrain: return false
        }
    }

    private func submit(_ slot: CommitSlot, to queue: Storage.Queue) {
        guard let file = currentFile else { preconditionFailure("no current file") }
        queuedWrites += 1
        lock.unlock()
        queue.submit(
            slot.buffer, length: slot.length, to: file, at: slot.offset, durability: options.durability, tag: slot.tag)
        #if Simulation
            if DeliberateBug.isActive(.reuseBufferInFlight) { slot.buffer.withMutableBytes { $0.zero(0..<64) } }
        #endif
        lock.lock()
    }

    private func takeEndedWrites(_ queue: Storage.Queue) {
        while queuedWrites > 0, let (tag, result) = queue.next() {
            queuedWrites -= 1
            guard let slot = slotsUnderWay.first(where: { $0.tag == tag }) else {
                preconditionFailure("a write ended that is not under way")
            }
            end(slot, slot.beginsFile ? checked(slot, result) : result)
        }
    }

    /// A write that begins a file counts when it could be read back. Under the lock, which is given up meanwhile:
    /// nothing else is under way beside such a write.
    private func checked(_ slot: CommitSlot, _ result: Result<Void, StorageError>) -> Result<Void, StorageError> {
        guard case .success = result, let file = currentFile else { return result }
        lock.unlock()
        defer { lock.lock() }
        do throws(StorageError) { return .success(try readBack(slot, from: file)) } catch { return .failure(error) }
    }

    private func wait(for queue: Storage.Queue) {
        committerIsCalled = false
        waitsForQueue = true
        lock.unlock()
        queue.wait()
        lock.lock()
        waitsForQueue = false
    }

    private func doze(until deadline: MonotonicTime?) {
        committerIsCalled = false
        dozingCommitters += 1
        if let deadline { committerWake.wait(lock, until: deadline) } else { committerWake.wait(lock) }
        dozingCommitters -= 1
    }

    /// Whether something is to be written once the log has been idle for a while.
    private var hasIdleWork: Bool {
        guard refusal == nil, !controlIsBlocked, !isClosing else { return false }
        if needsWatermark || !pendingSubscribers.isEmpty || !pendingErasures.isEmpty || refusalsAreDue
            || retention.unwritten.contains(where: { $0.cause != .newest })
        {
            return true
        }
        // While no file can be made, room goes to acknowledgements that were asked to be written, or that free some.
        return !pendingCursors.isEmpty && (preparerFailure == nil || acknowledgementsFreeAFile)
    }

    private var acknowledgementsFreeAFile: Bool {
        var turn = Turn()
        turn.control = pendingCursors.map {
            .cursor(
                subscriber: $0.key.subscriber, tenant: state.tenants[$0.key.tenantIndex].name,
                acknowledgedThrough: $0.value)
        }
        turn.control += retention.unwrittenRecords(in: state) + erasureRecords(pendingErasures)
        return freesAFile(turn)
    }
}
