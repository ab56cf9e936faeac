import WALFormat

/// What a disk does to bytes at rest, between a log's last use and its next.
struct MediaFaults {
    let kernel: SimulatedKernel
    let registry: CommitRegistry

    mutating func happen(_ random: inout SimulationRandom) {
        let journal = kernel.disk.entries.filter { $0.key.hasSuffix(".journal") && !$0.value.isDirectory }
            .sorted { $0.key < $1.key }
        guard !journal.isEmpty else { return }
        if kernel.happens(.bitRot), let place = placeInCommits(&random) {
            let bit = UInt8(1) << UInt8(random.below(8))
            let old = place.inode.content[place.offset]
            kernel.disk.damage(place.inode, place.offset..<place.offset + 1) { _ in old ^ bit }
            kernel.note("rot in file \(place.inode.number) at \(place.offset)")
        }
        if kernel.happens(.zeroedSector), let place = placeInCommits(&random) {
            let size = random.chance(oneIn: 2) ? SimulatedDisk.sectorSize : 4096
            let start = place.offset / size * size
            kernel.disk.damage(place.inode, start..<min(start + size, place.inode.content.count)) { _ in 0 }
            kernel.note("zeros in file \(place.inode.number) at \(start)")
        }
        if kernel.happens(.staleFile) {
            let (path, inode) = random.pick(journal)
            let folder = SimulatedDisk.parent(of: path)
            // The log may have gone on counting from such a name.
            var number = random.below(9000) + 1000
            while kernel.disk.entries["\(folder)/00ab\(number).journal"] != nil { number += 1 }
            let name = "00ab\(number).journal"
            let copy = folder + "/" + name
            kernel.staleCopies.append(name)
            // As it was some commits ago: those behind are zeros.
            var bytes = inode.content
            let ends = registry.commits.filter { $0.inode === inode && $0.isIntact }.map(\.range.upperBound).sorted()
            if let end = ends.dropLast().last { for place in end..<bytes.count { bytes[place] = 0 } }
            kernel.disk.resurrect(bytes, as: copy)
            kernel.note("stale copy of \(path) as \(copy)")
        }
        if kernel.happens(.unreadableSector) { loseSectors(journal.map(\.value), &random) }
    }

    private func loseSectors(_ journal: [SimulatedDisk.Inode], _ random: inout SimulationRandom) {
        // FORMAT, too, where headers of journal files can stand in for it.
        let headersAreWhole = journal.count > 1 && journal.allSatisfy { $0.damage.isEmpty }
        if headersAreWhole, random.chance(oneIn: 8), let format = kernel.disk.entries[History.root + "/FORMAT"] {
            kernel.disk.makeUnreadable(format, 0..<SimulatedDisk.sectorSize)
            kernel.note("FORMAT cannot be read any more")
        } else if let place = placeInCommits(&random) {
            let start = place.offset / SimulatedDisk.sectorSize * SimulatedDisk.sectorSize
            let length = random.pick([1, 1, 8, 32]) * SimulatedDisk.sectorSize
            kernel.disk.makeUnreadable(place.inode, start..<min(start + length, place.inode.content.count))
            kernel.note("\(length) bytes cannot be read any more in file \(place.inode.number) at \(start)")
        }
    }

    /// A byte of a commit that is on the disk.
    private func placeInCommits(
        _ random: inout SimulationRandom
    ) -> (inode: SimulatedDisk.Inode, offset: Int)? {
        let frames = registry.frames.filter { $0.isInLog && $0.isIntact }
        if !frames.isEmpty, random.chance(oneIn: 2) {
            let frame = random.pick(frames)
            // Now and then another block: summary or index.
            if random.chance(oneIn: 4) { return (frame.inode, random.below(frame.inode.content.count)) }
            return (frame.inode, frame.range.lowerBound + random.below(frame.range.count))
        }
        let whole = registry.commits.filter(\.isIntact)
        guard !whole.isEmpty else { return nil }
        // Now and then a header, of which there are two copies.
        if random.chance(oneIn: 6) { return (random.pick(whole).inode, random.below(2 * registry.blockSize)) }
        let commit = random.pick(whole)
        return (commit.inode, commit.range.lowerBound + random.below(commit.range.count))
    }
}
