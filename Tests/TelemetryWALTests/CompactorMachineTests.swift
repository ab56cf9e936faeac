import Testing

@testable import TelemetryWAL

/// What moves, and when; which segments are merged; what is known of them. Without a file or a thread.
@Suite struct CompactorMachineTests {
    private func files(_ settled: Bool...) -> [CompactorMachine.File] {
        settled.enumerated().map { .init(sequence: UInt64($0.offset) + 1, length: 100, isSettled: $0.element) }
    }

    private func next(
        _ machine: inout CompactorMachine, _ files: [CompactorMachine.File], isPressed: Bool = false,
        isFull: Bool = false, segmentLength: UInt64 = 0
    ) -> CompactorMachine.Step {
        machine.next(files, isPressed: isPressed, isFull: isFull, segmentLength: segmentLength)
    }

    /// Nothing below the threshold; above it the oldest files, until half of it is left, and then all at once.
    @Test func thresholdAndHysteresis() {
        var machine = CompactorMachine(threshold: 400, limit: 1000)
        #expect(next(&machine, files(false, false, false, false)) == .rest)
        let five = files(false, false, false, false, false)
        for sequence in UInt64(1)...3 {
            #expect(next(&machine, five) == .gather(sequence))
            machine.hasGathered(sequence)
        }
        #expect(next(&machine, five) == .publish)
        machine.forgetGathered()
        #expect(next(&machine, files(true, true, true, false, false)) == .rest)
    }

    /// What subscribers have, even in the midst of what they lack, is passed over.
    @Test func settledFilesStayOut() {
        var machine = CompactorMachine(threshold: 100, limit: 1000)
        let some = files(true, false, true, false, false)
        for sequence in [UInt64(2), 4, 5] {
            #expect(next(&machine, some) == .gather(sequence))
            machine.hasGathered(sequence)
        }
        #expect(next(&machine, some) == .publish)
    }

    @Test func fullMemoryIsWrittenFirst() {
        var machine = CompactorMachine(threshold: 100, limit: 1000)
        let some = files(false, false, false, false)
        #expect(next(&machine, some) == .gather(1))
        machine.hasGathered(1)
        #expect(next(&machine, some, isFull: true) == .publish)
        machine.forgetGathered()
        #expect(next(&machine, files(true, false, false, false)) == .gather(2))
    }

    /// Pressed for room, one file goes whatever the threshold says; forced, all of them.
    @Test func pressedAndForced() {
        var machine = CompactorMachine(threshold: 1000, limit: 1000)
        let two = files(false, false)
        #expect(next(&machine, two, isPressed: true) == .gather(1))
        machine.hasGathered(1)
        #expect(next(&machine, two, isPressed: true) == .publish)
        machine.forgetGathered()
        #expect(next(&machine, files(true, false)) == .rest)
        machine.force()
        #expect(next(&machine, two) == .gather(1))
        machine.hasGathered(1)
        #expect(next(&machine, two) == .gather(2))
        machine.hasGathered(2)
        #expect(next(&machine, two) == .publish)
        machine.forgetGathered()
        #expect(machine.isForced)
        #expect(next(&machine, files(true, true)) == .rest)
        #expect(!machine.isForced)
    }

    @Test func limitOfSegments() {
        var machine = CompactorMachine(threshold: 0, limit: 1000)
        #expect(next(&machine, files(false), segmentLength: 1000) == .rest)
        #expect(!machine.makesRoom(files(false), segmentLength: 1000))
        #expect(machine.makesRoom(files(false), segmentLength: 999))
        #expect(!machine.makesRoom(files(true), segmentLength: 0))
        #expect(next(&machine, files(false), segmentLength: 999) == .gather(1))
        // Without segments nothing moves, asked or not.
        var none = CompactorMachine(threshold: 0, limit: 0)
        none.force()
        #expect(next(&none, files(false), isPressed: true) == .rest)
        #expect(!none.isForced)
    }

