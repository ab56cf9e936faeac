import ArgumentParser
import CWALLinux
import Foundation
import Logging

/// `walctl`: appends to, looks into, verifies and replays a telemetry WAL, and judges the device below it. Each command is a file of its own; this
/// one maps how they end to exit codes.
@main
struct Walctl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walctl",
        abstract: "Append to, inspect, verify and replay a crash-safe telemetry write-ahead log.",
        discussion: """
            ROOT, the first argument of every command, is the log's directory.

            EXAMPLES
              walctl append /var/lib/agent/wal spans.json
              walctl tenants /var/lib/agent/wal
              walctl cat /var/lib/agent/wal --tenant acme --limit 5
              walctl verify /var/lib/agent/wal
              walctl replay /var/lib/agent/wal --to otlp-http://127.0.0.1:4318
              walctl doctor /var/lib/agent/wal

            EXIT CODES
              0  fine
              1  findings: damage, records that were dropped, refused or cannot be decrypted, files that an erasure or repair
                 leaves alone, a journal that cannot be read, or a device that needs a change
              2  usage: the command line is wrong, or ROOT is no log
              3  I/O: a file, device or receiver failed, or another process has the lock
            """,
        version: "0.1.0",
        subcommands: [
            AppendCommand.self, CatCommand.self, CompactCommand.self, DeadLettersCommand.self, DoctorCommand.self,
            EraseCommand.self, InspectCommand.self, KeysCommand.self, PlacementCommand.self, RedriveCommand.self,
            RepairCommand.self, ReplayCommand.self,
            RetentionCommand.self, SegmentsCommand.self, TenantsCommand.self, VerifyCommand.self,
        ])

    static func main() async {
        // What one thread reads another lets go of: an arena for each would keep much that nobody uses.
        cwal_share_memory_arenas()
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = .error
            return handler
        }
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let status as ExitStatus {
            Foundation.exit(status.rawValue)
        } catch let failure as CommandFailure {
            Terminal.complain(failure.message)
            Foundation.exit(failure.status.rawValue)
        } catch {
            // What ArgumentParser throws: help and version end well, all else is usage.
            if exitCode(for: error).isSuccess {
                print(fullMessage(for: error))
                Foundation.exit(ExitStatus.fine.rawValue)
            }
            Terminal.write(fullMessage(for: error) + "\n")
            Foundation.exit(ExitStatus.usage.rawValue)
        }
    }
}
