/// What reads bytes from outside, one case a target of the fuzzer. The raw value names the folder of its corpus in
/// `Fuzz/Corpora`.
public enum FuzzTarget: String, CaseIterable, Sendable {
    // The format on disk
    case rootFormat = "root-format"
    case placements
    case journalFileHeader = "journal-file-header"
    case commit
    case frameHeader = "frame-header"
    case record
    case lz4Body = "lz4-body"
    case controlRecords = "control-records"
    /// Bytes tried for every structure that a scan may meet.
    case anyStructure = "any-structure"
    case names
    /// A tenant segment, through the engine's reader.
    case segment

    // What the engine makes of it
    case cursorState = "cursor-state"
    /// Whole journals, described by pieces: see `JournalRecipe`.
    case journal
    /// Journal and segments as one log: see `LogStep`.
    case log
    /// What an erasure leaves of journal files.
    case fileScrub = "file-scrub"
    /// Damaged segments, written anew.
    case segmentSalvage = "segment-salvage"
    /// What a deep look at a log finds behind the checksums.
    case deepReport = "deep-report"

    // Telemetry
    case otlpProtobuf = "otlp-protobuf"
    case otlpJSON = "otlp-json"
    case otlpDelimited = "otlp-delimited"
    case ndjson
    case inputFormat = "input-format"
    case otlpExport = "otlp-export"
    case otlpResponse = "otlp-response"

    // What its owner writes
    case keyFile = "key-file"

    // The machine
    case mountTable = "mount-table"

    /// Whether an input describes in steps what is read, so that a part of it is only another one.
    public var isRecipe: Bool {
        switch self {
        case .journal, .log, .fileScrub, .segmentSalvage, .deepReport: true
        default: false
        }
    }
}
