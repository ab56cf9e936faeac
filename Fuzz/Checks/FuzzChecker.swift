// The checks behind the fuzzers, apart from libFuzzer, so that tests replay the corpora through the same code.
//
// What decodes is held against properties, not only run: what was read lies within bounds, and written again it gives
// the bytes that it was read from; what arrives in pieces is the same as what arrives at once; what a log holds can be
// read, and it goes on behind that. Checksums are made right first where the input asks for it, or nothing behind them
// would ever be reached.

import WALFormat

/// Runs targets on bytes that may be anything. Holds liblz4's contexts, which cost more than most inputs do. One thread
/// at a time.
public final class FuzzChecker {
    let decompressor = LZ4FrameDecompressor()
    let compressor = LZ4FrameCompressor()

    public init() {}

    /// Runs one target. Throws where a property does not hold; what crashes, hangs or reads outside of its memory is
    /// for the caller's tools to notice. Most inputs of a few kilobytes take microseconds, journals and logs a few milliseconds.
    public func check(_ target: FuzzTarget, _ bytes: UnsafeRawBufferPointer) throws(FuzzViolation) {
        switch target {
        case .rootFormat: try checkRootFormat(FuzzInput(bytes))
        case .placements: try checkPlacements(FuzzInput(bytes))
        case .journalFileHeader: try checkJournalFileHeader(FuzzInput(bytes))
        case .commit: try checkCommit(FuzzInput(bytes))
        case .frameHeader: try checkFrameHeader(FuzzInput(bytes))
        case .record: try checkRecords(FuzzInput(bytes), isControl: false)
        case .lz4Body: try checkLZ4Body(FuzzInput(bytes))
        case .controlRecords: try checkRecords(FuzzInput(bytes), isControl: true)
        case .anyStructure: try checkAnyStructure(FuzzInput(bytes))
        case .names: try checkName(Array(bytes))
        case .segment: try checkSegment(FuzzInput(bytes))
        case .cursorState: try checkCursorState(FuzzInput(bytes))
        case .journal: try checkJournal(Array(bytes))
        case .log: try checkLog(Array(bytes))
        case .fileScrub: try checkFileScrub(Array(bytes))
        case .segmentSalvage: try checkSegmentSalvage(Array(bytes))
        case .deepReport: try checkDeepReport(Array(bytes))
        case .otlpProtobuf: try checkTelemetry(Array(bytes), .protobuf)
        case .otlpJSON: try checkTelemetry(Array(bytes), .json)
        case .otlpDelimited: try checkTelemetry(Array(bytes), .delimited)
        case .ndjson: try checkTelemetry(Array(bytes), .ndjson)
        case .inputFormat: try checkTelemetry(Array(bytes), .automatic)
        case .otlpExport: try checkExport(Array(bytes))
        case .otlpResponse: try checkResponse(Array(bytes))
        case .mountTable: try checkMountTable(Array(bytes))
        case .keyFile: try checkKeyFile(Array(bytes))
        }
    }

    /// As recovery meets bytes: unknown, and tried for whatever they might be.
    private func checkAnyStructure(_ input: FuzzInput) throws(FuzzViolation) {
        try checkCommit(input)
        try checkFrameHeader(input)
        try checkJournalFileHeader(input)
        try checkRootFormat(input)
        try checkPlacements(input)
        try checkSegment(input)
        try checkRecords(input, isControl: true)
        try checkRecords(input, isControl: false)
    }
}

/// A property that did not hold.
public struct FuzzViolation: Error, CustomStringConvertible {
    public let description: String
}

/// What must hold of everything decoded. `what` says it as it should be.
func require(_ condition: Bool, _ what: @autoclosure () -> String) throws(FuzzViolation) {
    if !condition { throw FuzzViolation(description: "violated: \(what())") }
}
