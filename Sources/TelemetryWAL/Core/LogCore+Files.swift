import Logging
import WALFormat
import WALStorage

extension LogCore {
    /// Files that readiness asks for and that are neither ready nor on their way.
    var preparerHasWork: Bool {
        !recycled.isEmpty || isPreparing || (spares.count < options.spareFiles && preparerFailure == nil)
    }

    /// Takes files out of the log, oldest first, whose records every subscriber has, and hands them to the preparer
    /// for use again. Under the lock. A file that a reader is in stays.
    func reclaim() {
        var freed = 0
        while files.count > 1, files[0].pins == 0, files[0].isDelivered(in: state) {
            let file = files.removeFirst()
            keptUntilRotation.insert(file.name)
            recycled.append(file.name)
            if !file.isRecyclable { unrecyclable.insert(file.name) }
            freed += 1
        }
        if freed > 0 {
            preparerFailure = nil
            preparerWake.signal()
        }
    }

    /// A write to the current file failed: it is never written again in this life. Under the lock.
    func abandonCurrentFile(begun: Bool) {
        guard let name = machine.current?.name else { return }
        if begun, let index = files.indices.last, files[index].name == name {
            files[index].isRecyclable = false
        } else {
            unrecyclable.insert(name)
            recycled.append(name)
            keptUntilRotation.insert(name)
        }
        currentFile = nil
        preparerWake.signal()
    }

    /// Where appends are refused for want of a file and the present one is delivered, moving on to the last spare
    /// frees it. Under the lock, in nobody's role.
    func rotateIfThatFreesAFile() {
        guard let last = files.last, files.count == 1, !spares.isEmpty, !last.extents.isEmpty,
            last.isDelivered(in: state)
        else { return }
        commitControlHoldingLock(freshFile: true)
        reclaim()
    }

    // MARK: - The preparer's thread

    /// Makes files ready ahead of need: takes up those that were delivered, makes new ones, removes what is too many.
    func runPreparer() {
        lock.lock()
        defer { lock.unlock() }
        while !isStopped {
            if !recycled.isEmpty {
                takeUpRecycledFile()
            } else if spares.count < options.spareFiles, preparerFailure == nil {
                makeFile()
            } else if preparerFailure != nil {
                // The disk may have room again by then.
                preparerWake.wait(lock, until: .now + 1_000_000_000)
                if spares.count < options.spareFiles, recycled.isEmpty, !isStopped { makeFile() }
            } else {
                preparerWake.wait(lock)
            }
        }
    }

    private func takeUpRecycledFile() {
        let name = recycled.removeFirst()
        // Before the header that no longer counts it is on disk, its absence would look like loss.
        let mayRemove = !keptUntilRotation.contains(name)
        let isSuspect = unrecyclable.contains(name)
        let isSurplus = spares.count >= options.spareFiles
        if isSuspect || isSurplus {
            guard mayRemove else {
                recycledLater.append(name)
                return
            }
            isPreparing = true
            lock.unlock()
            do throws(StorageError) { try storage.remove("journal/" + name) } catch {
                logger.warning("a file of no more use could not be removed", metadata: ["error": "\(error)"])
            }
            lock.lock()
            isPreparing = false
            unrecyclable.remove(name)
            return
        }
        isPreparing = true
        lock.unlock()
        var file: Storage.File?
        var failure: StorageError?
        do throws(StorageError) {
            let opened = try storage.open("journal/" + name, forWriting: true)
            // Files of another size than the options ask for now go.
            if try opened.size() == options.journalFileSize { file = opened }
        } catch { failure = error }
        lock.lock()
        isPreparing = false
        if let file {
            spares.append(SpareFile(name: name, file: file))
            admission.spares = spares.count
            wakeRoomWaiters()
        } else {
            if let failure {
                logger.warning("a file could not be taken up again", metadata: ["error": "\(failure)"])
            }
            unrecyclable.insert(name)
            recycledLater.append(name)
        }
    }

    /// Bytes of all journal files, those in the making included. Under the lock.
    private var journalLength: UInt64 {
        let live = files.reduce(0) { $0 + $1.header.capacity }
        return live + UInt64(spares.count + recycled.count + recycledLater.count) * options.journalFileSize
    }

    private func makeFile() {
        guard journalLength + options.journalFileSize <= options.journalLimit else {
            refusePreparation(.journalFull(reason: "journalLimit of \(options.journalLimit) bytes is reached"))
            return
        }
        let name = JournalFileName.name(number: nextFileNumber)
        nextFileNumber += 1
        isPreparing = true
        lock.unlock()
        var made: Storage.File?
        var failure: StorageError?
        do throws(StorageError) {
            made = try Self.makeSpare(name, in: storage, format: format, size: options.journalFileSize)
        } catch { failure = error }
        lock.lock()
        isPreparing = false
        if let made {
            spares.append(SpareFile(name: name, file: made))
            admission.spares = spares.count
            preparerFailure = nil
            wakeRoomWaiters()
        } else if let failure {
            refusePreparation(failure.code == .noSpace ? .journalFull(reason: "\(failure)") : .storage(failure))
        }
    }

    private func refusePreparation(_ error: WALError) {
        if preparerFailure == nil {
            logger.warning("no journal file could be made ready", metadata: ["error": "\(error)"])
        }
        preparerFailure = error
        wakeRoomWaiters()
    }

    /// A new file of zeros with the header of a spare.
    static func makeSpare(
        _ name: String, in storage: Storage, format: RootFormat, size: UInt64
    ) throws(StorageError) -> Storage.File {
        let header = JournalFileHeader(
            logIdentifier: format.logIdentifier, epoch: UInt64.random(in: 1 ... .max), fileSequence: 0, capacity: size,
            blockSize: format.blockSize, created: wallClockNanoseconds(), firstCommit: 0, oldestLiveFileSequence: 0,
            previous: .init(), recordsBefore: 0)
        let length = FormatLimits.headerCopies * format.blockSize
        let buffer = AlignedBuffer(capacity: length, alignment: max(4096, format.blockSize))
        buffer.withMutableBytes { header.encode(into: &$0, at: 0) }
        return try storage.create("journal/" + name, size: size) { (file) throws(StorageError) in
            try file.write(buffer, at: 0, length: length, to: 0, durability: .processCrash)
        }
    }
}

/// Names of journal files. They say nothing about a file's place in the log, which its header does.
enum JournalFileName {
    static let suffix = ".journal"

    static func name(number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + suffix
    }

    /// The number in a name, nil for names that are none of a journal file.
    static func number(of name: String) -> UInt64? {
        guard name.hasSuffix(suffix) else { return nil }
        return UInt64(name.dropLast(suffix.count), radix: 16)
    }
}
