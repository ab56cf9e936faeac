import ArgumentParser
import Foundation
import TextTable
import WALFormat

/// How tables are printed.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
}

/// The option that every command with a table has.
struct OutputOptions: ParsableArguments {
    @Option(help: "How to print: table or json.")
    var format: OutputFormat = .table
}

/// A table of text.
struct Table {
    var headers: [String]
    /// Columns, by index, whose cells are numbers and stand to the right.
    var numeric: Set<Int> = []
    var rows: [[String]] = []

    func print() {
        guard !rows.isEmpty else {
            Swift.print(headers.joined(separator: "  "))
            return
        }
        let table = TextTable<[String]> { row in
            headers.enumerated().map { index, header in
                Column(title: header, value: row[index], align: numeric.contains(index) ? .right : .left)
            }
        }
        Swift.print(table.string(for: rows, style: Style.simple) ?? "")
    }
}

/// Prints a value as JSON, keys sorted.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    Swift.print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Bytes for people: three significant digits and a binary unit.
func readable(bytes: UInt64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
        value /= 1024
        unit += 1
    }
    return unit == 0 ? "\(bytes) B" : String(format: value < 10 ? "%.2f %@" : "%.1f %@", value, units[unit])
}

/// A length of time for people: its largest unit, and the next.
func readable(seconds: Double) -> String {
    let whole = Int(min(max(0, seconds), 1e9))
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    if whole < 86400 { return "\(whole / 3600) h \(whole % 3600 / 60) min" }
    return "\(whole / 86400) d \(whole % 86400 / 3600) h"
}

/// A timestamp of the log as ISO 8601, `-` for none.
func readable(time nanoseconds: UInt64) -> String {
    guard nanoseconds > 0 else { return "-" }
    let date = Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)
    return date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
}

/// A tenant's name for a table: control characters would let a name draw on the terminal.
func readable(name: TenantName) -> String { readable(text: name.description) }

/// The same for whatever else was named by others, such as files.
func readable(text: String) -> String {
    String(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : Character($0) })
}
