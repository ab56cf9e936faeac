import TelemetryWAL
import WALFormat

/// Reads a log beside its living writer, as `walctl cat` in another process would: takes no lock, and may find files
/// that are removed or begin a new life while it reads them.
final class Onlooker {
    private let history: History
    private var random: SimulationRandom

    init(_ history: History, random: SimulationRandom) {
        self.history = history
        self.random = random
    }

    private var goesOn: Bool { !history.kernel.process.isDead && !history.hasFailed }

    func look() {
        for _ in 0..<min(random.pick(1...4), history.options.mostCalls) {
            history.scheduler.sleep(UInt64(random.pick(0...30)) * 1_000_000)
            guard goesOn else { return }
            // Which commits vouch for which is known of one journal.
            let promised = history.hasMover ? [] : history.judge.promised()
            let scope: RecoveryScope = random.chance(oneIn: 2) ? .wholeJournal : .sinceCheckpoint
            // The machine may end within: then what was read means nothing.
            guard let look = history.read(scope: scope, isVoid: { !self.goesOn }), goesOn else { return }
            history.judge.checkLiving(look.contents, promised: promised, tellsLoss: look.tellsLoss, told: look.told)
        }
    }
}
