import CWALLinux
import Glibc

/// System calls on files.
extension SimulatedKernel {
    func open(_ path: String, flags: Int32) -> Int {
        scheduler.preempt()
        guard !process.isDead else { return -Int(EIO) }
        let has = { (flag: Int) in Int(flags) & flag != 0 }
        var inode = disk.entries[path]
        if let inode {
            if has(CWAL_OPEN_EXCLUSIVE) { return -Int(EEXIST) }
            if inode.isDirectory, has(CWAL_OPEN_WRITE) { return -Int(EISDIR) }
        } else {
            guard has(CWAL_OPEN_CREATE) else { return -Int(ENOENT) }
            guard disk.entries[SimulatedDisk.parent(of: path)] != nil else { return -Int(ENOENT) }
            guard beginOperation() else { return -Int(EIO) }
            if happens(.noSpace) { return -Int(ENOSPC) }
            inode = disk.make(path, isDirectory: false)
        }
        guard let inode else { return -Int(ENOENT) }
        let number = process.nextFile
        process.nextFile += 1
        process.files[number] = .init(inode: inode, path: path, isDirect: has(CWAL_OPEN_DIRECT))
        note("open \(path) = \(number)")
        return number
    }

    func close(_ number: Int) -> Int {
        guard let file = process.files.removeValue(forKey: number) else { return -Int(EBADF) }
        if file.inode.lockHolder == number, !process.isDead { file.inode.lockHolder = nil }
        return 0
    }

    func exists(_ path: String) -> Int {
        scheduler.preempt()
        if process.isDead { return -Int(EIO) }
        return disk.entries[path] == nil ? 0 : 1
    }

    func freeSpace() -> Int {
        scheduler.preempt()
        return process.isDead ? -Int(EIO) : max(0, disk.capacity - disk.usedBytes)
    }

