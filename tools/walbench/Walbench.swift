import ArgumentParser
import Foundation

/// `walbench`: one measurement a call, one line of JSON as its answer. `tools/benchmark` calls it beside fio and other
/// engines, whose drivers take the same arguments and answer in the same form.
@main
struct Walbench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walbench", abstract: "Measure the telemetry WAL; tools/benchmark compares it with others.",
        discussion: """
            EXAMPLES
              walbench append --directory /var/tmp/w --corpus corpus --writers 64 --mode async
              walbench scan --directory /var/tmp/w
              walbench micro
              walbench flood --directory /var/tmp/w --weights 100 --weights 300
              walbench outage --directory /var/tmp/w --corpus corpus --tenants 1000 --records 10000000

            EXIT CODES
              0  fine    2  usage    3  I/O
            """,
        subcommands: [
            AppendCommand.self, CountCommand.self, FloodCommand.self, MicroCommand.self, OutageCommand.self,
            ScanCommand.self,
        ])

    /// Not `async`: valgrind, under which instructions are counted, does not survive the end of the main thread that
    /// an asynchronous `main` brings about.
    static func main() {
        do {
            var command = try parseAsRoot()
            guard command is any AsyncParsableCommand else {
                try command.run()
                return
            }
            let ended = DispatchSemaphore(value: 0)
            Task.detached {
                do {
                    if var command = try parseAsRoot() as? any AsyncParsableCommand { try await command.run() }
                } catch { end(with: error) }
                ended.signal()
            }
            ended.wait()
        } catch { end(with: error) }
    }

    private static func end(with error: any Error) {
        let code = exitCode(for: error)
        if code.isSuccess {
            print(fullMessage(for: error))
            Foundation.exit(0)
        }
        FileHandle.standardError.write(Data((fullMessage(for: error) + "\n").utf8))
        Foundation.exit(code == .validationFailure ? 2 : 3)
    }
}

/// Prints a value as one line of JSON.
func printLine(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Nanoseconds of the monotonic clock.
func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Bytes that this process has had written to storage so far.
func writtenBytes() -> UInt64 {
    guard let text = try? String(contentsOfFile: "/proc/self/io", encoding: .utf8) else { return 0 }
    for line in text.split(separator: "\n") where line.hasPrefix("write_bytes:") {
        return UInt64(line.dropFirst(13)) ?? 0
    }
    return 0
}

/// Bytes that were written to the device below a directory so far, by everybody; nil where that is not known.
func deviceBytes(_ directory: String) -> UInt64? {
    var status = stat()
    guard stat(directory, &status) == 0 else { return nil }
    let (major, minor) = (status.st_dev >> 8 & 0xFFF, status.st_dev & 0xFF | status.st_dev >> 12 & 0xFFF00)
    guard let text = try? String(contentsOfFile: "/sys/dev/block/\(major):\(minor)/stat", encoding: .utf8) else {
        return nil
    }
    // The seventh number counts sectors of 512 bytes written, whatever the device's blocks are.
    let numbers = text.split(separator: " ", omittingEmptySubsequences: true)
    return numbers.count > 6 ? UInt64(numbers[6]).map { $0 * 512 } : nil
}

/// Calls of malloc and its kin so far; nil unless `counting_malloc` is preloaded.
func allocations() -> UInt64? {
    guard let symbol = dlsym(nil, "counted_allocations") else { return nil }
    return unsafeBitCast(symbol, to: (@convention(c) () -> UInt64).self)()
}
