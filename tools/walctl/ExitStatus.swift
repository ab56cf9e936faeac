import TelemetryWAL
import WALFormat
import WALStorage

/// How a command ends. Thrown where there is nothing left to say.
enum ExitStatus: Int32, Error {
    case fine = 0
    case findings = 1
    case usage = 2
    case io = 3
}

/// A command's failure: one line for the user, and the exit code.
struct CommandFailure: Error {
    var message: String
    var status: ExitStatus

    init(_ message: String, _ status: ExitStatus) {
        self.message = message
        self.status = status
    }

    init(_ error: WALError) {
        let status: ExitStatus =
            switch error {
            case .invalidName, .notALog, .invalidOption, .unknownTenant: .usage
            case .recordTooLarge, .batchTooLarge, .tooManyTenants, .tooManySubscribers, .damaged, .dropped,
                .keyForgotten, .keyUnavailable:
                .findings
            case .placementChanging, .journalUnavailable, .stagingFull, .tenantFull, .journalFull, .storage, .failed,
                .closed, .unsupportedFormat:
                .io
            }
        self.init("\(error)", status)
    }
}

/// Runs a part of a command, with the log's errors as the command's.
func failing<Value>(_ body: () throws(WALError) -> Value) throws(CommandFailure) -> Value {
    do throws(WALError) { return try body() } catch { throw CommandFailure(error) }
}

/// The same for work that suspends.
func failing<Value: Sendable>(_ body: () async throws(WALError) -> Value) async throws(CommandFailure) -> Value {
    do throws(WALError) { return try await body() } catch { throw CommandFailure(error) }
}

/// A name from the command line.
func tenantName(_ text: String, option: String) throws(CommandFailure) -> TenantName {
    do throws(TenantNameError) { return try TenantName(text) } catch {
        throw CommandFailure("\(option): \(error)", .usage)
    }
}
