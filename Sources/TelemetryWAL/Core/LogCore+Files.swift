import Logging
import WALFormat
import WALStorage

extension LogCore {
    /// Spares beyond this number are removed: a burst must not keep its disk space for good.
    private var spareLimit: Int { options.spareFiles + 2 }

    /// Whether a file may leave the log. Under the lock.
    func mayLeave(_ file: LiveFile) -> Bool {
        !mayLackSubscribers && file.isSettled(in: state)
    }

    /// Takes files out of the log, oldest first, whose records every subscriber has or segments hold, and hands them
    /// to the preparer. Under the lock. A reader that is in one finds out.
    func reclaim() {
        var freed = false
        while files.count > 1, mayLeave(files[0]), files[0].name != pinnedFile {
            if files[0].holdsLoss {
                // It stays in the log until it is set aside: after a crash it might be taken for a spare otherwise.
                if isSealedBy(files[0]) {
                    wantsRotation = true
                    wakeCommitter()
                } else {
                    setAside(&files[0])
                }
                break
            }
            let file = files.removeFirst()
            keptUntilRotation[file.name] = (file.sequence, file.endOffset)
            retired.append(
                RetiredFile(
                    name: file.name, fate: file.isSuspect ? .removal : .reuse, length: file.header.capacity))
            freed = true
        }
        guard freed else { return }
        if preparerFailure != nil { filesAreWaitedFor = true }
        preparerFailure = nil
        controlIsBlocked = false
        preparerWake.signal()
        committerWake.signal()
    }

    /// Whether the present header still counts a file as live of which a damaged one says where it ends, and the next
    /// header can come first. Without its seal, what a failed write left behind that end would be taken for the log's,
    /// and the numbers in it with it. Where too few files are free for the next header, room comes first. Under the lock.
    private func isSealedBy(_ file: LiveFile) -> Bool {
        (regularSpareCount >= 2 || preparerHasWork) && keptUntilRotation.values.contains { $0.sequence < file.sequence }
    }

    /// Whether the oldest file waits for the next header. Under the lock.
    private var isHeldBack: Bool {
        !isClosing && files.count > 1 && files[0].holdsLoss && mayLeave(files[0]) && isSealedBy(files[0])
    }

    /// The log is being closed: the next writer need not know of the damage, so that a file that was held back is set
    /// aside now, behind a header of its own if there can be one. Returns whether there was one. Under the lock, which is
    /// given up meanwhile; nothing is under way.
    func setAsideHeldBack() -> Bool {
        guard refusal == nil, files.count > 1, files[0].holdsLoss, mayLeave(files[0]), !files[0].isBeingSetAside,
            isSealedBy(files[0])
        else { return false }
        // Without a free file for a header, or where that fails, as it is.
        if regularSpareCount < 2 || (try? commitControl(freshFile: true).get()) == nil { setAside(&files[0]) }
        while hasFilesToSetAside {
            hurryPreparer()
            roomCondition.wait(lock)
        }
        return true
    }

    /// Whether damaged files wait to be moved to quarantine. Under the lock.
    var hasFilesToSetAside: Bool { retired.contains { if case .quarantine = $0.fate { true } else { false } } }

    private func setAside(_ file: inout LiveFile) {
        guard !file.isBeingSetAside, MonotonicTime.now > setAsideAgain else { return }
        file.isBeingSetAside = true
        let name = "\(file.name).\(file.sequence)-\(String(file.header.epoch, radix: 16))"
        retired.append(RetiredFile(name: file.name, fate: .quarantine(as: name), length: 0))
        preparerWake.signal()
    }

    /// A write to the current file failed: it is never written again in this life. Under the lock.
    func abandonCurrentFile(begun: Bool) {
        guard let (name, capacity) = machine.current.map({ ($0.name, $0.header.capacity) }) else { return }
        sealedFile = begun ? currentFile : sealedFile
        if begun, let index = files.indices.last, files[index].name == name {
            files[index].isSuspect = true
        } else {
            beginningLength = 0
            retired.append(RetiredFile(name: name, fate: .removal, length: capacity))
        }
        currentFile = nil
        admission.offset = Int(options.journalFileSize)
        preparerWake.signal()
    }

