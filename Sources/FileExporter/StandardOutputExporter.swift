import Glibc
import OTLPProtocol
import TelemetryReplay
import WALFormat

/// Writes batches to standard output, as `FileExporter` writes them to files. Delivered means taken by whoever reads
/// the other end of the pipe.
public actor StandardOutputExporter: TelemetryExporter {
    public nonisolated var destination: String { "standard output" }
    public nonisolated var deliversInOrder: Bool { true }

    public init() {}

    public func export(_ batch: ExportBatch) async -> ExportResult {
        switch JSONLines.encode(batch) {
        case .failure(let fault): return .refused(reason: fault.reason)
        case .success(let text):
            var done = 0
            while done < text.count {
                let count = unsafe text.withUnsafeBytes {
                    unsafe write(STDOUT_FILENO, $0.baseAddress! + done, text.count - done)
                }
                if count > 0 {
                    done += count
                } else if errno == EAGAIN {
                    // Whoever reads the other end has it that way.
                    try? await Task.sleep(for: .milliseconds(5))
                } else if errno != EINTR {
                    // No fault of the records. A part of a line may be out: to begin again puts the same behind it.
                    return .denied(reason: "writing to standard output failed (error \(errno))")
                }
            }
            return .delivered(rejected: 0, message: nil)
        }
    }
}
