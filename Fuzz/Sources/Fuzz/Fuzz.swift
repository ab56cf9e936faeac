import Foundation
import FuzzChecks
import WALFormat

// One program for all targets: WAL_FUZZ_TARGET says which, `tools/fuzz --list` which there are. Building one for each
// would link the engine, instrumented, a dozen times.

private enum Choice {
    case target(FuzzTarget)
    case canary

    /// As the environment says; read once.
    static let made: Choice = {
        let name = getenv("WAL_FUZZ_TARGET").map { String(cString: $0) } ?? ""
        if name == "canary" { return .canary }
        if let target = FuzzTarget(rawValue: name) { return .target(target) }
        let names = FuzzTarget.allCases.map(\.rawValue).joined(separator: ", ")
        let advice = "WAL_FUZZ_TARGET is \"\(name)\"; give one of canary, \(names)\n"
        FileHandle.standardError.write(Data(advice.utf8))
        exit(2)
    }()
}

// libFuzzer calls from one thread.
nonisolated(unsafe) private let checker = FuzzChecker()

@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    switch Choice.made {
    case .canary: canary(bytes)
    case .target(let target):
        do throws(FuzzViolation) { try checker.check(target, bytes) } catch { fatalError("\(error)") }
    }
    return 0
}

/// Must crash. A run of fuzzers that finds nothing says something only while this one is found out: were coverage lost
/// to the order of some flags, four bytes would take 2^32 guesses, and with it they take a second.
private func canary(_ input: UnsafeRawBufferPointer) {
    // Through WALFormat, so that a module built without coverage shows here too.
    guard let name = try? TenantName(utf8: Array(input)) else { return }
    let bytes = name.utf8
    if bytes.count >= 4, bytes[0] == UInt8(ascii: "W") {
        if bytes[1] == UInt8(ascii: "A"), bytes[2] == UInt8(ascii: "L") {
            if bytes[3] == UInt8(ascii: "!") { fatalError("the canary was found, as it should be") }
        }
    }
}
