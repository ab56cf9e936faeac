import Foundation
import TelemetryWAL
import WALFormat
import WALKeys

/// A file with keys: what is read is within bounds, comes back from its own text, and what is refused is refused in one
/// line that names none of its secrets.
func checkKeyFile(_ bytes: [UInt8]) throws(FuzzViolation) {
    let file: KeyFile
    do throws(KeyProviderError) { file = try KeyFile(parsing: Data(bytes), source: "keys") } catch {
        try require(error.description.hasPrefix("keys: "), "an error says where")
        try require(!error.description.contains("\n"), "an error is one line")
        return
    }
    for entry in file.entries {
        try require(entry.identifier > 0, "an identifier is not 0")
        try require((entry.secret == nil) == (entry.state == .forgotten), "who is forgotten has no secret")
        try require(entry.secret?.count ?? KeyFile.secretLength == KeyFile.secretLength, "a secret has its length")
    }
    try require(Set(file.entries.map(\.identifier)).count == file.entries.count, "identifiers differ")
    let again = try? KeyFile(parsing: file.text, source: "keys")
    try require(again?.entries == file.entries, "what was read comes back from its text")
}
