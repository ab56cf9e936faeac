import Foundation
import SimulatedKeys
import TelemetryWAL
import WALFormat

/// Puts a simulated log's files on a real disk, with what the engine reads in them.
enum Export {
    /// One record a line: tenant, sequence number, timestamp (the record's number), length.
    static func write(_ disk: SimulatedDisk, _ look: History.Look, _ keys: SimulatedKeys, to folder: String) throws {
        let manager = FileManager.default
        try? manager.removeItem(atPath: folder)
        for (path, inode) in disk.entries.sorted(by: { $0.key.count < $1.key.count })
        where path.hasPrefix(History.root) {
            let target = folder + "/wal" + path.dropFirst(History.root.count)
            if inode.isDirectory {
                try manager.createDirectory(atPath: target, withIntermediateDirectories: true)
            } else {
                try Data(inode.content).write(to: URL(fileURLWithPath: target))
            }
        }
        let records = look.records.map { "\($0.0)\t\($0.1)\t\($0.2)\t\($0.3)\n" }.joined()
        try Data(records.utf8).write(to: URL(fileURLWithPath: folder + "/records"))
        // One key a line: identifier, tenant, secret, or nothing for one that was destroyed.
        let secrets = keys.secrets.map { "\($0.identifier)\t\($0.tenant)\t\($0.secret.map { "\($0)" } ?? "")\n" }
        try Data(secrets.joined().utf8).write(to: URL(fileURLWithPath: folder + "/keys"))
        guard let report = look.report else { return }
        let findings = look.findings.map {
            "\($0.what.rawValue)\t\($0.file)\t\($0.fileSequence)\t\($0.byteRange.lowerBound)\t\($0.byteRange.upperBound)\n"
        }
        try Data(findings.joined().utf8).write(to: URL(fileURLWithPath: folder + "/findings"))
        try Data("\(report.tornTailBytes)\t\(report.wasClosed)\n".utf8)
            .write(to: URL(fileURLWithPath: folder + "/end"))
    }
}