    func makeDirectory(_ path: String) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        if disk.entries[path] != nil { return -Int(EEXIST) }
        guard disk.entries[SimulatedDisk.parent(of: path)] != nil else { return -Int(ENOENT) }
        if happens(.noSpace) { return -Int(ENOSPC) }
        _ = disk.make(path, isDirectory: true)
        note("mkdir \(path)")
        return 0
    }

    func rename(_ from: String, to: String) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard disk.entries[from] != nil, disk.entries[SimulatedDisk.parent(of: to)] != nil else { return -Int(ENOENT) }
        let inode = disk.entries[from]
        disk.rename(from, to: to)
        for number in process.files.keys where process.files[number]?.inode === inode {
            process.files[number]?.path = to
        }
        note("rename \(from) to \(to)")
        scheduler.preempt()
        return 0
    }

    func unlink(_ path: String) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard disk.entries[path] != nil else { return -Int(ENOENT) }
        disk.unlink(path)
        note("unlink \(path)")
        scheduler.preempt()
        return 0
    }

    /// The names in a directory, each ended by a NUL.
    func list(_ path: String) -> [UInt8]? {
        scheduler.preempt()
        guard !process.isDead, disk.entries[path]?.isDirectory == true else { return nil }
        return disk.names(in: path).flatMap { Array($0.utf8) + [0] }
    }

    func read(_ number: Int, into buffer: UnsafeMutableRawBufferPointer, from offset: Int) -> Int {
        guard !process.isDead else { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        if file.isDirect { checkAlignment(of: UnsafeRawBufferPointer(buffer), offset: offset, file) }
        scheduler.sleep(UInt64(random.pick(5...100)) * 1000)
        if process.isDead { return -Int(EIO) }
        if file.inode.isUnreadable(offset..<offset + buffer.count) {
            note("read \(file.path) at \(offset), \(buffer.count) bytes: EIO for good")
            return -Int(EIO)
        }
        let place = ReadPlace(thread: scheduler.current.number, inode: file.inode.number, offset: offset)
        // Twice at most at one place: reading is tried three times.
        if readFailures[place, default: 0] < 2, happens(.readError) {
            readFailures[place, default: 0] += 1
            note("read \(file.path) at \(offset): EIO")
            return -Int(EIO)
        }
        readFailures[place] = nil
        let content = file.inode.content
        guard offset < content.count else { return 0 }
        let count = min(buffer.count, content.count - offset)
        content.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]))
        }
        return count
    }

    private func checkAlignment(of buffer: UnsafeRawBufferPointer, offset: Int, _ file: SimulatedProcess.OpenFile) {
        let address = Int(bitPattern: buffer.baseAddress)
        if address % 512 != 0 || offset % alignment != 0 || buffer.count % alignment != 0 {
            violated(
                "direct I/O on \(file.path) with address \(address), offset \(offset), length \(buffer.count)")
        }
    }

    func write(_ number: Int, _ buffer: UnsafeRawBufferPointer, to offset: Int, isDurable: Bool) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        let process = self.process
        let (write, _) = start(file, buffer, offset: offset)
        guard let write else { return -Int(ENOSPC) }
        latency()
        return finish(write, file, buffer, process: process, isDurable: isDurable)
    }

    /// A write is handed to the disk; nil where it has no room.
    func start(
        _ file: SimulatedProcess.OpenFile, _ buffer: UnsafeRawBufferPointer, offset: Int
    ) -> (SimulatedDisk.Write?, error: Int) {
        if file.isDirect { checkAlignment(of: buffer, offset: offset, file) }
        let growth = max(0, offset + buffer.count - file.inode.content.count)
        if growth > 0, disk.usedBytes + growth > disk.capacity || happens(.noSpace) {
            plan.count(.noSpace)
            return (nil, -Int(ENOSPC))
        }
        let write = disk.begin(file.inode, offset: offset, bytes: Array(buffer))
        onWrite?(write, file.path)
        return (write, 0)
    }

    /// A write ends. Returns what the system call does.
    func finish(
        _ write: SimulatedDisk.Write, _ file: SimulatedProcess.OpenFile, _ buffer: UnsafeRawBufferPointer,
        process: SimulatedProcess, isDurable: Bool
    ) -> Int {
        if process.isDead { return -Int(EIO) }
        if file.isDirect, !write.holds(buffer) {
            violated("the buffer of a write to \(file.path) at \(write.offset) changed while it was under way")
        }
        let text = "write \(file.path) at \(write.offset), \(write.bytes.count) bytes\(isDurable ? ", durable" : "")"
        if file.isDirect {
            if happens(.writeError) {
                disk.end(write, isDurable: false, keeping: someSectors())
                note("\(text): EIO")
                return -Int(EIO)
            }
            if happens(.shortWrite), write.bytes.count > alignment {
                let done = random.below(write.bytes.count / alignment) * alignment
                disk.end(write, isDurable: false) { $0 * SimulatedDisk.sectorSize < done }
                note("\(text): short, \(done)")
                return done
            }
            if betray(write, path: file.path) {
                note(text)
                return write.bytes.count
            }
        }
        disk.end(write, isDurable: isDurable)
        onWritten?(write)
        note(text)
        return write.bytes.count
    }

    func synchronize(_ number: Int) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        let process = self.process
        latency()
        if process.isDead { return -Int(EIO) }
        note("sync \(file.path)")
        if file.inode.isDirectory {
            disk.synchronizeNames(in: file.path)
        } else if happens(.flushError) {
            disk.failSynchronize(file.inode, random: &random)
            return -Int(EIO)
        } else {
            disk.synchronize(file.inode)
        }
        return 0
    }

    func allocate(_ number: Int, length: Int) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        let growth = max(0, length - file.inode.content.count)
        if disk.usedBytes + growth > disk.capacity || happens(.noSpace) {
            plan.count(.noSpace)
            note("allocate \(file.path): ENOSPC")
            return -Int(ENOSPC)
        }
        disk.extend(file.inode, to: length)
        return 0
    }

    func truncate(_ number: Int, length: Int) -> Int {
        guard beginOperation() else { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        disk.cut(file.inode, to: length)
        return 0
    }

    func status(_ number: Int, _ status: inout cwal_file_status) -> Int {
        if process.isDead { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        status.size = UInt64(file.inode.content.count)
        status.inode = UInt64(file.inode.number)
        status.direct_alignment_known = true
        status.direct_memory_alignment = 512
        status.direct_offset_alignment = UInt32(alignment)
        return 0
    }

    func lock(_ number: Int) -> Int {
        if process.isDead { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        if let holder = file.inode.lockHolder, holder != number { return -Int(EAGAIN) }
        file.inode.lockHolder = number
        return 0
    }

    func unlock(_ number: Int) -> Int {
        if process.isDead { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        if file.inode.lockHolder == number { file.inode.lockHolder = nil }
        return 0
    }

    func lockIsHeld(_ number: Int) -> Int {
        if process.isDead { return -Int(EIO) }
        guard let file = process.files[number] else { return -Int(EBADF) }
        return file.inode.lockHolder.map { $0 != number } ?? false ? 1 : 0
    }
}
