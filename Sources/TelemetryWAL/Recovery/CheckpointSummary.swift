import WALFormat
import WALStorage

/// What the checkpoints at the files' beginnings say, so that files before the newest need not be read: a tenant's
/// records in a file are those between its next sequence number there and at the beginning of the file behind it.
struct CheckpointSummary {
    /// The log's state before each file, from the first on.
    private(set) var states: [LogState]
    /// Index of the first file that has to be read.
    var firstToRead: Int { states.count - 1 }

    /// Reads the checkpoints of a chain's files. Nil where anything is not as a log in order has it: then the whole
    /// journal is to be read, which tells what is wrong.
    init?<Storage: JournalStorage>(_ chain: JournalChain, storage: Storage, format: RootFormat) {
        let links = chain.links
        guard links.count > 1, chain.missing.isEmpty else { return nil }
        for (index, link) in links.enumerated() {
            if link.isHeaderLost || link.size < link.header.capacity { return nil }
            if index > 0 {
                let previous = link.header.previous
                let before = links[index - 1].header
                guard previous.fileSequence == before.fileSequence, previous.epoch == before.epoch,
                    previous.lastCommit >= before.firstCommit, link.header.recordsBefore >= before.recordsBefore,
                    previous.endOffset > before.commitsStart, previous.endOffset <= before.capacity,
                    previous.endOffset.isMultiple(of: UInt64(format.blockSize))
                else { return nil }
            }
        }
        let buffer = AlignedBuffer(capacity: 64 << 10, alignment: max(4096, format.blockSize))
        states = []
        for (index, link) in links.enumerated() {
            guard let state = Self.state(before: link, storage: storage, format: format, buffer: buffer) else {
                // The newest file's first write may have been torn: then the file before it is the one to read.
                guard index == links.count - 1, states.count > 1 else { return nil }
                break
            }
            guard state.sequenceFloor == link.header.sequenceFloor else { return nil }
            if let before = states.last {
                // Numbers that were skipped after a loss are no records: then only the files tell what they hold.
                let records = link.header.recordsBefore - links[index - 1].header.recordsBefore
                guard Self.numbersGiven(from: before, to: state) == records else { return nil }
            }
            states.append(state)
        }
    }

    /// How many sequence numbers lie between two states; nil where they run backwards.
    private static func numbersGiven(from before: LogState, to after: LogState) -> UInt64? {
        var sum: UInt64 = 0
        for tenant in after.tenants {
            let first = before.index(of: tenant.name).map { before.tenants[$0].nextSequence } ?? before.sequenceFloor
            guard tenant.nextSequence >= first else { return nil }
            sum = sum.addingSaturated(tenant.nextSequence - first)
        }
        return sum
    }

    /// The state in a file's checkpoint, nil where it is not whole.
    private static func state<Storage: JournalStorage>(
        before link: JournalChain.Link, storage: Storage, format: RootFormat, buffer: AlignedBuffer
    ) -> LogState? {
        do {
            let file = try storage.open("journal/" + link.name, forWriting: false)
            let start = link.header.commitsStart
            var count = try file.read(
                into: buffer, at: 0, length: min(buffer.capacity, Int(link.header.capacity - start)), from: start)
            guard
                case .valid(let header) = buffer.withBytes({
                    CommitHeader.read($0.extracting(0..<count), at: 0, of: format)
                }),
                header.epoch == link.header.epoch, header.fileSequence == link.header.fileSequence,
                header.offset == start, header.commitNumber == link.header.firstCommit,
                header.flags.contains(.checkpoint), header.previousChecksum == link.header.previous.lastChecksum,
                start + UInt64(header.commitLength) <= link.header.capacity
            else { return nil }
            if header.commitLength > count {
                buffer.reserve(header.commitLength)
                count = try file.read(into: buffer, at: 0, length: header.commitLength, from: start)
            }
            guard count >= header.commitLength else { return nil }
            return try buffer.withBytes { window in
                let bytes = window.extracting(0..<header.commitLength)
                let decompressor = LZ4FrameDecompressor()
                var state = LogState()
                for frame in try CommitDecoder.frames(of: header, in: bytes) {
                    guard frame.header.isControl else { return nil }
                    let body = try CommitDecoder.rawBody(of: frame, in: bytes, decompressor: decompressor)
                    let records = try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                        try ControlRecord.decodeAll(raw, count: frame.header.recordCount)
                    }
                    for record in records { state.apply(record, at: header.timestamp) }
                }
                return state
            }
        } catch { return nil }
    }
}

extension RecoveryMachine {
    /// Takes the next file of the chain without having read it: what it holds follows from the state before it and
    /// before the file behind it. `state` is that before the first file that is read.
    mutating func skip(before: LogState, after: LogState) {
        let index = takenFiles
        takenFiles += 1
        let link = chain.links[index]
        let next = chain.links[index + 1].header
        var file = LiveFile(name: link.name, header: link.header, endOffset: next.previous.endOffset)
        file.isSummarised = true
        file.hasAcceptedCommit = true
        for tenant in after.tenants {
            let first =
                before.index(of: tenant.name).map { before.tenants[$0].nextSequence } ?? before.sequenceFloor
            guard tenant.nextSequence > first, let place = state.index(of: tenant.name) else { continue }
            state.refineBacklog(
                at: tenant.nextSequence - 1, length: tenant.backlog.appendedLength, received: next.created,
                tenant: place)
            file.extents.add(
                TenantExtent(
                    firstSequence: first, lastSequence: tenant.nextSequence - 1, firstOffset: link.header.commitsStart,
                    lastOffset: next.previous.endOffset), ofTenant: place)
        }
        report.filesSummarised += 1
        expectedCommit = next.firstCommit
        chainChecksum = next.previous.lastChecksum
        recordsSoFar = next.recordsBefore
        knowsState = true
        previous = next.previous
        durableThrough = next.previous.lastCommit
        files.append(file)
    }
}
