/// How telemetry arrives on an input stream. The raw value is what a user names on the command line.
package enum OTLPInputFormat: String, CaseIterable, Sendable {
    /// Found out from the first bytes of the input.
    case automatic = "auto"
    /// Export requests as OTLP/JSON: one document over any number of lines, or one after the other (JSON lines).
    case json = "otlp-json"
    /// One export request as bare protobuf, which ends with the input.
    case protobuf = "otlp-proto"
    /// Export requests as protobuf, each behind its length: four bytes little- or big-endian, or a varint.
    case delimited = "otlp-delimited"
    /// One record a line, kept as it is.
    case ndjson
}
