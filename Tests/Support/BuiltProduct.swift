import Foundation

/// The path of an executable that was built together with the tests.
public func builtProduct(_ name: String) -> String {
    // The test bundle lies beside the products, whichever way it was started.
    let bundle = CommandLine.arguments.first { $0.contains(".xctest") }
    var folder = bundle.map { URL(fileURLWithPath: $0) } ?? URL(fileURLWithPath: CommandLine.arguments[0])
    while folder.path != "/" {
        folder.deleteLastPathComponent()
        let candidate = folder.appendingPathComponent(name).path
        if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
    }
    fatalError("\(name) is not built; run swift build --build-tests")
}

/// The project's top folder.
public let projectFolder: String = {
    var folder = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { folder.deleteLastPathComponent() }
    return folder.path
}()

/// How a process ended, and what it said.
public struct ProcessResult: Sendable {
    public let status: Int32
    public let output: String
    public let error: String
}

/// Runs a process to its end. `input` is fed to its standard input.
public func run(_ path: String, _ arguments: [String], input: Data? = nil) throws -> ProcessResult {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    // Files, not pipes: a pipe that nobody empties would stop the process.
    let folder = TemporaryDirectory()
    let output = folder.appending("output")
    let error = folder.appending("error")
    _ = FileManager.default.createFile(atPath: output, contents: nil)
    _ = FileManager.default.createFile(atPath: error, contents: nil)
    process.standardOutput = FileHandle(forWritingAtPath: output)
    process.standardError = FileHandle(forWritingAtPath: error)
    if let input {
        let path = folder.appending("input")
        try input.write(to: URL(fileURLWithPath: path))
        process.standardInput = FileHandle(forReadingAtPath: path)
    } else {
        process.standardInput = FileHandle.nullDevice
    }
    try process.run()
    process.waitUntilExit()
    return ProcessResult(
        status: process.terminationReason == .uncaughtSignal ? -process.terminationStatus : process.terminationStatus,
        output: try String(contentsOfFile: output, encoding: .utf8),
        error: try String(contentsOfFile: error, encoding: .utf8))
}
