import Testing

@testable import TelemetryWAL

/// How fast a journal file is filled with zeros.
@Suite struct PreparerPaceTests {
    private func moment(_ milliseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: 1_000_000_000 + milliseconds * 1_000_000)
    }

    /// The rest behind the first 100 ms of work, in which 1,000 of 4,000 bytes were filled and the log wrote some.
    private func rest(written: UInt64, room: UInt64) -> Double {
        var pace = PreparerPace(at: moment(0), written: 500)
        let rest = pace.rest(at: moment(100), written: 500 + written, filled: 1000, missing: 3000, room: room)
        return Double(rest) / 1e6
    }

    @Test func aLogThatWritesNothingLetsItRest() {
        #expect(rest(written: 0, room: 0) == 300)
    }

    /// What is to be made takes 300 ms without rests, and the log writes 10 bytes a millisecond.
    @Test(arguments: [(6000, 0), (9000, 50), (12_000, 100), (24_000, 300), (100_000, 300)] as [(UInt64, Double)])
    func roomOutlastsTwiceWhatIsMissing(_ room: UInt64, _ rest: Double) {
        #expect(abs(self.rest(written: 1000, room: room) - rest) < 0.01)
    }

    @Test func noRoomIsNoRest() {
        #expect(rest(written: 1, room: 0) == 0)
    }

    /// A log that begins to write after a pause is not taken for a slow one.
    @Test func whatTheLogWritesNowCounts() {
        var pace = PreparerPace(at: moment(0), written: 0)
        var rests: [UInt64] = []
        for (begin, end, written, filled) in [
            (0, 100, 0, 1000), (10_000, 10_050, 0, 1500), (10_050, 10_100, 1500, 2000),
        ] as [(UInt64, UInt64, UInt64, UInt64)] {
            // The pauses between do not count as work.
            pace.resume(at: moment(begin))
            rests.append(
                pace.rest(at: moment(end), written: written, filled: filled, missing: 4000 - filled, room: 6000))
        }
        #expect(rests == [300_000_000, 150_000_000, 0])
    }
}