    /// Where appends are refused for want of a file, moves on to a spare if that frees one. Under the lock, in nobody's
    /// role.
    func rotateIfThatFreesAFile() {
        if let last = files.last, files.count == 1, !spares.isEmpty, !last.extents.isEmpty, mayLeave(last), !isClosing {
            commitControl(freshFile: true)
        } else if rotationMakesRoom || (isHeldBack && regularSpareCount >= 2) {
            commitControl(freshFile: true)
        } else {
            wakeRoomWaiters()
        }
    }

    // MARK: - The preparer's thread

    /// Makes files ready ahead of need: takes up those that were delivered, makes new ones, removes what is too many.
    /// Holds no lock while it does.
    func runPreparer() {
        lock.lock()
        defer { lock.unlock() }
        while !isStopped {
            if let place = retired.firstIndex(where: { $0.name != pinnedFile }) {
                takeUpRetiredFile(at: place)
            } else if !isHeldUp, regularSpareCount < options.spareFiles, preparerFailure == nil {
                makeFile()
            } else if !isHeldUp, preparerFailure != nil, regularSpareCount < options.spareFiles {
                // The disk may have room again by then.
                preparerWake.wait(lock, until: .now + 1_000_000_000)
                if retired.isEmpty, !isHeldUp, regularSpareCount < options.spareFiles, !isStopped {
                    makeFile()
                }
            } else {
                if !isHeldUp { preparerFailure = nil }
                preparerWake.wait(lock)
            }
        }
    }

    private func takeUpRetiredFile(at place: Int) {
        var file = retired.remove(at: place)
        if file.fate == .reuse, !isWantedAsSpare(file.length) { file.fate = .removal }
        // Removed before a header that no longer counts it is on disk, a file would look lost.
        if file.fate == .removal, keptUntilRotation[file.name] != nil {
            retiredLater.append(file)
            return
        }
        if case .quarantine = file.fate {
            // Since it was asked for, a subscriber may have come.
            guard let index = files.firstIndex(where: { $0.name == file.name }), mayLeave(files[index]) else {
                for index in files.indices where files[index].name == file.name {
                    files[index].isBeingSetAside = false
                }
                wakeRoomWaiters()
                return
            }
            leavingFile = file.name
        }
        defer { leavingFile = nil }
        isPreparing = true
        let overwrites = erasesAnybody
        var overwriteFailure: StorageError?
        lock.unlock()
        var opened: Storage.File?
        var failure: StorageError?
        do throws(StorageError) {
            let name = "journal/" + file.name
            switch file.fate {
            case .removal:
                // A device that cannot write it gives its blocks back all the same.
                if overwrites {
                    do throws(StorageError) { try overwriteRemoved(name) } catch { overwriteFailure = error }
                }
                // When the log is closed, it is left to the next writer, who goes on with the erasure.
                if overwriteFailure == nil || !lock.withLock({ isStopped }) { try storage.remove(name) }
            case .quarantine(let target): try storage.move(name, to: "quarantine/" + target)
            case .reuse:
                let candidate = try storage.open(name, forWriting: true)
                // Not one that somebody has cut or grown.
                if try candidate.size() == file.length { opened = candidate }
            }
        } catch { failure = error }
        lock.lock()
        isPreparing = false
        if let opened {
            addSpare(SpareFile(name: file.name, file: opened, capacity: file.length))
        } else if file.fate == .reuse {
            file.fate = .removal
            retired.append(file)
        } else if case .quarantine(let target) = file.fate, failure == nil || failure?.code == .notFound {
            files.removeAll { $0.name == file.name }
            // There is room again.
            (preparerFailure, setAsideFailure, controlIsBlocked) = (nil, nil, false)
            logLater(
                .warning, "a damaged file whose readable records are delivered was set aside",
                ["file": "\(storage.rootDescription)/quarantine/\(target)"])
            reclaim()
        } else if file.fate == .removal, failure == nil {
            // There is room again.
            preparerFailure = nil
        } else if case .quarantine = file.fate {
            for index in files.indices where files[index].name == file.name { files[index].isBeingSetAside = false }
            setAsideFailure = failure
            setAsideAgain = .now + 1_000_000_000
        }
        if let overwriteFailure, !isStopped {
            removedUnwritten.append("journal/" + file.name)
            logLater(
                .warning, "a file was removed and could not be overwritten before, while a tenant is being erased",
                ["error": "\(overwriteFailure)"])
        }
        if let failure { logLater(.warning, "a file that left the log stays where it is", ["error": "\(failure)"]) }
        // Who still waits says so again.
        filesAreWaitedFor = false
        wakeRoomWaiters()
    }

