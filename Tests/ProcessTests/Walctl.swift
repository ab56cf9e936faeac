import Foundation
import TestSupport
import Testing

/// Runs `walctl` as a user would.
func walctl(_ arguments: String..., input: String? = nil) throws -> ProcessResult {
    try walctl(arguments, input: input)
}

func walctl(_ arguments: [String], input: String? = nil) throws -> ProcessResult {
    try run(builtProduct("walctl"), arguments, input: input.map { Data($0.utf8) })
}

/// Runs `walctl` as a user without any rights. Root needs no rights, so the tests of missing ones give root up.
func walctlWithoutRights(_ arguments: String...) throws -> ProcessResult {
    guard getuid() == 0 else { return try run(builtProduct("walctl"), arguments) }
    return try run(
        "/usr/bin/setpriv",
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", walctlForOthers.get()] + arguments)
}

/// A copy that others may run, for the life of this process: the build folder may be closed to them.
private let walctlForOthers = Result { () throws -> String in
    try FileManager.default.copyItem(atPath: builtProduct("walctl"), toPath: walctlCopy)
    atexit { unlink(walctlCopy) }
    guard chmod(walctlCopy, 0o755) == 0 else { throw CocoaError(.fileWriteNoPermission) }
    return walctlCopy
}
private let walctlCopy = "/var/tmp/walctl-without-rights-\(getpid())"

extension ProcessResult {
    /// The command failed as it should: with this code, and one line that says the given words.
    func expectFailure(
        _ status: Int32, saying words: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(self.status == status, "\(error)", sourceLocation: sourceLocation)
        let complaints = error.split(separator: "\n").filter { $0.hasPrefix("walctl: ") }
        #expect(complaints.count == 1, "one line was expected: \(error)", sourceLocation: sourceLocation)
        for word in words {
            #expect(error.contains(word), "\(error) should say \(word)", sourceLocation: sourceLocation)
        }
        #expect(!error.contains("Fatal error"), sourceLocation: sourceLocation)
    }
}

/// The number of records that each tenant ever appended, as `walctl tenants` prints it.
func appendedRecords(_ root: String) throws -> [String: Int] {
    struct Line: Decodable {
        var tenant: String
        var appended: Int
    }
    let result = try walctl("tenants", root, "--format", "json")
    let lines = try JSONDecoder().decode([Line].self, from: Data(result.output.utf8))
    return Dictionary(uniqueKeysWithValues: lines.map { ($0.tenant, $0.appended) })
}
