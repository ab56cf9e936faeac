import WALFormat

// One input is a byte that chooses, and the bytes to decode:
//
//   bit 0        1: make the checksums right before decoding, or nothing behind them would ever be reached
//   bits 1…3     what the bytes are taken for, see `Target`
//   bit 4        headers of whole blocks: 1: decode the bytes as they are, 0: fill up with zeros to a block first
//
// `Fuzz/run` makes seeds in this shape from Tests/Fixtures/golden.

private enum Target: UInt8 {
    case commit, frameHeader, journalFileHeader, rootFormat, controlRecords, records, lz4Frame
    case allAtOnce
}

@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    guard let choice = bytes.first, let target = Target(rawValue: choice >> 1 & 7) else { return 0 }
    let input = Input(bytes.dropFirst(), isSealed: choice & 1 == 1, isPadded: choice & 16 == 0)
    switch target {
    case .commit: checkCommit(input)
    case .frameHeader: checkFrameHeader(input)
    case .journalFileHeader: checkJournalFileHeader(input)
    case .rootFormat: checkRootFormat(input)
    case .controlRecords: checkControlRecords(input)
    case .records: checkRecords(input)
    case .lz4Frame: checkLZ4Frame(input)
    case .allAtOnce:
        // As recovery meets bytes: unknown, and tried for whatever they might be.
        checkCommit(input)
        checkFrameHeader(input)
        checkJournalFileHeader(input)
        checkRootFormat(input)
        checkControlRecords(input)
    }
    return 0
}

/// What must hold of everything decoded. Unlike `precondition` it says what failed in release builds too.
func require(_ condition: Bool, _ what: StaticString) {
    if !condition { fatalError("violated: \(what)") }
}
