extension DiagnosisRules {
    /// The largest block that SPEC.md allows, bytes.
    private static var maximumBlockSize: Int { 64 << 10 }
    /// What a log of the default options takes at least and at most: four files of 64 MiB, and 8 GiB.
    private static var leastSpace: UInt64 { 4 * 64 << 20 }
    private static var journalLimit: UInt64 { 8 << 30 }

    mutating func judgeFileSystem() {
        judgeNature()
        judgeDirectIO()
        judgeOptions()
        judgeSpace()
    }

    private mutating func judgeNature() {
        let top = measurements.fileSystem
        if top.kind.nature == .stacked {
            let below = top.upper.first.map { "; what is written goes to \($0.lowest.kind.name)" }
            conclude(
                .stackedFileSystem, .warning,
                "\(top.kind.name) is a view of other file systems"
                    + (below ?? "; where what is written goes cannot be seen from here")
                    + "; a container's own file system also goes with the container",
                advice: "put the log on a volume or a bind mount of a local file system")
        }
        let fileSystem = top.lowest
        let name = fileSystem.kind.name
        switch fileSystem.kind.nature {
        case .local, .stacked: break
        case .memory:
            conclude(
                .memoryFileSystem, .refusal, "\(name) lives in memory: nothing survives a power loss or a reboot",
                advice: "use a directory on a disk: ext4 or xfs")
        case .network:
            conclude(
                .networkFileSystem, .warning, Self.networkReason(name),
                advice: "use a local disk; if it must be this one, see to it that the server syncs before it answers")
        case .userSpace:
            conclude(
                .userSpaceFileSystem, .warning,
                "\(name) is served by a process: whether a write is durable when it returns is up to that process, "
                    + "which must also be alive",
                advice: "use a local file system of the kernel: ext4 or xfs")
        case .copyOnWrite where measurements.fileSystem.overwritesInPlace: break
        case .copyOnWrite:
            let particular =
                switch name {
                case "zfs": "; before OpenZFS 2.3 it takes O_DIRECT and ignores it"
                case "btrfs": "; since Linux 6.14 files with checksums are written through the page cache, too"
                default: ""
                }
            conclude(
                .copyOnWriteFileSystem, .warning,
                "\(name) writes each overwrite to a new place: recycled journal files do not keep their written "
                    + "extents, and each append costs metadata" + particular,
                advice: name == "btrfs"
                    ? "chattr +C on the log's directory before it has files keeps blocks in place, without checksums; or use "
                        + "ext4 or xfs"
                    : "use ext4 or xfs for the log")
        case .unknown:
            conclude(
                .unknownFileSystem, .info, "\(name) is not a file system that this tool knows",
                advice: "prefer ext4 or xfs, which the log is tested on")
        }
    }

    private static func networkReason(_ name: String) -> String {
        switch name {
        case "nfs", "nfs4":
            "\(name): durability is up to the server (an export with `async` answers before it syncs), each append "
                + "waits for the network, and locks end with the connection"
        case "cifs", "smb2", "smb3":
            "\(name): durability is up to the server, which may answer from its cache, and locks end with the "
                + "connection"
        case "9p", "virtiofs", "vboxsf", "vmhgfs":
            "\(name) is a directory of the host: whether a flush reaches the host's disk is up to the host's server"
        case "gfs2", "ocfs2", "gpfs":
            "\(name) is shared by a cluster: each append may wait for another machine's lock"
        default: "\(name) is on other machines: each append waits for the network, and durability is up to them"
        }
    }

    private mutating func judgeDirectIO() {
        let fileSystem = measurements.fileSystem
        // Of memory enough is said.
        guard fileSystem.lowest.kind.nature != .memory else { return }
        guard fileSystem.hasDirectIO != false else {
            conclude(
                .noDirectIO, .refusal,
                "\(fileSystem.kind.name) offers no direct I/O (O_DIRECT) here; a log opens only where it is told to do "
                    + "without",
                advice: fileSystem.lowest.options.contains("data=journal")
                    ? "mount with data=ordered, the default"
                    : "use ext4 or xfs; or open with direct I/O preferred, at the page cache's cost")
            return
        }
        guard let memory = fileSystem.memoryAlignment, let offset = fileSystem.offsetAlignment else {
            conclude(
                .alignmentUnknown, .info,
                "the file system does not say which alignment direct I/O needs (statx tells from Linux 6.1 on); 4096 "
                    + "bytes worked")
            return
        }
        let needed = max(memory, offset)
        if needed > Self.maximumBlockSize {
            conclude(
                .largeBlocks, .refusal,
                "direct I/O needs blocks of \(needed) bytes here, and a log's are at most \(Self.maximumBlockSize)",
                advice: "make the file system with smaller blocks")
        } else if needed > 4096 {
            conclude(
                .largeBlocks, .info,
                "direct I/O needs blocks of \(needed) bytes here: the least that an append writes")
        }
        if let blockSize = measurements.log?.blockSize, blockSize < needed {
            conclude(
                .blockSizeOfLog, .refusal,
                "the log was made with blocks of \(blockSize) bytes, and direct I/O needs \(needed) here",
                advice: "move the log back to a device like the one it was made on")
        }
    }

    private mutating func judgeOptions() {
        let fileSystem = measurements.fileSystem.lowest
        if fileSystem.hasBarriersOff {
            conclude(
                .barriersOff, .warning,
                "mounted without barriers: the device is never told to flush its cache, and nothing that is in it "
                    + "survives a power loss",
                advice: "mount without nobarrier or barrier=0")
        }
        if fileSystem.options.contains("data=journal") {
            conclude(
                .dataJournal, .warning,
                "mounted with data=journal: each append is written twice, and direct I/O becomes buffered",
                advice: "mount with data=ordered, the default")
        }
    }

    private mutating func judgeSpace() {
        let available = measurements.fileSystem.availableBytes
        guard measurements.fileSystem.lowest.kind.nature != .memory, available < Self.journalLimit else { return }
        let free = "\(available >> 20) MiB are free"
        if available < Self.leastSpace, measurements.log == nil {
            conclude(
                .littleSpace, .warning, "\(free), and a log of the default options needs four files of 64 MiB",
                advice: "free some, or make the journal's files smaller (--journal-file-mib)")
        } else {
            conclude(
                .littleSpace, .info, "\(free), and a journal may grow to 8 GiB unless told otherwise",
                advice: "set the journal's limit to what there is (--journal-limit-mib)")
        }
    }
}
