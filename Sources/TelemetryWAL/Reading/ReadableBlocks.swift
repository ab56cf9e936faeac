import WALFormat
import WALStorage

/// Reading around bad sectors: what a device fails to give costs its own blocks and nothing beside them.
extension StorageFile {
    /// Reads a range like `read`. If the device fails (`.ioFailure`), reads it block by block: blocks that cannot be
    /// read are zeros in the buffer and are added to `unreadable`, which is in order and joined where they touch.
    /// Returns how many bytes there are.
    func readAround(
        _ unreadable: inout [Range<UInt64>], into buffer: AlignedBuffer, at position: Int, length: Int,
        from offset: UInt64, blockSize: Int
    ) throws(StorageError) -> Int {
        do throws(StorageError) {
            return try read(into: buffer, at: position, length: length, from: offset)
        } catch  where error.code != .ioFailure { throw error } catch {
            #if Simulation
                if DeliberateBug.isActive(.giveUpAtUnreadableBlock) { throw error }
            #endif
        }
        var done = 0
        while done < length {
            let block = offset + UInt64(done)
            let here = position + done
            var count = blockSize
            do throws(StorageError) {
                count = try read(into: buffer, at: here, length: blockSize, from: block)
            } catch {
                if error.code != .ioFailure { throw error }
                buffer.withMutableBytes { $0.zero(here..<here + blockSize) }
                if let last = unreadable.last, last.upperBound == block {
                    unreadable[unreadable.count - 1] = last.lowerBound..<block + UInt64(blockSize)
                } else {
                    unreadable.append(block..<block + UInt64(blockSize))
                }
            }
            done += count
            if count < blockSize { break }
        }
        return done
    }

    /// The copies of a journal file's header that are whole.
    func journalHeaders(blockSize: Int) throws(StorageError) -> [JournalFileHeader] {
        let length = FormatLimits.headerCopies * blockSize
        let buffer = AlignedBuffer(capacity: length, alignment: max(4096, blockSize))
        var unreadable: [Range<UInt64>] = []
        let count = try readAround(
            &unreadable, into: buffer, at: 0, length: length, from: 0, blockSize: blockSize)
        return buffer.withBytes { bytes in
            (0..<FormatLimits.headerCopies).compactMap { copy in
                try? JournalFileHeader.decode(
                    bytes.extracting(0..<count), at: copy * blockSize, blockSize: blockSize)
            }
        }
    }
}
