import TelemetryWAL
import WALFormat

/// Moves tenants between the shared journal and ones of their own while others use the log.
final class Mover {
    private let actors: Actors
    private var random: SimulationRandom

    init(_ actors: Actors, random: SimulationRandom) {
        self.actors = actors
        self.random = random
    }

    func move() {
        let (history, judge) = (actors.history, actors.judge)
        for _ in 0..<min(random.pick(1...6), history.options.mostCalls) {
            history.scheduler.sleep(UInt64(random.pick(0...40)) * 1_000_000)
            guard actors.goesOn else { return }
            let tenant = random.pick(history.tenants)
            var placement: Placement = random.pick([
                .shared, .shared, .dedicated(), .dedicated(), .dedicated(directory: "/other/\(tenant)"),
            ])
            // What is exported is below the log's root.
            if history.options.exportFolder != nil, placement != .shared { placement = .dedicated() }
            judge.placements[tenant, default: [.shared]].insert(placement)
            do throws(WALError) {
                try actors.log.placeBlocking(tenant, placement)
                actors.kernel.note("\(tenant) is at \(placement)")
                guard actors.goesOn else { return }
                judge.placements[tenant] = [placement]
            } catch {
                actors.kernel.note("move of \(tenant): \(error)")
                guard actors.goesOn else { return }
                switch error {
                case .journalFull, .closed, .failed: break
                case .storage, .journalUnavailable, .notALog:
                    if !history.anyFaultHappened { judge.fail("\(tenant) cannot be moved: \(error)") }
                default: judge.fail("\(tenant) cannot be moved: \(error)")
                }
            }
        }
    }
}

extension Judge {
    /// Holds where a log says that tenants are against where they were moved to.
    func checkPlacements(_ placement: (TenantName) -> Placement) {
        for (tenant, possible) in placements {
            let found = placement(tenant)
            if !possible.contains(found) { fail("\(tenant) is at \(found) and was moved to \(possible)") }
            placements[tenant] = [found]
        }
    }
}
