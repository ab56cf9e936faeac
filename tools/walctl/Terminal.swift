import Foundation
import Synchronization

/// What goes to the terminal beside a command's output: messages, colours, progress.
enum Terminal {
    static let errorIsTerminal = isatty(STDERR_FILENO) == 1
    static let outputIsTerminal = isatty(STDOUT_FILENO) == 1
    private static let mayColour = ProcessInfo.processInfo.environment["NO_COLOR"]?.isEmpty ?? true

    /// Writes to standard error as it is.
    static func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

    /// One line about what went wrong.
    static func complain(_ message: String) {
        write("walctl: \(message.split(whereSeparator: \.isNewline).joined(separator: " "))\n")
    }

    /// A word in colour, where standard output is a terminal and the user does not object.
    static func coloured(_ text: String, good: Bool) -> String {
        guard outputIsTerminal, mayColour else { return text }
        return "\u{1B}[\(good ? 32 : 31)m\(text)\u{1B}[0m"
    }
}

/// A line on standard error that shows how far a long piece of work is; nothing where that is no terminal. May be
/// updated from any thread.
final class ProgressBar: Sendable {
    private let title: String
    // The time of the last drawing, so that fast work does not spend its time drawing.
    private let lastDrawn = Mutex(ContinuousClock.now - .seconds(1))

    init(_ title: String) { self.title = title }

    /// Shows `done` of `total`; `detail` stands behind.
    func update(_ done: UInt64, of total: UInt64, detail: String = "") {
        guard Terminal.errorIsTerminal, total > 0 else { return }
        let isDue = lastDrawn.withLock { last in
            let now = ContinuousClock.now
            guard now - last > .milliseconds(50) || done >= total else { return false }
            last = now
            return true
        }
        guard isDue else { return }
        let filled = Int(min(done, total) * 30 / total)
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        Terminal.write("\r\(title) [\(bar)] \(min(done, total) * 100 / total)% \(detail)\u{1B}[K")
    }

    /// Clears the line.
    func finish() {
        if Terminal.errorIsTerminal { Terminal.write("\r\u{1B}[K") }
    }
}
