import CWALLinux
import Glibc

/// The table of functions through which the shims in `CWALLinux` reach a simulation.
extension SimulatedKernel {
    fileprivate static func of(_ context: UnsafeMutableRawPointer?) -> SimulatedKernel {
        guard let context = context else { preconditionFailure("a simulation has a context") }
        return Unmanaged<SimulatedKernel>.fromOpaque(context).takeUnretainedValue()
    }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> String {
        guard let pointer = pointer else { return "" }
        let path = String(cString: pointer)
        return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    func fill(_ table: inout cwal_simulation) {
        table.context = Unmanaged.passUnretained(self).toOpaque()
        fillFiles(&table)
        fillRing(&table)
        fillThreads(&table)
    }

    private func fillFiles(_ table: inout cwal_simulation) {
        table.open = { CInt(SimulatedKernel.of($0).open(SimulatedKernel.text($1), flags: $2)) }
        table.close = { CInt(SimulatedKernel.of($0).close(Int($1))) }
        table.exists = { CInt(SimulatedKernel.of($0).exists(SimulatedKernel.text($1))) }
        table.free_space = { context, _ in Int64(SimulatedKernel.of(context).freeSpace()) }
        table.make_directory = { CInt(SimulatedKernel.of($0).makeDirectory(SimulatedKernel.text($1))) }
        table.rename = { CInt(SimulatedKernel.of($0).rename(SimulatedKernel.text($1), to: SimulatedKernel.text($2))) }
        table.unlink = { CInt(SimulatedKernel.of($0).unlink(SimulatedKernel.text($1))) }
        table.list = { context, path, length, error in
            guard let names = SimulatedKernel.of(context).list(SimulatedKernel.text(path)) else {
                error?.pointee = SimulatedKernel.of(context).process.isDead ? -EIO : -ENOENT
                return nil
            }
            let memory = malloc(max(1, names.count))
            names.withUnsafeBytes { if let source = $0.baseAddress { memcpy(memory!, source, $0.count) } }
            length?.pointee = names.count
            return memory?.assumingMemoryBound(to: CChar.self)
        }
        table.read = { context, file, buffer, length, offset in
            SimulatedKernel.of(context).read(
                Int(file), into: UnsafeMutableRawBufferPointer(start: buffer, count: length), from: Int(offset))
        }
        table.write = { context, file, buffer, length, offset, isDurable in
            SimulatedKernel.of(context).write(
                Int(file), UnsafeRawBufferPointer(start: buffer, count: length), to: Int(offset), isDurable: isDurable)
        }
        table.synchronize = { CInt(SimulatedKernel.of($0).synchronize(Int($1))) }
        table.allocate = { CInt(SimulatedKernel.of($0).allocate(Int($1), length: Int($2))) }
        table.truncate = { CInt(SimulatedKernel.of($0).truncate(Int($1), length: Int($2))) }
        table.status = { context, file, status in
            guard let status = status else { return -EFAULT }
            return CInt(SimulatedKernel.of(context).status(Int(file), &status.pointee))
        }
        table.lock_exclusive = { CInt(SimulatedKernel.of($0).lock(Int($1))) }
        table.unlock = { CInt(SimulatedKernel.of($0).unlock(Int($1))) }
        table.lock_is_held = { CInt(SimulatedKernel.of($0).lockIsHeld(Int($1))) }
    }

    private func fillRing(_ table: inout cwal_simulation) {
        table.ring_open = { context, ring, depth in
            guard let ring = ring else { return -EFAULT }
            return CInt(SimulatedKernel.of(context).openRing(&ring.pointee, depth: Int(depth)))
        }
        table.ring_close = { context, ring in
            guard let ring = ring else { return }
            SimulatedKernel.of(context).closeRing(ring.pointee)
        }
        table.ring_write = { context, ring, file, bytes, length, offset, isDurable, tag in
            guard let ring = ring else { return }
            let entry = SimulatedProcess.Ring.Entry(
                file: Int(file), address: UInt(bitPattern: bytes), length: Int(length), offset: Int(offset),
                isDurable: isDurable, tag: tag)
            SimulatedKernel.of(context).prepare(ring.pointee, entry)
        }
        table.ring_submit = { context, ring in
            guard let ring = ring else { return -EFAULT }
            return CInt(SimulatedKernel.of(context).submit(ring.pointee))
        }
        table.ring_wait = { context, ring in
            guard let ring = ring else { return -EFAULT }
            return CInt(SimulatedKernel.of(context).wait(ring.pointee))
        }
        table.ring_next = { context, ring, completion in
            guard let ring = ring, let next = SimulatedKernel.of(context).next(ring.pointee) else { return false }
            completion?.pointee = cwal_ring_completion(tag: next.tag, result: next.result)
            return true
        }
        table.ring_wake = { context, ring in
            guard let ring = ring else { return }
            SimulatedKernel.of(context).wake(ring.pointee)
        }
    }

    private func fillThreads(_ table: inout cwal_simulation) {
        table.mutex_lock = { SimulatedKernel.of($0).lockMutex($1) }
        table.mutex_unlock = { SimulatedKernel.of($0).unlockMutex($1) }
        table.condition_wait = { context, condition, mutex, deadline in
            let kernel = SimulatedKernel.of(context)
            // At once: no signal may pass between the two.
            kernel.unlockMutex(mutex, preempts: false)
            kernel.scheduler.wait(at: UInt(bitPattern: condition), until: deadline)
            kernel.lockMutex(mutex)
        }
        table.condition_signal = { SimulatedKernel.of($0).scheduler.call(at: UInt(bitPattern: $1), all: $2) }
        table.futex_wait = { context, word, expected in
            let kernel = SimulatedKernel.of(context)
            kernel.scheduler.preempt()
            guard let word = word, word.load(as: UInt32.self) == expected else { return }
            kernel.scheduler.wait(at: UInt(bitPattern: word))
        }
        table.futex_wake = { SimulatedKernel.of($0).scheduler.call(at: UInt(bitPattern: $1), all: true) }
        table.thread_start = { context, name, body, argument in
            let kernel = SimulatedKernel.of(context)
            return kernel.scheduler.spawn(SimulatedKernel.text(name)) { _ = body?(argument) }
        }
        table.thread_join = { SimulatedKernel.of($0).scheduler.join($1) }
        table.monotonic_time = { context in
            let kernel = SimulatedKernel.of(context)
            // Asking takes time: whoever polls the clock gets on.
            kernel.scheduler.tick()
            return kernel.scheduler.now
        }
        table.wall_time = { SimulatedKernel.of($0).scheduler.wallClock }
        table.sleep = { SimulatedKernel.of($0).scheduler.sleep($1) }
        table.random = { SimulatedKernel.of($0).random.next() }
    }

    // MARK: - Locks

    // A locked mutex holds the number of its owner, plus one, in its first word.

    func lockMutex(_ mutex: UnsafeMutableRawPointer?) {
        guard let mutex = mutex else { return }
        let owner = mutex.assumingMemoryBound(to: UInt64.self)
        scheduler.preempt()
        while owner.pointee != 0 {
            if owner.pointee == scheduler.current.number + 1 {
                scheduler.halt("\(scheduler.current.name) locks what it has locked")
            }
            scheduler.wait(at: UInt(bitPattern: mutex))
        }
        owner.pointee = scheduler.current.number + 1
    }

    func unlockMutex(_ mutex: UnsafeMutableRawPointer?, preempts: Bool = true) {
        guard let mutex = mutex else { return }
        let owner = mutex.assumingMemoryBound(to: UInt64.self)
        if owner.pointee != scheduler.current.number + 1 {
            scheduler.halt("\(scheduler.current.name) unlocks what it has not locked")
        }
        owner.pointee = 0
        scheduler.call(at: UInt(bitPattern: mutex), all: true)
        if preempts { scheduler.preempt() }
    }
}
