import WALFormat
import WALStorage

/// Turns a turn into bytes. One thread at a time; no I/O, and no lock held.
final class CommitAssembler {
    let format: RootFormat
    private let compressor = LZ4FrameCompressor()

    init(format: RootFormat) { self.format = format }

    private var blockSize: Int { format.blockSize }

    /// What a turn takes on disk.
    struct Lengths {
        var frameHeaders: Int
        var raw: Int
        var frameCount: Int
        /// Upper bound of the commit's length.
        var bound: Int

        init(_ group: StagedGroup?, _ control: ControlFrames, blockSize: Int) {
            frameHeaders = (group?.frameHeadersLength ?? 0) + control.headersLength
            raw = (group?.rawLength ?? 0) + control.rawLength
            frameCount = (group?.frameCount ?? 0) + control.frames.count
            bound = (CommitHeader.length + frameHeaders + raw + (group?.sealLength ?? 0))
                .roundedUp(toMultipleOf: blockSize)
        }
    }

    /// Where the bytes go, and what stands before them.
    struct Order {
        var placement: CommitPlacement
        /// Header and state with which the commit's file begins.
        var beginning: (header: JournalFileHeader, checkpoint: [ControlRecord])?
        /// Whether bodies are compressed where that saves blocks.
        var compresses: Bool
    }

    /// Encodes a slot's turn into its buffer, and sets what is to be written where.
    func assemble(_ slot: CommitSlot, control: ControlFrames, lengths: Lengths, _ order: Order) {
        var placement = order.placement
        var start = 0
        let timestamp = wallClockNanoseconds()
        slot.offset = placement.offset
        slot.beginsFile = order.beginning != nil
        do throws(FormatError) {
            if let (header, checkpoint) = order.beginning {
                let frames = ControlFrames(checkpoint, timestamp: timestamp)
                start = FormatLimits.headerCopies * blockSize
                slot.offset = 0
                slot.buffer.reserve(
                    start
                        + CommitEncoder.bound(
                            frameHeadersLength: frames.headersLength, rawLengths: frames.rawLength,
                            frameCount: frames.frames.count, blockSize: blockSize))
                slot.buffer.withMutableBytes { header.encode(into: &$0, at: 0) }
                let commit = try encode(
                    frames, group: nil, into: slot.buffer, at: start, frameHeadersLength: frames.headersLength,
                    rawLength: frames.rawLength, placement: placement, timestamp: timestamp, flags: .checkpoint,
                    compresses: true)
                slot.commits.append(commit)
                start += commit.commitLength
                placement.offset += UInt64(commit.commitLength)
                placement.commitNumber += 1
                placement.previousChecksum = commit.checksum
            }
            slot.buffer.reserve(
                start
                    + CommitEncoder.bound(
                        frameHeadersLength: lengths.frameHeaders, rawLengths: lengths.raw,
                        frameCount: lengths.frameCount, blockSize: blockSize), keeping: start)
            slot.commits.append(
                try encode(
                    control, group: slot.turn.group, into: slot.buffer, at: start,
                    frameHeadersLength: lengths.frameHeaders, rawLength: lengths.raw, placement: placement,
                    timestamp: timestamp, flags: slot.turn.flags, compresses: order.compresses))
        } catch {
            preconditionFailure("encoding cannot fail with a buffer of its bound: \(error)")
        }
        slot.length = start + slot.commits[slot.commits.count - 1].commitLength
    }

    private func encode(
        _ control: ControlFrames, group: StagedGroup?, into buffer: AlignedBuffer, at base: Int,
        frameHeadersLength: Int, rawLength: Int, placement: CommitPlacement, timestamp: UInt64,
        flags: CommitHeader.Flags,
        compresses: Bool
    ) throws(FormatError) -> CommitHeader {
        var encoder = CommitEncoder(
            at: base, of: format, frameHeadersLength: frameHeadersLength, rawLengths: rawLength,
            compresses: compresses)
        return try buffer.withMutableBytes { (bytes: inout MutableRawSpan) throws(FormatError) in
            for (var header, body) in control.frames {
                try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                    try encoder.add(&header, rawBody: raw, into: &bytes, compressor: compressor)
                }
            }
            if let group {
                for index in 0..<group.frameCount {
                    try group.frames[index].encode(
                        with: &encoder, into: &bytes, compressor: compressor, compresses: compresses,
                        logIdentifier: format.logIdentifier, epoch: placement.epoch)
                }
            }
            return encoder.finish(placement, timestamp: timestamp, flags: flags, into: &bytes)
        }
    }
}