    // MARK: - Merging

    @Test func rowsOfOneSizeAreMerged() {
        let fanIn = SegmentTiers.fanIn
        #expect(SegmentTiers.candidate([]) == nil)
        #expect(SegmentTiers.candidate(Array(repeating: 1000, count: fanIn - 1)) == nil)
        #expect(SegmentTiers.candidate(Array(repeating: 1000, count: fanIn + 5)) == 0..<fanIn)
        // A long one in front, or what is too long to be merged: the row begins behind it.
        let short = SegmentTiers.short
        #expect(SegmentTiers.candidate([20 * short] + Array(repeating: 2 * short, count: fanIn)) == 1..<fanIn + 1)
        let long = SegmentTiers.largest + 1
        #expect(SegmentTiers.candidate(Array(repeating: long, count: 3 * fanIn)) == nil)
        #expect(SegmentTiers.candidate([.max] + Array(repeating: 1000, count: fanIn)) == 1..<fanIn + 1)
        // Not for little: a long one and many short ones.
        #expect(SegmentTiers.candidate([20 * short] + Array(repeating: 2 * short, count: fanIn - 1)) == nil)
        // What is short is merged in any case.
        #expect(SegmentTiers.candidate([short] + Array(repeating: 1, count: fanIn - 1)) == 0..<fanIn)
    }

    /// Whatever comes, each byte is rewritten a few times only.
    @Test func rewritingIsBounded() {
        var generator = SystemRandomNumberGenerator()
        var lengths: [UInt64] = []
        var (appended, rewritten): (UInt64, UInt64) = (0, 0)
        for _ in 0..<20_000 {
            let length = UInt64.random(in: 4096...40_000, using: &generator)
            appended += length
            lengths.append(length)
            while let row = SegmentTiers.candidate(lengths) {
                let sum = lengths[row].reduce(0, +)
                rewritten += sum
                lengths.replaceSubrange(row, with: [sum])
            }
        }
        #expect(rewritten <= 4 * appended, "\(Double(rewritten) / Double(appended)) times")
        #expect(lengths.count < 200, "\(lengths.count) segments are left")
    }

    // MARK: - The catalog

    private func entry(_ covered: ClosedRange<UInt64>, _ length: UInt64 = 10) -> SegmentCatalog.Entry {
        .init(covered: covered, length: length)
    }

    @Test func catalogKeepsCount() {
        var catalog = SegmentCatalog()
        #expect(catalog.coveredThrough("a") == 0 && catalog.entry(of: "a", above: 0) == nil)
        for covered in [1...10, 11...30, 31...31] as [ClosedRange<UInt64>] { catalog.add(entry(covered), of: "a") }
        catalog.add(entry(5...9, 7), of: "b")
        #expect(catalog.count == 4 && catalog.length == 37 && catalog.coveredThrough("a") == 31)
        #expect(catalog.entry(of: "a", above: 0)?.covered == 1...10)
        #expect(catalog.entry(of: "a", above: 10)?.covered == 11...30)
        #expect(catalog.entry(of: "a", above: 30)?.covered == 31...31)
        #expect(catalog.entry(of: "a", above: 31) == nil)
        catalog.replace([entry(1...10), entry(11...30)], of: "a", with: [entry(1...30, 15)])
        #expect(catalog.entries(of: "a").map(\.covered) == [1...30, 31...31])
        #expect(catalog.count == 3 && catalog.length == 32)
        #expect(catalog.removeFirst(of: "a", through: 29).isEmpty)
        #expect(catalog.removeFirst(of: "a", through: 30).map(\.covered) == [1...30])
        #expect(catalog.removeFirst(of: "a", through: 99).map(\.covered) == [31...31])
        #expect(catalog.entries(of: "a").isEmpty && catalog.count == 1 && catalog.length == 7)
        #expect(catalog.directories == ["tenants", "tenants/b"])
    }
}
