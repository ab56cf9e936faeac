import Foundation
import Testing

/// SPEC.md, read as a test reads it: its tables and its dumps are held against the code.
enum Specification {
    /// The package's root: the nearest directory above this file that holds SPEC.md.
    private static let root: URL? = sequence(
        first: URL(filePath: #filePath).deletingLastPathComponent(),
        next: { $0.pathComponents.count > 1 ? $0.deletingLastPathComponent() : nil }
    ).first { FileManager.default.fileExists(atPath: $0.appending(path: "SPEC.md").path()) }

    /// The lines of a file of the package.
    static func lines(of path: String) throws -> [String] {
        let root = try #require(root, "there is no SPEC.md above \(#filePath)")
        return try String(contentsOf: root.appending(path: path), encoding: .utf8).components(separatedBy: "\n")
    }

    /// The rows of all tables: cells without blanks and backticks around them.
    static func tableRows() throws -> [[String]] {
        try lines(of: "SPEC.md").filter { $0.hasPrefix("|") }.map { line in
            line.dropFirst().split(separator: "|", omittingEmptySubsequences: false).map {
                $0.trimmingCharacters(in: CharacterSet(charactersIn: " `"))
            }
        }
    }

    /// The bytes of every fenced block that is a hex dump, as `xxd` or `hexdump -C` print it: an offset, then up to
    /// 16 bytes; what follows them is for people. Lines that are left out (`*`) are zeros.
    static func hexDumps() throws -> [[UInt8]] {
        try lines(of: "SPEC.md").split { $0.hasPrefix("```") }.compactMap { block in
            let rows = block.compactMap(row)
            guard rows.count >= 2, rows[0].offset == 0 else { return nil }
            var bytes: [UInt8] = []
            for (offset, part) in rows {
                bytes += [UInt8](repeating: 0, count: max(0, offset - bytes.count))
                bytes += part
            }
            return bytes
        }
    }

    private static func row(_ line: String) -> (offset: Int, bytes: [UInt8])? {
        guard let match = line.prefixMatch(of: /([0-9a-fA-F]{4,8}):? +/), let offset = Int(match.1, radix: 16) else {
            return nil
        }
        var bytes: [UInt8] = []
        for word in line[match.range.upperBound...].split(separator: " ") {
            guard bytes.count < 16, word.count.isMultiple(of: 2), word.allSatisfy(\.isHexDigit) else { break }
            var digits = word[...]
            while let byte = UInt8(digits.prefix(2), radix: 16) {
                bytes.append(byte)
                digits = digits.dropFirst(2)
            }
        }
        return bytes.isEmpty ? nil : (offset, bytes)
    }
}
