import Foundation
import TestSupport
import Testing

@testable import WALStorage

/// The parser of mountinfo on lines of real machines.
@Suite struct MountTableTests {
    static let text = """
        22 27 0:21 / /proc rw,relatime - proc proc rw
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,errors=remount-ro
        30 27 0:27 / /dev/shm rw,relatime shared:5 - tmpfs tmpfs rw,size=24684096k
        36 27 98:0 /srv/data /mnt/bind rw,noatime master:1 propagate_from:2 - ext3 /dev/root ro,data=journal,barrier=0
        40 27 0:45 / /mnt/with\\040space\\011and\\134slash rw - fuse.sshfs user@host:/home\\040dir rw,user_id=0
        41 27 0:50 / /var/lib/docker/overlay2/1/merged rw,relatime - overlay overlay \
        rw,lowerdir=/l/A:/l/B,upperdir=/var/lib/docker/overlay2/1/diff,workdir=/w
        42 27 0:51 /@home /home rw,relatime - btrfs /dev/nvme0n1p2 rw,ssd,space_cache=v2,subvolid=257,subvol=/@home
        43 27 0:60 / /net rw,relatime - nfs4 server:/export rw,vers=4.2,hard,proto=tcp
        44 30 0:61 / /dev/shm rw,nosuid - tmpfs other rw
        45 27 0:62 / /mnt/odd rw - overlay overlay rw,lowerdir=/a,upperdir=/with\\134,comma,workdir=/w
        46 27 0:63 / /mnt/bare rw - cgroup2 none
        47 27 0:64 / /mnt/ends\\040 rw - ext4 /dev/sdb rw
        """

    let table = MountTable(Self.text)

    @Test func everyLineIsRead() throws {
        #expect(table.mounts.count == 12)
        let root = try #require(table.mount(identifier: 27))
        #expect(root.type == "ext4" && root.source == "/dev/vda" && root.mountPoint == "/")
        #expect(root.device == DeviceNumber(major: 254, minor: 0))
        #expect(root.options == ["rw", "relatime", "discard", "errors=remount-ro"])
        #expect(table.mount(identifier: 46)?.options == ["rw"], "a file system without options")
    }

    @Test func bindMountKeepsItsRootAndBothKindsOfOptions() throws {
        let bind = try #require(table.mount(of: "/mnt/bind/wal"))
        #expect(bind.identifier == 36 && bind.root == "/srv/data" && bind.type == "ext3")
        #expect(bind.options == ["rw", "noatime", "ro", "data=journal", "barrier=0"])
        #expect(table.mount(of: "/home/user")?.root == "/@home")
    }

    @Test func escapedCharactersAreGivenBack() throws {
        let mount = try #require(table.mount(identifier: 40))
        #expect(mount.mountPoint == "/mnt/with space\tand\\slash")
        #expect(mount.source == "user@host:/home dir")
        #expect(mount.type == "fuse.sshfs")
        #expect(table.mount(identifier: 47)?.mountPoint == "/mnt/ends ")
    }

    @Test func overlaysUpperDirectoryIsFound() throws {
        let overlay = try #require(table.mount(of: "/var/lib/docker/overlay2/1/merged/var/log"))
        #expect(overlay.value(ofOption: "upperdir") == "/var/lib/docker/overlay2/1/diff")
        #expect(overlay.value(ofOption: "lowerdir") == "/l/A:/l/B")
        #expect(overlay.value(ofOption: "upper") == nil)
        #expect(table.mount(identifier: 45)?.value(ofOption: "upperdir") == "/with,comma")
    }

    @Test func longestMountPointWinsAndOfTwoOnOnePlaceTheLater() {
        #expect(table.mount(of: "/dev/shm/x")?.source == "other")
        #expect(table.mount(of: "/dev/shmx")?.mountPoint == "/")
        #expect(table.mount(of: "/net")?.type == "nfs4")
        #expect(table.mount(of: "/")?.mountPoint == "/")
    }

    @Test func linesThatAreNoneAreLeftOut() {
        #expect(MountTable("").mounts.isEmpty)
        let nonsense = "nonsense\n1 2 3\n27 1 254:0 / / rw - ext4\nx 1 254:0 / / rw - ext4 /dev/vda rw"
        #expect(MountTable(nonsense).mounts.isEmpty)
        #expect(MountTable("").mount(of: "/") == nil)
    }

    @Test func kindsAreKnownByNameAndByNumber() {
        for (magic, name, nature) in [
            (0xEF53, "ext4", .local), (0x0102_1994, "tmpfs", .memory), (0x6969, "nfs", .network),
            (0x794C_7630, "overlay", .stacked), (0x9123_683E, "btrfs", .copyOnWrite),
            // As a signed field of 32 bits gives it.
            (0xFFFF_FFFF_FF53_4D42, "cifs", .network),
        ] as [(UInt64, String, FileSystemNature)] {
            #expect(FileSystemKind(magic: magic) == FileSystemKind(name: name))
            #expect(FileSystemKind(magic: magic).nature == nature)
        }
        #expect(FileSystemKind(magic: 0xABC).name == "0xabc" && FileSystemKind(magic: 0xABC).nature == .unknown)
        #expect(FileSystemKind(name: "fuse.gcsfuse").nature == .userSpace)
    }
}

/// `/sys` in imitation.
@Suite struct BlockDeviceProbeTests {
    let directory = TemporaryDirectory()
    var sysfs: String { directory.path }
    var probe: BlockDeviceProbe { BlockDeviceProbe(sysfs: sysfs) }

