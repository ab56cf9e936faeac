/// What a file system does with writes, as far as a log cares.
package enum FileSystemNature: String, Hashable, Sendable {
    /// On a local device, overwriting in place: ext4, xfs.
    case local
    /// In memory: gone with the power.
    case memory
    /// On another machine, or shared with others.
    case network
    /// Served by a process.
    case userSpace
    /// Puts each overwrite in a new place: btrfs, zfs, f2fs.
    case copyOnWrite
    /// A view of other file systems: overlay.
    case stacked
    /// Not in our list.
    case unknown
}

/// A kind of file system: its name as in `/proc/filesystems`, and its nature.
package struct FileSystemKind: Hashable, Sendable {
    package var name: String
    package var nature: FileSystemNature

    /// From the type that mountinfo names, as `ext4` or `fuse.sshfs`.
    package init(name: String) {
        self.name = name
        nature = Self.natures[name] ?? (name.hasPrefix("fuse.") ? .userSpace : .unknown)
    }

    /// From the number that statfs returns; less exact, since ext2, ext3 and ext4 share one.
    package init(magic: UInt64) {
        // The kernel's field is signed and was 32 bits wide.
        let magic = magic & 0xFFFF_FFFF
        self.init(name: Self.names[magic] ?? "0x" + String(magic, radix: 16))
    }

    private static let natures: [String: FileSystemNature] = [
        "ext2": .local, "ext3": .local, "ext4": .local, "xfs": .local, "jfs": .local, "reiserfs": .local,
        "tmpfs": .memory, "ramfs": .memory, "devtmpfs": .memory, "hugetlbfs": .memory, "rootfs": .memory,
        "nfs": .network, "nfs4": .network, "cifs": .network, "smb2": .network, "smb3": .network, "9p": .network,
        "ceph": .network, "afs": .network, "lustre": .network, "gfs2": .network, "ocfs2": .network, "gpfs": .network,
        "beegfs": .network, "virtiofs": .network, "vboxsf": .network, "vmhgfs": .network,
        "fuse": .userSpace, "fuseblk": .userSpace,
        "btrfs": .copyOnWrite, "zfs": .copyOnWrite, "bcachefs": .copyOnWrite, "f2fs": .copyOnWrite,
        "nilfs2": .copyOnWrite,
        "overlay": .stacked, "aufs": .stacked, "ecryptfs": .stacked,
    ]

    /// include/uapi/linux/magic.h, and those that live with their file systems.
    private static let names: [UInt64: String] = [
        0xEF53: "ext4", 0x5846_5342: "xfs", 0x9123_683E: "btrfs", 0xF2F5_2010: "f2fs", 0x2FC1_2FC1: "zfs",
        0xCA45_1A4E: "bcachefs", 0x3434: "nilfs2", 0x3153_464A: "jfs", 0x5265_4973: "reiserfs",
        0x794C_7630: "overlay", 0x6175_6673: "aufs", 0xF15F: "ecryptfs",
        0x0102_1994: "tmpfs", 0x8584_58F6: "ramfs", 0x9584_58F6: "hugetlbfs",
        0x6969: "nfs", 0xFF53_4D42: "cifs", 0xFE53_4D42: "smb2", 0x517B: "smb2", 0x0102_1997: "9p",
        0x00C3_6400: "ceph", 0x5346_414F: "afs", 0x0BD0_0BD0: "lustre", 0x0116_1970: "gfs2", 0x7461_636F: "ocfs2",
        0x786F_4256: "vboxsf", 0x6573_5546: "fuse", 0x4D44: "vfat", 0x2011_BAB0: "exfat", 0x7366_746E: "ntfs3",
    ]
}
