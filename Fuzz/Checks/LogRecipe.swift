// How bytes describe a log of a journal and of segments: a recipe as for a journal (`JournalStep`), among whose steps
// are some for segments. A byte from 128 on is one of these, its lower bits modulo their number; any other is a step of
// the journal's.

/// What is done to the segments of a log in the making. Arguments are bytes if nothing else is said.
enum LogStep: UInt8, CaseIterable {
    /// A tenant's next records get a segment, as the compactor makes it: tenant, count of frames, choices
    /// (`LogBuilder.Moving`).
    case move
    /// A tenant's last two segments become one: tenant, 1 for a merge that left them beside it.
    case merge
    /// Bytes written over: segment, offset (two bytes), count, the bytes.
    case overwrite
    /// Zeros: segment, block, count of blocks.
    case zero
    /// A segment cut: segment, blocks, 1 for a length that is no whole number of blocks.
    case cut
    case remove
    /// Another name: segment, first number, last number.
    case rename
    /// The same name in another tenant's directory: segment, tenant.
    case misplace
    /// Blocks that the device fails to read: segment, block, count.
    case fail
    /// A field of the summary set, its checksum made right: segment, copies, field, number.
    case patchSummary
    /// A field of the index set, checksums made right: segment, offset (two bytes), field, number.
    case patchIndex
    /// A field of a frame's header set, checksums made right: segment, frame, field, number.
    case patchFrame
    /// A byte of a frame's body, checksums made right: segment, frame, offset, the byte.
    case patchBody
    /// A file that is no segment: tenant, what for a name it has.
    case stray
}
