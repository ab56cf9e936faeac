import TelemetryWAL
import WALFormat

/// Has tenants erased while others use the log.
final class Eraser {
    private let actors: Actors
    private var random: SimulationRandom

    init(_ actors: Actors, random: SimulationRandom) {
        self.actors = actors
        self.random = random
    }

    func erase() {
        let (history, judge) = (actors.history, actors.judge)
        for _ in 0..<min(random.pick(1...3), history.options.mostCalls) {
            history.scheduler.sleep(UInt64(random.pick(0...80)) * 1_000_000)
            guard actors.goesOn else { return }
            let tenant = random.pick(history.tenants)
            let before = judge.erasureMarks[tenant]
            judge.erasureMarks[tenant] = .max
            do throws(WALError) {
                let report = try actors.log.eraseBlocking(tenant)
                judge.erasureMarks[tenant] = judge.attempts.count
                actors.kernel.note("erased \(tenant) through \(report.through)")
                // Its process may have ended meanwhile: then it is the next look that tells.
                if actors.goesOn { judge.erased(tenant, through: report.through, on: history.disk) }
            } catch {
                actors.kernel.note("erasure of \(tenant): \(error)")
                judge.erasureMarks[tenant] = judge.attempts.count
                guard actors.goesOn else { return }
                switch error {
                case .unknownTenant: judge.erasureMarks[tenant] = before
                case .journalFull, .closed, .failed: break
                case .storage, .journalUnavailable:
                    judge.noteMediaFaults()
                    if !judge.mediaFaults, !history.anyFaultHappened {
                        judge.fail("\(tenant) cannot be erased: \(error)")
                    }
                default: judge.fail("\(tenant) cannot be erased: \(error)")
                }
            }
        }
    }
}
