/// A block device, as `/sys` describes it. Nil and empty where `/sys` does not say.
package struct BlockDeviceReport: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case disk
        /// A file that poses as a device; `isDirect`: past the page cache of the file system that it lies on.
        case loop(file: String?, isDirect: Bool?)
        /// Device mapper: LVM, dm-crypt, multipath. `target` as `LVM` or `CRYPT`.
        case mapped(name: String?, target: String?)
        /// Linux's software RAID; `policy` is md's consistency policy.
        case raid(level: String?, policy: String?)
        /// RAM: zram, brd.
        case memory
        /// At the other end of a network: nbd, rbd, drbd.
        case network
    }

    package enum WriteCache: String, Hashable, Sendable {
        /// The device has a cache that loses its contents with the power; the kernel flushes it.
        case writeBack = "write back"
        /// The device says that it has none; the kernel sends no flush.
        case writeThrough = "write through"
    }

    package var name: String
    package var number: DeviceNumber
    package var kind: Kind = .disk
    /// The disk, where this is a partition of it.
    package var partitionOf: String?
    package var model: String?
    package var driver: String?
    package var isRotational: Bool?
    package var logicalBlockSize: Int?
    package var physicalBlockSize: Int?
    /// By how many bytes the partition misses the device's physical blocks.
    package var alignmentOffset: Int?
    package var writeCache: WriteCache?
    /// Whether a single write can be made to pass the cache (FUA), without a flush of all of it.
    package var hasForceUnitAccess: Bool?
    package var scheduler: String?
    /// What this device is made of.
    package var underlying: [BlockDeviceReport] = []

    package init(name: String, number: DeviceNumber) {
        self.name = name
        self.number = number
    }

    /// This device and all below it.
    package var all: [BlockDeviceReport] { [self] + underlying.flatMap(\.all) }

    /// The devices that are made of no others.
    package var lowest: [BlockDeviceReport] { underlying.isEmpty ? [self] : underlying.flatMap(\.lowest) }

    /// A disk that a hypervisor or a storage service presents.
    package var isVirtual: Bool {
        if let driver, ["virtio_blk", "vbd", "xen_blkfront", "hv_storvsc"].contains(driver) { return true }
        if name.hasPrefix("vd") || name.hasPrefix("xvd") { return true }
        let marks = [
            "QEMU", "VMware", "VBOX", "Virtual", "Msft", "Google", "PersistentDisk", "Amazon Elastic Block Store",
        ]
        return marks.contains { model?.contains($0) ?? false }
    }
}

/// Reads what `/sys` knows about a block device.
package struct BlockDeviceProbe: Sendable {
    /// `/sys`, or a test's imitation.
    private let sysfs: String

    package init(sysfs: String = "/sys") { self.sysfs = sysfs }

    /// The device with a number, and what it is made of; nil where `/sys` does not show it.
    package func examine(_ number: DeviceNumber, depth: Int = 0) -> BlockDeviceReport? {
        guard depth < 8, let folder = SystemText.resolved("\(sysfs)/dev/block/\(number)") else { return nil }
        return examine(folder: folder, number: number, depth: depth)
    }

    private func examine(folder: String, number: DeviceNumber, depth: Int) -> BlockDeviceReport {
        var report = BlockDeviceReport(name: name(folder), number: number)
        var disk = folder
        if SystemText.number(folder + "/partition") != nil {
            // A partition's folder lies in its disk's, and only the disk's has a queue.
            disk = String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)])
            report.partitionOf = name(disk)
        }
        report.alignmentOffset = SystemText.number(folder + "/alignment_offset")
        let model = [SystemText.line(disk + "/device/vendor"), SystemText.line(disk + "/device/model")]
            // PCI numbers instead of names.
            .compactMap { $0 }.filter { !$0.hasPrefix("0x") }.joined(separator: " ")
        report.model = model.isEmpty ? nil : model
        // An NVMe namespace hangs on its controller, which hangs on the PCI device.
        report.driver = [disk + "/device/driver", disk + "/device/device/driver"]
            .lazy.compactMap(SystemText.resolved).first.map(name)
        report.isRotational = SystemText.flag(disk + "/queue/rotational")
        report.logicalBlockSize = SystemText.number(disk + "/queue/logical_block_size")
        report.physicalBlockSize = SystemText.number(disk + "/queue/physical_block_size")
        report.writeCache = SystemText.line(disk + "/queue/write_cache").flatMap(BlockDeviceReport.WriteCache.init)
        report.hasForceUnitAccess = SystemText.flag(disk + "/queue/fua")
        // `none [mq-deadline] kyber`: the one in brackets is in use. A lonely `none` has no brackets.
        report.scheduler = SystemText.line(disk + "/queue/scheduler").map { line in
            let words = line.split(separator: " ")
            return String(words.first { $0.hasPrefix("[") }?.dropFirst().dropLast() ?? words[0])
        }
        report.kind = kind(disk)
        report.underlying = underlying(disk, kind: report.kind, depth: depth)
        return report
    }

    private func name(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

    private func kind(_ disk: String) -> BlockDeviceReport.Kind {
        let name = name(disk)
        if name.hasPrefix("loop") {
            return .loop(
                file: SystemText.line(disk + "/loop/backing_file"), isDirect: SystemText.flag(disk + "/loop/dio"))
        }
        if name.hasPrefix("dm-") {
            // `LVM-…`, `CRYPT-LUKS2-…`, `mpath-…`.
            let target = SystemText.line(disk + "/dm/uuid")?.split(separator: "-").first.map(String.init)
            return .mapped(name: SystemText.line(disk + "/dm/name"), target: target)
        }
        if name.hasPrefix("md") {
            return .raid(
                level: SystemText.line(disk + "/md/level"), policy: SystemText.line(disk + "/md/consistency_policy"))
        }
        if name.hasPrefix("zram") || name.hasPrefix("ram") { return .memory }
        if ["nbd", "rbd", "drbd"].contains(where: name.hasPrefix) { return .network }
        return .disk
    }

    private func underlying(_ disk: String, kind: BlockDeviceReport.Kind, depth: Int) -> [BlockDeviceReport] {
        if case .loop(let file?, _) = kind {
            let folder = file[..<(file.lastIndex(of: "/") ?? file.startIndex)]
            let directory = folder.isEmpty ? "/" : String(folder)
            guard let below = try? FileSystemProbe.examine(directory, sysfs: sysfs, depth: depth + 1) else { return [] }
            let fileSystem = below.0.lowest.kind
            if fileSystem.nature == .memory {
                var memory = BlockDeviceReport(name: fileSystem.name, number: DeviceNumber(major: 0, minor: 0))
                memory.kind = .memory
                return [memory]
            }
            return below.1.map { [$0] } ?? []
        }
        return SystemText.entries(disk + "/slaves").compactMap { slave in
            guard let number = SystemText.line("\(disk)/slaves/\(slave)/dev").flatMap(DeviceNumber.init) else {
                return nil
            }
            return examine(number, depth: depth + 1)
        }
    }
}
