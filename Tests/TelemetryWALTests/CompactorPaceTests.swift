import Testing

@testable import TelemetryWAL

/// How fast the compactor goes.
@Suite struct CompactorPaceTests {
    private func moment(_ milliseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: 1_000_000_000 + milliseconds * 1_000_000)
    }

    /// A pace whose work began at moment 0.
    private func begun(threshold: UInt64 = 1000, limit: UInt64 = 8000) -> CompactorPace {
        var pace = CompactorPace(threshold: threshold, limit: limit)
        pace.begin(at: moment(0))
        return pace
    }

    private func milliseconds(_ rest: UInt64) -> Double { Double(rest) / 1e6 }

    @Test func restsAreForWorkOfAMoment() {
        var pace = CompactorPace(threshold: 1000, limit: 8000)
        let beforeAnything = pace.isDue(at: moment(0))
        #expect(!beforeAnything, "nothing was done yet")
        let early = pace.isDue(at: moment(0) + 499_999)
        let later = pace.isDue(at: moment(0) + 500_000)
        #expect(!early && later)
        pace.begin(at: moment(8))
        let again = pace.isDue(at: moment(8) + 499_999)
        #expect(!again)
    }

    /// Three quarters of the time, while no more waits than makes it begin.
    @Test(arguments: [0, 500, 1000] as [UInt64])
    func littleThatWaitsHasTime(_ waiting: UInt64) {
        #expect(milliseconds(begun().rest(at: moment(4), waiting: waiting)) == 12)
    }

    @Test func theMoreWaitsTheLessItRests() {
        let pace = begun()
        #expect(milliseconds(pace.rest(at: moment(4), waiting: 2750)) == 6)
        #expect(milliseconds(pace.rest(at: moment(4), waiting: 3625)) == 3)
        #expect(pace.rest(at: moment(4), waiting: 4500) == 0)
        #expect(pace.rest(at: moment(4), waiting: .max) == 0)
    }

    /// Half of the journal's room above the threshold is left when it goes as fast as it can.
    @Test func aJournalWithLittleRoomIsNotWaitedFor() {
        let pace = begun(limit: 1400)
        #expect(milliseconds(pace.rest(at: moment(4), waiting: 1100)) == 6)
        #expect(pace.rest(at: moment(4), waiting: 1200) == 0)
        for limit: UInt64 in [0, 999, 1000, 1001] {
            #expect(begun(limit: limit).rest(at: moment(4), waiting: 1001) == 0)
        }
    }

    @Test func oneLongPieceOfWorkHasNoLongRest() {
        #expect(milliseconds(begun().rest(at: moment(60_000), waiting: 0)) == 100)
    }
}
