import ArgumentParser
import WALSimulation

@main struct Walsim: ParsableCommand {
    @Option var seed: UInt64 = 1
    @Option var histories = 1
    @Flag var trace = false
    func run() throws {
        let thread = HistoryThread()
        for number in seed..<seed + UInt64(histories) {
            var options = HistoryOptions(seed: number)
            options.traces = trace
            guard let result = History.run(options, pool: thread) else { throw ValidationError("no trait") }
            if trace { for line in result.trace { print(line) } }
            print(number, result.failure ?? "ok", result.opens, result.recordsAppended, result.recordsChecked, result.steps, result.fingerprint)
            if result.isStuck { return }
        }
    }
}