    /// Whether a file of so many bytes that has left the log is kept for use. One of another size is, as long as there
    /// are too few of the right one: there may be no room for any.
    private func isWantedAsSpare(_ length: UInt64) -> Bool {
        if length == options.journalFileSize { return regularSpareCount < spareLimit }
        let isPossible =
            length >= FormatLimits.minimumJournalFileSize && length <= FormatLimits.maximumJournalFileSize
            && length.isMultiple(of: UInt64(format.blockSize))
        return isPossible && regularSpareCount < options.spareFiles && spares.count < options.spareFiles
    }

    func addSpare(_ spare: SpareFile) {
        spares.append(spare)
        // Who still waits says so again.
        filesAreWaitedFor = false
        admission.spares = regularSpareCount
        controlIsBlocked = false
        if isHeldBack, regularSpareCount >= 2 { wantsRotation = true }
        committerWake.signal()
        if regularSpareCount >= options.spareFiles {
            preparerFailure = nil
            while let index = spares.firstIndex(where: { $0.capacity != options.journalFileSize }) {
                retireSpare(at: index)
            }
        }
        wakeRoomWaiters()
    }

    private func retireSpare(at index: Int) {
        let spare = spares.remove(at: index)
        retired.append(RetiredFile(name: spare.name, fate: .removal, length: spare.capacity))
    }

    /// Gives up a spare of another size that takes the room of one of the right size. Returns whether there was one.
    private func giveUpLargerSpare() -> Bool {
        let index = spares.firstIndex {
            $0.capacity > options.journalFileSize && keptUntilRotation[$0.name] == nil
                && journalLength - $0.capacity + options.journalFileSize <= options.journalLimit
        }
        if let index { retireSpare(at: index) }
        return index != nil
    }

    /// Bytes of all journal files, those in the making included. Under the lock.
    private var journalLength: UInt64 {
        files.reduce(0) { $0 + $1.header.capacity } + beginningLength + (heldSpare?.capacity ?? 0)
            + spares.reduce(0) { $0 + $1.capacity }
            + (retired + retiredLater).reduce(0) { $0 + $1.length }
    }

    private func makeFile() {
        guard journalLength + options.journalFileSize <= options.journalLimit else {
            preparerLacksDisk = false
            refusePreparation(.journalFull(reason: "journalLimit of \(options.journalLimit) bytes is reached"))
            return
        }
        let name = JournalFileName.name(number: nextFileNumber)
        nextFileNumber += 1
        isPreparing = true
        lock.unlock()
        var made: Storage.File?
        var failure: StorageError?
        let shortage = shortageOfSpace(for: options.journalFileSize)
        if shortage == nil {
            do throws(StorageError) {
                var pace = PreparerPace(at: .now, written: lock.withLock { statistics.bytesWritten })
                made = try Self.makeSpare(name, in: storage, format: format, size: options.journalFileSize) {
                    restFromPreparing(&pace, filled: $0)
                }
            } catch { failure = error }
        }
        lock.lock()
        isPreparing = false
        preparerLacksDisk = failure?.code == .noSpace
        if case .journalFull? = shortage { preparerLacksDisk = true }
        if let shortage { refusePreparation(shortage) }
        if let made {
            addSpare(SpareFile(name: name, file: made, capacity: options.journalFileSize))
        } else if let failure {
            refusePreparation(failure.code == .noSpace ? .journalFull(reason: "\(failure)") : .storage(failure))
        }
    }

