import WALSimulation

/// Makes a history that fails shorter, as long as it fails in the same way.
struct Shrinker {
    let seed: UInt64
    let jobs = 1
    private(set) var history: HistoryArguments

    init(seed: UInt64, _ history: HistoryArguments) {
        self.seed = seed
        self.history = history
    }

    /// Tries to leave out whole rounds, calls, threads and kinds of faults. Some hundred runs at most.
    mutating func shrink() throws {
        for rounds in 1...4 where try adopt({ $0.rounds = rounds }) { break }
        for calls in [1, 2, 4, 6, 8, 12, 16, 24] where try adopt({ $0.calls = calls }) { break }
        for actors in 1...4 where try adopt({ $0.actors = actors }) { break }
        for kind in FaultKind.allCases {
            _ = try adopt { arguments in
                let others = arguments.without.map { [$0] } ?? []
                arguments.without = (others + [kind.rawValue]).joined(separator: ",")
            }
        }
    }

    private mutating func adopt(_ change: (inout HistoryArguments) -> Void) throws -> Bool {
        var shorter = history
        change(&shorter)
        guard try Workers(history: shorter, jobs: 1).failure(seed: seed) != nil else { return false }
        history = shorter
        return true
    }
}
