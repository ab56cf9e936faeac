import ArgumentParser
import Foundation
import TelemetryWAL
import WALFormat
import WALKeys

/// `walctl keys`: makes and changes key files.
struct KeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Make and change the file with the keys that records are encrypted with.",
        discussion: """
            A key is one tenant's, or that of all tenants without a key of their own. New records are encrypted with
            the current one. A writer that runs takes notice of a changed file within a second or so.

            EXAMPLES
              walctl keys add wal.keys                     one key for everybody
              walctl keys add wal.keys --tenant acme       its own key for acme; given again, it is rotated
              walctl keys forget wal.keys 2                what was encrypted with key 2 is gone for good
              walctl append wal spans.json --key-file wal.keys
            """,
        subcommands: [AddKeyCommand.self, ForgetKeyCommand.self, ListKeysCommand.self])
}

/// `walctl keys add`: a new current key.
struct AddKeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a random key, which becomes the current one; make the file if need be.",
        discussion: """
            The key that was current so far is retired: it is still needed for what was encrypted with it.

            EXAMPLES
              walctl keys add wal.keys
              walctl keys add wal.keys --tenant acme
            """)

    @Argument(help: ArgumentHelp("The key file.", valueName: "file"))
    var file: String
    @Option(help: "Whose key; of all tenants without a key of their own unless told.")
    var tenant: String?

    func run() throws {
        let name = try tenant.map { try tenantName($0, option: "--tenant") }
        var keys = try StoredKeys(file, makesFile: true)
        for index in keys.file.entries.indices
        where keys.file.entries[index].tenant == name && keys.file.entries[index].state == .current {
            keys.file.entries[index].state = .retired
        }
        let last = keys.file.entries.map(\.identifier).max() ?? 0
        guard last < UInt64.max else {
            throw CommandFailure("\(file): no identifier above \(last) is left", .usage)
        }
        var secret = Data(count: KeyFile.secretLength)
        var generator = SystemRandomNumberGenerator()
        for index in secret.indices { secret[index] = generator.next() }
        keys.file.entries.append(.init(identifier: last + 1, tenant: name, state: .current, secret: secret))
        try keys.write()
        print("key \(last + 1) is current for \(tenant.map { "tenant \($0)" } ?? "all tenants without their own")")
    }
}

/// `walctl keys forget`: destroys a key, and with it what it encrypted.
struct ForgetKeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Destroy a key, and with it all records that were encrypted with it.",
        discussion: """
            The key's secret leaves the file; its identifier stays, so that readers know that they need not wait for
            it. What was encrypted with it can be read by nobody from then on, wherever copies of it are: as long as
            no copy of the file has the secret. The file's old bytes may still be on the disk; keep key files where
            that does not matter. A tenant whose current key is forgotten is refused until it gets another.

            EXAMPLES
              walctl keys list wal.keys
              walctl keys forget wal.keys 2
            """)

    @Argument(help: ArgumentHelp("The key file.", valueName: "file"))
    var file: String
    @Argument(help: "The key's identifier.")
    var identifier: UInt64
    @Flag(help: "Do not ask.")
    var yes = false

    func run() throws {
        var keys = try StoredKeys(file)
        guard let index = keys.file.entries.firstIndex(where: { $0.identifier == identifier }) else {
            throw CommandFailure("\(file): there is no key \(identifier)", .usage)
        }
        if !yes {
            guard isatty(STDIN_FILENO) == 1 else {
                throw CommandFailure(
                    "say --yes: nobody can be asked whether to destroy what key \(identifier) encrypted", .usage)
            }
            Terminal.write("Destroy all records that were encrypted with key \(identifier)? Type yes: ")
            guard readLine() == "yes" else { throw CommandFailure("nothing was changed", .usage) }
        }
        keys.file.entries[index].state = .forgotten
        keys.file.entries[index].secret = nil
        try keys.write()
        print("key \(identifier) is forgotten")
    }
}

/// `walctl keys list`: what keys there are, without their secrets.
struct ListKeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the keys of a file. Prints no secret.",
        discussion: """
            EXAMPLES
              walctl keys list wal.keys
              walctl keys list wal.keys --format json
            """)

    @Argument(help: ArgumentHelp("The key file.", valueName: "file"))
    var file: String
    @OptionGroup var output: OutputOptions

    private struct Line: Encodable {
        var identifier: UInt64
        /// Absent: all tenants' without a key of their own.
        var tenant: String?
        var state: String
    }

    func run() throws {
        let lines = try StoredKeys(file, changesFile: false).file.entries.map {
            Line(identifier: $0.identifier, tenant: $0.tenant.map { readable(name: $0) }, state: $0.state.rawValue)
        }
        if output.format == .json { return try printJSON(lines) }
        var table = Table(headers: ["key", "tenant", "state"], numeric: [0])
        for line in lines { table.rows.append(["\(line.identifier)", line.tenant ?? "(others)", line.state]) }
        table.print()
    }
}

/// A key file that is to be changed: whole or not at all.
private struct StoredKeys {
    private let path: String
    var file: KeyFile

    /// `changesFile`: others that want to, wait until this process ends.
    init(_ path: String, makesFile: Bool = false, changesFile: Bool = true) throws(CommandFailure) {
        self.path = path
        if changesFile {
            do throws(KeyProviderError) { try KeyFile.beginChange(of: path) } catch {
                throw CommandFailure(error.description, .io)
            }
        }
        var status = stat()
        if unsafe stat(path, &status) != 0 {
            guard makesFile, errno == ENOENT else {
                throw CommandFailure("\(path): \(unsafe String(cString: strerror(errno)))", .io)
            }
            file = KeyFile()
            return
        }
        do throws(KeyProviderError) { file = try KeyFile(contentsOf: path) } catch {
            throw CommandFailure(error.description, .usage)
        }
    }

    /// Writes the file under another name first, for its owner only. What it would refuse to read is not written.
    func write() throws(CommandFailure) {
        do throws(KeyProviderError) {
            try file.check(source: path)
            try file.write(to: path)
        } catch { throw CommandFailure(error.description, .io) }
    }
}
