import Foundation

/// Looks for pieces of payloads in files, whatever the files are: what a raw scan of a disk would find.
public struct PayloadScan {
    /// The shortest piece that counts, bytes.
    public static let pieceLength = 16

    private struct Piece {
        var first: UInt64
        var second: UInt64

        /// Two pieces that meet by chance: one time in 2^64.
        var hash: UInt64 { (first ^ second &* 0x9E37_79B9_7F4A_7C15) &* 0xC2B2_AE3D_27D4_EB4F }
    }

    /// Their hashes.
    private var pieces: Set<UInt64> = []
    /// Bytes from one place that is looked at to the next. A run of a piece's length and `step - 1` more is found
    /// wherever it lies; no payload is shorter than that.
    private let step: Int
    /// One bit for each of the pieces' hashes, so that few bytes cost more than a look.
    private var filter = [UInt64](repeating: 0, count: 1 << 18)

    public init(_ payloads: [[UInt8]]) {
        let shortest = payloads.map(\.count).min() ?? 0
        step = max(1, min(16, shortest - Self.pieceLength + 1))
        for payload in payloads {
            payload.withUnsafeBytes { bytes in
                // Not a range: without optimization it is slow.
                var next = 0
                while next <= bytes.count - Self.pieceLength {
                    let piece = Self.piece(bytes, next)
                    next += 1
                    // Runs of one byte are everywhere.
                    if piece.first == piece.second, piece.first & 0xFF == (piece.first >> 8) & 0xFF { continue }
                    let hash = piece.hash
                    pieces.insert(hash)
                    let bit = Int(truncatingIfNeeded: hash >> 40)
                    filter[bit >> 6] |= 1 << UInt64(bit & 63)
                }
            }
        }
    }

    private static func piece(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Piece {
        Piece(
            first: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
            second: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
    }

    /// Places where bytes hold a piece, at most so many.
    public func places(in bytes: UnsafeRawBufferPointer, most: Int = 3) -> [Int] {
        var found: [Int] = []
        filter.withUnsafeBufferPointer { filter in
            var next = 0
            while next <= bytes.count - Self.pieceLength {
                let offset = next
                next += step
                let piece = Self.piece(bytes, offset)
                // Runs of zeros are most of what an erasure leaves, and are no piece.
                if piece.first == 0, piece.second == 0 { continue }
                let hash = piece.hash
                let bit = Int(truncatingIfNeeded: hash >> 40)
                guard filter[bit >> 6] & 1 << UInt64(bit & 63) != 0, pieces.contains(hash) else { continue }
                found.append(offset)
                if found.count == most { return }
            }
        }
        return found
    }

    /// The files below a directory that hold a piece, with places in them. A file that has another name by the time that
    /// it is opened is looked for again.
    public func places(below directory: String) throws -> [String: [Int]] {
        var found: [String: [Int]] = [:]
        var seen: Set<String> = []
        var hasMissed: Bool
        repeat {
            hasMissed = false
            for path in try FileManager.default.subpathsOfDirectory(atPath: directory) where !seen.contains(path) {
                var isDirectory: ObjCBool = false
                let whole = directory + "/" + path
                if FileManager.default.fileExists(atPath: whole, isDirectory: &isDirectory), isDirectory.boolValue {
                    continue
                }
                let data: Data
                do { data = try Data(contentsOf: URL(fileURLWithPath: whole)) } catch {
                    if FileManager.default.fileExists(atPath: whole) { throw error }
                    hasMissed = true
                    continue
                }
                seen.insert(path)
                let places = data.withUnsafeBytes { self.places(in: $0) }
                if !places.isEmpty { found[path] = places }
            }
        } while hasMissed
        return found
    }
}
