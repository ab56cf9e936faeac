import CWALLinux
import Glibc

/// A simulated io_uring: writes end in any order, each after a time of its own.
extension SimulatedKernel {
    func openRing(_ ring: inout cwal_ring, depth: Int) -> Int {
        if process.isDead { return -Int(EIO) }
        if happens(.ringRefused) { return -Int(EPERM) }
        let number = process.nextRing
        process.nextRing += 1
        process.rings[number] = .init(depth: depth)
        ring.fd = Int32(number)
        return 0
    }

    private func ring(_ ring: cwal_ring) -> SimulatedProcess.Ring? { process.rings[Int(ring.fd)] }
    private func address(of ring: SimulatedProcess.Ring) -> UInt {
        UInt(bitPattern: ObjectIdentifier(ring).hashValue)
    }

    func prepare(_ ring: cwal_ring, _ entry: SimulatedProcess.Ring.Entry) { self.ring(ring)?.prepared.append(entry) }

    func submit(_ handle: cwal_ring) -> Int {
        guard let ring = ring(handle) else { return -Int(EBADF) }
        let entries = ring.prepared
        ring.prepared = []
        guard !happens(.submitError) else { return -Int(ENOMEM) }
        for entry in entries { begin(entry, in: ring) }
        scheduler.preempt()
        return 0
    }

    private func begin(_ entry: SimulatedProcess.Ring.Entry, in ring: SimulatedProcess.Ring) {
        let process = self.process
        func complete(_ result: Int) {
            ring.completions.append((entry.tag, Int32(result)))
            scheduler.call(at: address(of: ring), all: true)
        }
        guard beginOperation() else { return complete(-Int(EIO)) }
        guard let file = process.files[entry.file] else { return complete(-Int(EBADF)) }
        let buffer = UnsafeRawBufferPointer(
            start: UnsafeRawPointer(bitPattern: entry.address), count: entry.length)
        let (write, error) = start(file, buffer, offset: entry.offset)
        guard let write else { return complete(error) }
        ring.underWay += 1
        // The device works by itself: a thread of its own, which outlives its process no longer than the write.
        _ = scheduler.spawn("device", in: process) { [self] in
            latency()
            let result = finish(write, file, buffer, process: process, isDurable: entry.isDurable)
            ring.underWay -= 1
            complete(result)
        }
    }

    func next(_ handle: cwal_ring) -> (tag: UInt64, result: Int32)? {
        guard let ring = ring(handle), !ring.completions.isEmpty else { return nil }
        return ring.completions.remove(at: random.below(ring.completions.count))
    }

    func wait(_ handle: cwal_ring) -> Int {
        guard let ring = ring(handle) else { return -Int(EBADF) }
        scheduler.preempt()
        if ring.completions.isEmpty, !ring.isWoken { scheduler.wait(at: address(of: ring)) }
        ring.isWoken = false
        return 0
    }

    func wake(_ handle: cwal_ring) {
        guard let ring = ring(handle) else { return }
        ring.isWoken = true
        scheduler.call(at: address(of: ring), all: true)
    }

    func closeRing(_ handle: cwal_ring) {
        if let ring = ring(handle), ring.underWay > 0, !process.isDead {
            violated("a ring was closed with \(ring.underWay) writes under way")
        }
        process.rings[Int(handle.fd)] = nil
    }
}
