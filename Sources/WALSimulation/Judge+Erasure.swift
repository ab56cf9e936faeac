import TelemetryWAL
import WALFormat

/// What an erasure promises: nothing of the tenant is shown any more, and when it is complete, nothing is on the disk.
extension Judge {
    /// A call has returned that says so.
    func erased(_ tenant: TenantName, through: UInt64, on disk: SimulatedDisk) {
        noteErasure(of: tenant, through: through)
        completeThrough[tenant] = max(completeThrough[tenant] ?? 0, through)
        goneBefore[tenant] = attemptsAtOpening
        noteMediaFaults()
        if !mediaFaults { lookForRemains(of: tenant, through: through, on: disk) }
    }

    private func noteErasure(of tenant: TenantName, through: UInt64) {
        erasedThrough[tenant] = max(erasedThrough[tenant] ?? 0, through)
        dropped[tenant] = max(dropped[tenant] ?? 0, through)
        mayReclaim(tenant, through: through)
    }

    /// Holds what a view says of erasures against those that were asked for. To be asked before all else that a view is
    /// judged by, while no process uses the log.
    func checkErasures(_ tenants: [TenantStatus], on disk: SimulatedDisk) {
        noteMediaFaults()
        seen.erased = Dictionary(uniqueKeysWithValues: tenants.map { ($0.name, $0.erasure?.through ?? 0) })
        for tenant in erasureMarks.keys where erasureMarks[tenant] == .max { erasureMarks[tenant] = attempts.count }
        for tenant in tenants {
            let name = tenant.name
            let through = tenant.erasure?.through ?? 0
            let least = max(kept.erased[name] ?? 0, completeThrough[name] ?? 0)
            if through < least, !mediaFaults {
                fail("\(name)'s erasure is back at \(through) from \(least)")
            }
            guard let mark = erasureMarks[name] else {
                if through > 0 { fail("\(name) was erased through \(through) by nobody") }
                continue
            }
            for (number, attempt) in attempts.enumerated() where attempt.tenant == name && number >= mark {
                if let sequence = attempt.sequence, sequence <= through {
                    fail("record \(number) of \(name) (\(sequence)) came behind the erasure and is erased")
                }
            }
            noteErasure(of: name, through: through)
            if let erasure = tenant.erasure, erasure.isComplete, !mediaFaults {
                lookForRemains(of: name, through: erasure.through, on: disk)
            }
        }
        guard mediaFaults else { return }
        // Damage may have taken the erasure's record, with the tenant's last trace, and not what it did.
        for name in erasureMarks.keys {
            noteErasure(of: name, through: attempts.lazy.filter { $0.tenant == name }.compactMap(\.sequence).max() ?? 0)
        }
    }

    /// Looks through every byte of the disk, the durable ones and those that programs see.
    private func lookForRemains(of tenant: TenantName, through: UInt64, on disk: SimulatedDisk) {
        let log = disk.entries[History.root + "/FORMAT"].flatMap { inode in
            inode.content.withUnsafeBytes { try? RootFormat.decode(RawSpan(_unsafeBytes: $0)) }
        }
        for (path, inode) in disk.entries.sorted(by: { $0.key < $1.key }) where !inode.isDirectory {
            for content in [inode.content, inode.stable] {
                let number = payload(in: content) { number, attempt in
                    attempt.tenant == tenant
                        && attempt.sequence.map({ $0 <= through }) ?? (number < goneBefore[tenant] ?? 0)
                }
                if let number {
                    fail("record \(number) of \(tenant), erased, is in \(path)")
                    return
                }
                guard path.hasSuffix(".journal") || path.contains(".journal."), let log,
                    let sequence = frame(of: tenant, through: through, in: content, log)
                else { continue }
                fail("\(tenant)/\(sequence), erased, is whole in \(path)")
                return
            }
        }
    }

    /// The number of a record that is looked for and whose payload begins in some bytes.
    func payload(in bytes: [UInt8], _ isLookedFor: (Int, Attempt) -> Bool) -> Int? {
        bytes.withUnsafeBytes { bytes in
            var offset = 0
            while offset + 16 <= bytes.count {
                let number = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                // Nothing but zeros for a while.
                if number == 0, offset + 512 <= bytes.count,
                    RawSpan(_unsafeBytes: bytes).extracting(offset..<offset + 512).isAllZero
                {
                    offset += 504
                    continue
                }
                defer { offset += 1 }
                guard number < UInt64(attempts.count) else { continue }
                let attempt = attempts[Int(number)]
                guard attempt.length >= 24, offset + attempt.length <= bytes.count,
                    isLookedFor(Int(number), attempt)
                else { continue }
                let expected = PayloadCode.payload(number: Int(number), length: 24)
                let start = bytes[offset + 12..<offset + 24]
                let length = bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self)
                if Int(length) == attempt.length, start.elementsEqual(expected[12...]) { return Int(number) }
            }
            return nil
        }
    }

    /// The last number of an erased frame that is whole in a journal file's bytes.
    private func frame(of tenant: TenantName, through: UInt64, in bytes: [UInt8], _ log: RootFormat) -> UInt64? {
        bytes.withUnsafeBytes { bytes in
            let bytes = RawSpan(_unsafeBytes: bytes)
            for offset in stride(from: 0, to: bytes.byteCount, by: log.blockSize) {
                guard case .valid(let header) = CommitHeader.read(bytes, at: offset, of: log),
                    offset + header.commitLength <= bytes.byteCount,
                    let frames = try? CommitDecoder.frames(
                        of: header, in: bytes.extracting(offset..<offset + header.commitLength))
                else { continue }
                for frame in frames where frame.isIntact && frame.header.tenant == tenant {
                    if frame.header.lastSequence <= through { return frame.header.lastSequence }
                }
            }
            return nil
        }
    }
}
