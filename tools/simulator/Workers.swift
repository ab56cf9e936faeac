import Foundation
import Synchronization

/// Runs histories in processes of their own, as many at a time as there are processors.
struct Workers {
    var history: HistoryArguments
    var jobs: Int

    struct Failure: Codable, Sendable {
        var seed: UInt64
        var what: String
    }

    struct Outcome: Sendable {
        var tally = Tally()
        var failures: [Failure] = []
    }

    /// Runs so many histories from a seed on. Without `goesOn` a worker ends with its first failure. With it, one that
    /// a history has ended, by a trap or by standing still, is followed by another, which goes on behind that history.
    /// `progress` is told how many have begun.
    func run(
        seed: UInt64, histories: UInt64, goesOn: Bool, progress: @escaping @Sendable (UInt64) -> Void = { _ in }
    ) throws -> Outcome {
        let count = UInt64(max(1, min(UInt64(jobs), histories)))
        let outcome = Mutex(Outcome())
        let begun = Atomic<UInt64>(0)
        let group = DispatchGroup()
        for worker in 0..<count {
            let share = Share(
                next: seed + worker, left: histories / count + (worker < histories % count ? 1 : 0), stride: count)
            let first = try start(share, goesOn: goesOn)
            group.enter()
            Thread.detachNewThread {
                defer { group.leave() }
                var share = share
                var worker: (Process, FileHandle)? = first
                while let (process, lines) = worker {
                    follow(process, lines, of: &share, goesOn: goesOn, outcome) {
                        progress(begun.wrappingAdd(1, ordering: .relaxed).newValue)
                    }
                    guard goesOn, share.left > 0 else { return }
                    do { worker = try start(share, goesOn: goesOn) } catch {
                        let what = "no worker can be started: \(error)"
                        let seed = share.next
                        outcome.withLock { $0.failures.append(Failure(seed: seed, what: what)) }
                        return
                    }
                }
            }
        }
        group.wait()
        return outcome.withLock { $0 }
    }

    /// The histories that a worker has before it.
    private struct Share: Sendable {
        var next: UInt64
        var left: UInt64
        let stride: UInt64
    }

    /// Takes in what a worker says until it ends, and what of its share is left then.
    private func follow(
        _ process: Process, _ lines: FileHandle, of share: inout Share, goesOn: Bool,
        _ outcome: borrowing Mutex<Outcome>,
        _ begins: () -> Void
    ) {
        var reader = LineReader(lines)
        var current: UInt64?
        var hasEnded = false
        while let line = reader.next() {
            guard let said = try? JSONDecoder().decode(WorkerLine.self, from: line) else { continue }
            switch said {
            case .begins(let seed):
                current = seed
                share.next = seed + share.stride
                share.left -= 1
                begins()
            case .failed(let seed, let what):
                outcome.withLock { $0.failures.append(Failure(seed: seed, what: what)) }
                // A long run tells at once.
                if goesOn { warn("seed \(seed): \(what)") }
            case .counted(let tally): outcome.withLock { $0.tally.add(tally) }
            case .ended: hasEnded = true
            }
        }
        process.waitUntilExit()
        if hasEnded { return }
        let seed = current ?? share.next
        let what = "the engine or the simulation trapped (status \(process.terminationStatus))"
        if goesOn { warn("seed \(seed): \(what)") }
        outcome.withLock { $0.failures.append(Failure(seed: seed, what: what)) }
        // One that does not even begin would be started for ever.
        if current == nil { share.left = 0 }
    }

    /// Whether a history fails, and how.
    func failure(seed: UInt64) throws -> String? {
        try run(seed: seed, histories: 1, goesOn: false).failures.first?.what
    }

    /// Prints every step of a history.
    func trace(seed: UInt64) throws -> [String] {
        let (process, lines) = try start(Share(next: seed, left: 1, stride: 1), goesOn: false, traces: true)
        var reader = LineReader(lines)
        var steps: [String] = []
        while let line = reader.next() {
            if (try? JSONDecoder().decode(WorkerLine.self, from: line)) == nil {
                steps.append(String(decoding: line, as: UTF8.self))
            }
        }
        process.waitUntilExit()
        return steps
    }

    private func start(_ share: Share, goesOn: Bool, traces: Bool = false) throws -> (Process, FileHandle) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var words = ["work", "--seed", "\(share.next)", "--histories", "\(share.left)", "--stride", "\(share.stride)"]
        if goesOn { words.append("--go-on") }
        if traces { words.append("--trace") }
        process.arguments = words + history.words
        // The order in which dictionaries are walked must follow from the seed, too.
        process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_DETERMINISTIC_HASHING": "1"]) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        return (process, pipe.fileHandleForReading)
    }
}

/// Lines of a pipe, as they come.
struct LineReader {
    private let handle: FileHandle
    private var buffer = Data()

    init(_ handle: FileHandle) { self.handle = handle }

    mutating func next() -> Data? {
        while true {
            if let end = buffer.firstIndex(of: 10) {
                let line = buffer[buffer.startIndex..<end]
                buffer = Data(buffer[buffer.index(after: end)...])
                return Data(line)
            }
            let more = handle.availableData
            if more.isEmpty {
                return buffer.isEmpty
                    ? nil
                    : {
                        defer { buffer = Data() }; return buffer
                    }()
            }
            buffer += more
        }
    }
}
