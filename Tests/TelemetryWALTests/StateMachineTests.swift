import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// The engine's decisions, tried without a file or a thread.
@Suite struct StateMachineTests {
    private var identifier: LogIdentifier {
        var generator = SystemRandomNumberGenerator()
        return LogIdentifier(using: &generator)
    }

    private func newMachine() -> CommitterMachine {
        CommitterMachine(
            current: nil, lastCommit: 0, lastChecksum: 0, recordsBefore: 0, previous: .init(), lastFileSequence: 0)
    }

    private func begin(_ machine: inout CommitterMachine, _ name: String) -> JournalFileHeader {
        machine.begin(
            file: name, logIdentifier: identifier, epoch: 7, capacity: 1 << 20, blockSize: 4096, created: 0,
            oldestLiveFileSequence: nil, sequenceFloor: 9)
    }

    /// A header as the encoder gives it, without a body worth naming.
    private func commit(_ placement: CommitPlacement) throws -> CommitHeader {
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        return try buffer.withMutableRawSpan { (bytes: inout MutableRawSpan) throws(FormatError) in
            var encoder = CommitEncoder(
                at: 0, of: RootFormat(logIdentifier: identifier, blockSize: 4096, created: 0), frameHeadersLength: 64,
                rawLengths: 24)
            var frame = FrameHeader(
                tenant: nil, kinds: .control, codec: .raw, firstSequence: 0, recordCount: 1, storedLength: 0,
                rawLength: 0, bodyChecksum: 0, lowestTimestamp: 0, highestTimestamp: 0)
            let body = [UInt8](repeating: 1, count: 24)
            try body.withRawSpan { (raw: RawSpan) throws(FormatError) in
                try encoder.add(&frame, rawBody: raw, into: &bytes, compressor: LZ4FrameCompressor())
            }
            return encoder.finish(placement, timestamp: 0, flags: [], into: &bytes)
        }
    }

    private func placement(_ machine: CommitterMachine) throws -> (CommitPlacement, beginsFile: Bool) {
        let decision = machine.decide(bound: 4096, lead: 4096, usableEnd: 1 << 20)
        guard case .write(let placement, let beginsFile) = decision else { throw FormatError(.field, "\(decision)") }
        return (placement, beginsFile)
    }

    @Test func commitsFollowEachOtherAndVouchForTheOneBefore() throws {
        var machine = newMachine()
        #expect(machine.decide(bound: 4096, lead: 4096, usableEnd: 1 << 20) == .needsFile)
        #expect(begin(&machine, "a").fileSequence == 1)
        let (first, beginsFile) = try placement(machine)
        #expect(beginsFile && first.offset == 8192 && first.commitNumber == 1 && first.durableThrough == 0)
        let written = try commit(first)
        machine.submit([written], records: 3)
        machine.completed([written], records: 3)
        let (second, again) = try placement(machine)
        #expect(!again && second.offset == 12288 && second.commitNumber == 2 && second.durableThrough == 1)
        #expect(second.previousChecksum == written.checksum && second.recordsBefore == 3)
    }

    @Test func fullFileIsFollowedByOneThatSealsIt() throws {
        var machine = newMachine()
        _ = begin(&machine, "a")
        let written = try commit(try placement(machine).0)
        machine.submit([written], records: 1)
        machine.completed([written], records: 1)
        #expect(machine.decide(bound: 1 << 20, lead: 4096, usableEnd: 1 << 20) == .needsFile)
        let header = begin(&machine, "b")
        #expect(header.previous.fileSequence == 1 && header.previous.endOffset == 12288)
        #expect(header.previous.lastCommit == 1 && header.previous.lastChecksum == written.checksum)
        #expect(header.firstCommit == 2 && header.recordsBefore == 1 && header.sequenceFloor == 9)
    }