    /// Rests for a moment, if nobody waits for the file that is being made and those that there are will last. The
    /// preparer's thread, without the lock.
    private func restFromPreparing(_ pace: inout PreparerPace, filled: UInt64) {
        lock.lock()
        defer { lock.unlock() }
        let size = options.journalFileSize
        let left = machine.current.map { $0.header.capacity - $0.nextOffset } ?? 0
        let further = UInt64(max(0, options.spareFiles - regularSpareCount - 1)) * size
        let rest = pace.rest(
            at: .now, written: statistics.bytesWritten, filled: filled,
            missing: size - min(size, filled) + further,
            // The last one is not given to appends.
            room: left + UInt64(max(1, regularSpareCount) - 1) * size)
        let isWaitedFor =
            filesAreWaitedFor || !roomWaiters.isEmpty || machine.current == nil || isStopped || isClosing || isPressed
        // Whoever comes to wait for it ends the rest.
        if rest > 0, !isWaitedFor { preparerWake.wait(lock, until: .now + rest) }
        pace.resume(at: .now)
    }

    private func refusePreparation(_ error: WALError) {
        if case .journalFull = error, giveUpLargerSpare() { return }
        if preparerFailure == nil { logLater(.warning, "no journal file could be made ready", ["error": "\(error)"]) }
        preparerFailure = error
        // One that was held back may be what keeps others.
        reclaim()
        wakeCompactor()
        if rotationMakesRoom {
            wantsRotation = true
            wakeCommitter()
        }
        wakeRoomWaiters()
    }

    /// A new file of zeros with the header of a spare.
    static func makeSpare(
        _ name: String, in storage: Storage, format: RootFormat, size: UInt64,
        pause: (_ filled: UInt64) -> Void = { _ in }
    ) throws(StorageError) -> Storage.File {
        var generator = KernelRandomness()
        let header = JournalFileHeader(
            logIdentifier: format.logIdentifier, epoch: UInt64.random(in: 1 ... .max, using: &generator),
            fileSequence: 0, capacity: size,
            blockSize: format.blockSize, created: wallClockNanoseconds(), firstCommit: 0, oldestLiveFileSequence: 0,
            previous: .init(), recordsBefore: 0, sequenceFloor: 0)
        let length = FormatLimits.headerCopies * format.blockSize
        let buffer = AlignedBuffer(capacity: length, alignment: max(4096, format.blockSize))
        buffer.withMutableBytes { header.encode(into: &$0, at: 0) }
        return try storage.create("journal/" + name, size: size, pause: pause) { (file) throws(StorageError) in
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
        let digits = name.dropLast(suffix.count)
        // `UInt64.init` takes a sign, too.
        guard name.hasSuffix(suffix), digits.allSatisfy(\.isHexDigit), let number = UInt64(digits, radix: 16) else {
            return nil
        }
        return number < limit ? number : nil
    }

    private static let limit: UInt64 = 1 << 48
    /// More files than a log makes before it is opened again.
    private static let room: UInt64 = 1 << 32

    /// The number of the next file: one more than the highest there is. Should somebody have put a file at the end of
    /// all numbers, one more than the highest with room behind it: a number at the limit would be none.
    static func next(behind numbers: some Sequence<UInt64>) -> UInt64 {
        var end = limit
        for number in numbers.sorted(by: >) {
            if end - number > room { return number + 1 }
            end = number
        }
        return 0
    }
}
