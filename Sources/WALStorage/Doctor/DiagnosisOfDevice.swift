extension DiagnosisRules {
    mutating func judgeDevice() {
        // Memory and other machines have no device here, and that was said.
        switch measurements.fileSystem.lowest.kind.nature {
        case .memory, .network: return
        case .local, .userSpace, .copyOnWrite, .stacked, .unknown: break
        }
        guard let device = measurements.device else {
            conclude(
                .deviceUnknown, .info,
                "no block device is to be seen (a container without /sys, or a file system without one): its write "
                    + "cache is unknown",
                advice: "run doctor on the host")
            return
        }
        for device in device.all { judgeKind(of: device) }
        for device in device.lowest {
            judgeWriteCache(of: device)
            judgePlace(of: device)
        }
        if let offset = device.alignmentOffset, offset != 0 {
            conclude(
                .misalignedPartition, .warning,
                "\(device.name) begins \(offset) bytes off the device's physical blocks: each write of a block touches "
                    + "two, and may tear both",
                advice: "make the partition anew, aligned to 1 MiB")
        }
        if let scheduler = device.scheduler, ["bfq", "cfq"].contains(scheduler) {
            conclude(
                .slowScheduler, .warning,
                "\(device.name) has the I/O scheduler \(scheduler), which delays single writes for the sake of others",
                advice: "echo mq-deadline (or none) > /sys/block/\(device.partitionOf ?? device.name)/queue/scheduler")
        }
    }

    private mutating func judgeKind(of device: BlockDeviceReport) {
        let name = device.name
        switch device.kind {
        case .disk: break
        case .memory:
            conclude(
                .memoryDevice, .refusal, "\(name) is memory: nothing survives a power loss or a reboot",
                advice: "use a disk")
        case .network:
            conclude(
                .networkDevice, .info,
                "\(name) is at the other end of a network: each append waits for it, and whether a flush reaches a "
                    + "disk is up to the server",
                advice: "see to it that the server honours flushes")
        case .loop(let file, let isDirect):
            let backing = file ?? "an unknown file"
            switch isDirect {
            case true?:
                conclude(.loopDevice, .info, "\(name) is the file \(backing), written past the page cache")
            case false?:
                conclude(
                    .loopThroughPageCache, .warning,
                    "\(name) is the file \(backing), written through the page cache: each byte is held in memory "
                        + "twice, and a flush is an fsync of that whole file",
                    advice: "losetup --direct-io=on \(name.hasPrefix("/") ? name : "/dev/" + name)")
            case nil:
                conclude(.loopDevice, .info, "\(name) is the file \(backing); whether past the page cache is unknown")
            }
        case .mapped(let mapped, let target):
            conclude(
                .layeredDevice, .info,
                "\(name) (\([target, mapped].compactMap { $0 }.joined(separator: " "))) lies on "
                    + "\(Self.list(device.underlying)); flushes are passed on to all of them")
        case .raid(let level, let policy):
            conclude(
                .layeredDevice, .info,
                "\(name) is a RAID (\(level ?? "level unknown")) of \(Self.list(device.underlying)); the slowest of "
                    + "them sets the pace")
            let hasParity = ["raid4", "raid5", "raid6"].contains { level?.hasPrefix($0) ?? false }
            if hasParity, policy != "ppl", policy != "journal" {
                conclude(
                    .parityRAID, .warning,
                    "\(name) has the write hole of \(level ?? "parity RAID"): after a power loss and a failed disk, "
                        + "committed neighbours of an unfinished write may be wrong; each append also reads and "
                        + "writes parity",
                    advice: "use RAID 1 or 10, or give the array a journal or a partial parity log (mdadm)")
            }
        }
    }

    private static func list(_ devices: [BlockDeviceReport]) -> String {
        devices.isEmpty ? "devices that cannot be seen" : devices.map(\.name).joined(separator: ", ")
    }

    private mutating func judgeWriteCache(of device: BlockDeviceReport) {
        let name = device.name
        switch device.writeCache {
        case .writeThrough?:
            conclude(
                .noWriteCache, .info,
                "\(name) says that it has no volatile write cache, so the kernel sends no flush and a write is durable "
                    + "when it returns; if /sys/block/\(device.partitionOf ?? name)/queue/write_cache was set by hand, "
                    + "that is not so")
        case .writeBack?:
            let how =
                device.hasForceUnitAccess == true
                ? "a durable write over written extents passes the cache by itself (FUA)"
                : "it has no FUA, so a durable write is a write and then a flush of the whole cache"
            conclude(.writeCacheFlushed, .info, "\(name) has a volatile write cache that the kernel flushes; \(how)")
        case nil where device.kind == .memory: break
        case nil:
            conclude(
                .writeCacheUnknown, .info, "whether \(name) has a volatile write cache is unknown",
                advice: "look at queue/write_cache below /sys/block on the host")
        }
    }

    private mutating func judgePlace(of device: BlockDeviceReport) {
        if device.isVirtual {
            conclude(
                .virtualDisk, .info,
                "\(device.name) is a virtual disk: whether the host passes flushes on to a disk cannot be seen from "
                    + "here",
                advice: "see to it that the host's cache mode honours flushes (not `unsafe`)")
            return
        }
        guard device.isRotational == true, device.kind == .disk else { return }
        conclude(
            .rotationalDisk, .info,
            "\(device.name) rotates: a durable write waits for the platter, some 4 to 15 ms; appends that wait "
                + "together share one such wait",
            advice: "use an SSD if one append must be fast")
        if let durable = measurements[.recycled], durable.p50 < 1_000_000 {
            conclude(
                .unbelievablyFast, .warning,
                "\(device.name) rotates, and yet a durable write takes \(readableTime(nanoseconds: durable.p50)): "
                    + "either a controller's battery-backed cache takes it, or the disk only pretends to flush",
                advice: "make sure of the battery, or switch the disk's cache off (hdparm -W 0)")
        }
    }
}