    private func write(_ files: [String: String], below folder: String) throws {
        for (name, text) in files {
            let path = sysfs + "/" + folder + "/" + name
            try FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            try (text + "\n").write(toFile: path, atomically: false, encoding: .utf8)
        }
    }

    private func link(_ from: String, to target: String) throws {
        let path = sysfs + "/" + from
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: sysfs + "/" + target)
    }

    private func makeDisk() throws {
        try write(
            [
                "device/model": "Samsung SSD 980    ", "queue/rotational": "0", "queue/logical_block_size": "512",
                "queue/physical_block_size": "4096", "queue/write_cache": "write back", "queue/fua": "1",
                "queue/scheduler": "[none] mq-deadline", "alignment_offset": "0",
                "nvme0n1p2/partition": "2", "nvme0n1p2/alignment_offset": "512", "nvme0n1p2/dev": "259:2",
            ], below: "devices/nvme0n1")
        try FileManager.default.createDirectory(atPath: sysfs + "/drivers/nvme", withIntermediateDirectories: true)
        try link("devices/nvme0n1/device/device/driver", to: "drivers/nvme")
        try link("dev/block/259:0", to: "devices/nvme0n1")
        try link("dev/block/259:2", to: "devices/nvme0n1/nvme0n1p2")
    }

    @Test func partitionHasItsDisksQueue() throws {
        try makeDisk()
        let report = try #require(probe.examine(DeviceNumber(major: 259, minor: 2)))
        #expect(report.name == "nvme0n1p2" && report.partitionOf == "nvme0n1")
        #expect(report.model == "Samsung SSD 980" && report.driver == "nvme")
        #expect(report.isRotational == false && report.hasForceUnitAccess == true)
        #expect(report.logicalBlockSize == 512 && report.physicalBlockSize == 4096)
        #expect(report.writeCache == .writeBack && report.scheduler == "none")
        #expect(report.alignmentOffset == 512)
        #expect(!report.isVirtual && report.underlying.isEmpty)
        #expect(probe.examine(DeviceNumber(major: 259, minor: 0))?.partitionOf == nil)
    }

    @Test func mapperAndRAIDAreTakenApart() throws {
        try makeDisk()
        try write(
            ["dm/name": "vg-log", "dm/uuid": "LVM-abcdef", "queue/write_cache": "write back"], below: "devices/dm-0")
        try link("dev/block/253:0", to: "devices/dm-0")
        try link("devices/dm-0/slaves/nvme0n1p2", to: "devices/nvme0n1/nvme0n1p2")
        let mapped = try #require(probe.examine(DeviceNumber(major: 253, minor: 0)))
        #expect(mapped.kind == .mapped(name: "vg-log", target: "LVM"))
        #expect(mapped.underlying.map(\.name) == ["nvme0n1p2"])
        #expect(mapped.lowest.first?.partitionOf == "nvme0n1")

        try write(["md/level": "raid5", "md/consistency_policy": "resync"], below: "devices/md0")
        try link("dev/block/9:0", to: "devices/md0")
        let raid = try #require(probe.examine(DeviceNumber(major: 9, minor: 0)))
        #expect(raid.kind == .raid(level: "raid5", policy: "resync") && raid.writeCache == nil)
    }

    @Test func loopNamesItsFile() throws {
        try write(["loop/backing_file": "/images/disk one.img", "loop/dio": "1"], below: "devices/loop3")
        try link("dev/block/7:3", to: "devices/loop3")
        let report = try #require(probe.examine(DeviceNumber(major: 7, minor: 3)))
        #expect(report.kind == .loop(file: "/images/disk one.img", isDirect: true))
        #expect(report.underlying.isEmpty, "the file is not to be found")
    }

    @Test func whatIsNotThereIsUnknown() throws {
        #expect(probe.examine(DeviceNumber(major: 1, minor: 1)) == nil)
        #expect(BlockDeviceProbe(sysfs: "/nowhere").examine(DeviceNumber(major: 254, minor: 0)) == nil)
        // A folder without a single file: a kernel that hides everything.
        try FileManager.default.createDirectory(atPath: sysfs + "/devices/sda", withIntermediateDirectories: true)
        try link("dev/block/8:0", to: "devices/sda")
        let report = try #require(probe.examine(DeviceNumber(major: 8, minor: 0)))
        #expect(report == BlockDeviceReport(name: "sda", number: DeviceNumber(major: 8, minor: 0)))
    }

    @Test func deviceThatContainsItselfComesToAnEnd() throws {
        try write(["dev": "253:1"], below: "devices/dm-1")
        try link("dev/block/253:1", to: "devices/dm-1")
        try link("devices/dm-1/slaves/dm-1", to: "devices/dm-1")
        let report = try #require(probe.examine(DeviceNumber(major: 253, minor: 1)))
        #expect(report.all.count == 8)
    }

    @Test func deviceNumbersAreGlibcs() {
        #expect(DeviceNumber(dev_t(0x0801)) == DeviceNumber(major: 8, minor: 1))
        // makedev(0x12345, 0x6789A): the low bits of both in the low word, the others above.
        #expect(DeviceNumber(dev_t(0x1_2000_6783_459A)) == DeviceNumber(major: 0x12345, minor: 0x6789A))
        #expect(DeviceNumber("259:12") == DeviceNumber(major: 259, minor: 12))
        #expect(DeviceNumber("259") == nil && DeviceNumber("a:b") == nil)
    }
}