    @Test func failedWriteGoesToAFreshFileOnceAndThenGivesUp() throws {
        var machine = newMachine()
        _ = begin(&machine, "a")
        let written = try commit(try placement(machine).0)
        machine.submit([written], records: 1)
        machine.completed([written], records: 1)
        let failure = StorageError(.ioFailure, operation: "write", path: "a")
        guard case .moveToFreshFile = machine.failed(failure) else {
            Issue.record("the first failure moves on")
            return
        }
        #expect(machine.decide(bound: 4096, lead: 4096, usableEnd: 1 << 20) == .needsFile, "never in place")
        // The fresh file seals the old one at its last durable commit, and the same number is used again.
        #expect(begin(&machine, "b").previous.lastCommit == 1)
        #expect(try placement(machine).0.commitNumber == 2)
        guard case .giveUp = machine.failed(failure) else {
            Issue.record("the second failure in a row is final")
            return
        }
        _ = begin(&machine, "c")
        guard case .refused = machine.decide(bound: 4096, lead: 4096, usableEnd: 1 << 20) else {
            Issue.record("a log that gave up takes no commit")
            return
        }
    }

    @Test func commitsUnderWayContinueTheChainAndVouchForWhatIsDurable() throws {
        var machine = newMachine()
        _ = begin(&machine, "a")
        let first = try commit(try placement(machine).0)
        machine.submit([first], records: 1)
        #expect(machine.decide(bound: 4096, lead: 4096, usableEnd: 1 << 20) == .mustDrain, "the file is being begun")
        machine.completed([first], records: 1)
        let second = try commit(try placement(machine).0)
        machine.submit([second], records: 2)
        let (place, _) = try placement(machine)
        #expect(place.commitNumber == 3 && place.offset == 16384 && place.previousChecksum == second.checksum)
        #expect(place.durableThrough == 1, "what is under way is not known to be durable")
        #expect(place.recordsBefore == 3)
        let third = try commit(place)
        machine.submit([third], records: 4)
        #expect(machine.decide(bound: 1 << 20, lead: 4096, usableEnd: 1 << 20) == .mustDrain)
        machine.completed([second], records: 2)
        #expect(try placement(machine).0.durableThrough == 2)
        machine.completed([third], records: 4)
        #expect(machine.decide(bound: 1 << 20, lead: 4096, usableEnd: 1 << 20) == .needsFile)
        #expect(begin(&machine, "b").previous.lastCommit == 3)
    }

    @Test func whatWasUnderWayWhenAWriteFailedGoesOnBehindTheLastDurableCommit() throws {
        var machine = newMachine()
        _ = begin(&machine, "a")
        let first = try commit(try placement(machine).0)
        machine.submit([first], records: 1)
        machine.completed([first], records: 1)
        for _ in 0..<3 { machine.submit([try commit(try placement(machine).0)], records: 5) }
        guard case .moveToFreshFile = machine.failed(StorageError(.ioFailure, operation: "write", path: "a")) else {
            Issue.record("the first failure moves on")
            return
        }
        let header = begin(&machine, "b")
        #expect(header.previous.lastCommit == 1 && header.previous.lastChecksum == first.checksum)
        #expect(header.previous.endOffset == 12288 && header.recordsBefore == 1)
        let (place, beginsFile) = try placement(machine)
        #expect(beginsFile && place.commitNumber == 2 && place.previousChecksum == first.checksum)
    }

    @Test func admissionKeepsTheLastSpareAndTheReserve() {
        var admission = AdmissionControl(usableEnd: 1000, fileStart: 100, offset: 900, spares: 1)
        #expect(admission.allows(admission.placing(100, at: admission.start)))
        let next = admission.placing(101, at: admission.start)
        #expect(next == .init(offset: 201, sparesUsed: 1))
        #expect(!admission.allows(next), "the last spare is not for appends")
        admission.spares = 2
        #expect(admission.allows(next))
        #expect(!admission.allows(admission.placing(900, at: next)), "nor is the last of two")
    }

    /// A number at the limit would be no journal file's: the next opening would not see what was appended there.
    @Test func aFileAtTheEndOfAllNumbersDoesNotPushTheNextOneOut() {
        #expect(JournalFileName.next(behind: []) == 0)
        #expect(JournalFileName.next(behind: [7, 3]) == 8)
        let last: UInt64 = (1 << 48) - 1
        #expect(JournalFileName.number(of: JournalFileName.name(number: last)) == last)
        #expect(JournalFileName.number(of: JournalFileName.name(number: last + 1)) == nil)
        #expect(JournalFileName.next(behind: [last]) == 0)
        #expect(JournalFileName.next(behind: [3, last, last - 1, 4]) == 5)
        #expect(JournalFileName.next(behind: [(1 << 48) - (1 << 33)]) == (1 << 48) - (1 << 33) + 1)
        #expect(JournalFileName.next(behind: [0, 1 << 32, last]) == (1 << 32) + 1)
    }

