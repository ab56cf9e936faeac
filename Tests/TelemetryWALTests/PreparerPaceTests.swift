import Testing

@testable import TelemetryWAL

/// How fast a journal file is filled with zeros.
@Suite struct PreparerPaceTests {
    private func moment(_ milliseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: 1_000_000_000 + milliseconds * 1_000_000)
    }

    /// Milliseconds to rest behind the first 10 of work, in which 1,000 of 4,000 bytes were filled and the log wrote some.
    private func rest(written: UInt64, room: UInt64, work: UInt64 = 10) -> Double {
        var pace = PreparerPace(at: moment(0), written: 500)
        let rest = pace.rest(at: moment(work), written: 500 + written, filled: 1000, missing: 3000, room: room)
        return Double(rest) / 1e6
    }

    @Test func aLogThatWritesNothingLetsItRest() {
        #expect(rest(written: 0, room: 0) == 30)
    }

    /// What is to be made takes 30 ms without rests, and the log writes 10 bytes a millisecond.
    @Test(arguments: [(600, 0), (900, 5), (1200, 10), (2400, 30), (10_000, 30)] as [(UInt64, Double)])
    func roomOutlastsTwiceWhatIsMissing(_ room: UInt64, _ rest: Double) {
        #expect(abs(self.rest(written: 100, room: room) - rest) < 0.01)
    }

    @Test func noRoomIsNoRest() {
        #expect(rest(written: 1, room: 0) == 0)
    }

    /// A process that stood still for an hour does not rest for three.
    @Test func oneLongPieceOfWorkHasNoLongRest() {
        #expect(rest(written: 0, room: 0, work: 3_600_000) == 100)
    }

    /// A log that begins to write after a pause is not taken for a slow one.
    @Test func whatTheLogWritesNowCounts() {
        var pace = PreparerPace(at: moment(0), written: 0)
        var rests: [UInt64] = []
        for (begin, end, written, filled) in [
            (0, 10, 0, 1000), (1000, 1010, 0, 2000), (1060, 1070, 1500, 3000),
        ] as [(UInt64, UInt64, UInt64, UInt64)] {
            // The pauses between do not count as work.
            pace.resume(at: moment(begin))
            rests.append(
                pace.rest(at: moment(end), written: written, filled: filled, missing: 4000 - filled, room: 500))
        }
        #expect(rests == [30_000_000, 30_000_000, 0])
    }
}