    @Test(arguments: ["+5.journal", "-0.journal", ".journal", "5 .journal", "5.journal.tmp", "g.journal"])
    func otherNamesAreNoJournalFiles(name: String) {
        #expect(JournalFileName.number(of: name) == nil)
    }

    /// Who is registered under another number has left in between, whether or not that can be read.
    @Test(arguments: [(1, 2, 0), (1, 1, 5), (0, 2, 5), (1, 0, 5)] as [(UInt32, UInt32, UInt64)])
    func anotherRegistrationHasNoCursors(first: UInt32, second: UInt32, cursor: UInt64) {
        var state = LogState()
        state.apply(.subscriber(name: "s", isRegistered: true, registration: first))
        state.apply(.cursor(subscriber: "s", tenant: "a", acknowledgedThrough: 5))
        state.apply(.subscriber(name: "s", isRegistered: true, registration: second))
        #expect(state.acknowledgedThrough("s", tenant: 0) == cursor)
        #expect(state.registrations == ["s": second])
        // A whole checkpoint has all cursors that there are.
        state.apply(.cursor(subscriber: "s", tenant: "a", acknowledgedThrough: 9))
        state.forgetSubscribers()
        #expect(state.subscribers.isEmpty && state.registrations.isEmpty)
        state.apply(.subscriber(name: "s", isRegistered: true, registration: second))
        #expect(state.acknowledgedThrough("s", tenant: 0) == 0)
    }

    /// A file had left if the life that its commits tell of came to nothing and its number was given again, or was not yet.
    @Test(arguments: [(9, 7, false), (11, 7, true), (10, 7, true), (10, 10, false), (5, 7, false), (4, 7, false)])
    func tornBeginningsAreToldByTheirNumbers(sequence: UInt64, epoch: UInt64, isTorn: Bool) {
        var generator = SystemRandomNumberGenerator()
        let log = LogIdentifier(using: &generator)
        let files = [5, 8, 10].map { (sequence: UInt64) in
            LiveFile(
                name: "",
                header: JournalFileHeader(
                    logIdentifier: log, epoch: sequence, fileSequence: sequence, capacity: 1 << 20,
                    blockSize: 4096, created: 0, firstCommit: 1, oldestLiveFileSequence: 5, previous: .init(),
                    recordsBefore: 0, sequenceFloor: 1), endOffset: 8192)
        }
        let life = JournalFileLife(fileSequence: sequence, epoch: epoch)
        #expect(life.isTornBeginning(in: 5, of: files, newest: 10) == isTorn)
        // Begun since by a writer that goes on: it knows what it has given.
        #expect(life.isTornBeginning(in: 5, of: files, newest: 11) == (isTorn && sequence < 11))
        #expect(!life.isTornBeginning(in: 5, of: [], newest: nil))
    }

    @Test func cursorsMoveForwardOnlyAndACheckpointIsTheWholeState() {
        var state = LogState()
        state.apply(.cursor(subscriber: "s", tenant: "a", acknowledgedThrough: 5))
        #expect(state.cursors.isEmpty, "a subscriber that never came has no cursor")
        state.apply(.subscriber(name: "s", isRegistered: true))
        state.apply(.tenantState(tenant: "a", nextSequence: 9))
        state.apply(.cursor(subscriber: "s", tenant: "a", acknowledgedThrough: 5))
        state.apply(.cursor(subscriber: "s", tenant: "a", acknowledgedThrough: 3))
        #expect(state.acknowledgedThrough("s", tenant: 0) == 5)
        var copy = LogState()
        for record in state.checkpoint() { copy.apply(record) }
        #expect(copy.tenants.map(\.nextSequence) == [9] && copy.acknowledgedThrough("s", tenant: 0) == 5)
        #expect(state.checkpoint().reduce(0) { $0 + $1.length } <= state.checkpointBound)
        state.apply(.subscriber(name: "s", isRegistered: false))
        #expect(state.acknowledgedByAll(tenant: 0) == 0 && state.subscribers.isEmpty)
    }
}
