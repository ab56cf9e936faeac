import Logging
import WALFormat
import WALStorage

/// The part of the engine that producers meet: staging, waiting, and who is told when. It does no I/O and is not
/// generic, so that an append from another module runs specialised code whatever the storage is; `LogCore` adds the
/// storage.
///
/// A record is copied into the open group under `lock`, and gets its sequence number there: groups become durable in
/// order or not at all, so the order of staging is the order in the log. Whoever finds no write under way may write
/// its group itself (`lead`); otherwise the committer's thread takes all that waits in one group.
///
/// Safe to share although unchecked: each variable is marked with what guards it.
class LogFront: @unchecked Sendable {
    final let options: WriteAheadLogOptions
    final let format: RootFormat
    final let logger: Logger

    final let lock = Lock()
    /// The committer's thread sleeps here while nothing is under way.
    final let committerWake = Condition()
    /// Blocked appenders wait here for room in staging or in the journal; a committer waits here for a spare file.
    final let roomCondition = Condition()
    final let preparerWake = Condition()
    final let progress = GroupProgress(durableThrough: 0)

    // Guarded by `lock`.
    @LockGuarded final var lookup: TenantLookup
    /// Appends are taken: the log is neither closing nor refusing.
    @LockGuarded final var isOpen = true
    /// Takes what is appended.
    @LockGuarded final var openGroup: StagedGroup
    /// Full groups, in line to be encoded.
    @LockGuarded final var closedGroups: [StagedGroup] = []
    /// Bytes of records that are not durable yet.
    @LockGuarded final var stagedBytes: Int = 0
    /// How many tenants have any of them.
    @LockGuarded final var stagedTenants: Int = 0
    /// The weights of all tenants that have much of them, added up.
    @LockGuarded final var stagedWeight: Int = 0
    /// The open group may grow to this length without asking `admission` again.
    @LockGuarded final var admittedLength: Int = 0
    /// Somebody encodes a turn, and may give the lock up meanwhile.
    @LockGuarded final var isEncoding: Bool = false
    /// How many appends are on their way at a time, of late: what the next group can be expected to grow to.
    @LockGuarded final var expectedAppends: Double = 1.0
    /// Commits under way, in the log's order.
    @LockGuarded final var slotsUnderWay: [CommitSlot] = []
    /// Turns of a file in which a write failed: they go before all that is staged.
    @LockGuarded final var turnsToRepeat: [Turn] = []
    /// A write under way has failed: nothing is begun before all of them have ended.
    @LockGuarded final var hasFailedWrite: Bool = false
    /// A committer's thread was woken and has not looked yet.
    @LockGuarded final var committerIsCalled: Bool = false
    /// By the tenant's index: what staging knows beyond the durable state.
    @LockGuarded final var tenantStaging: [TenantStaging]
    /// Tenants whose records go to another journal of the log, or are about to.
    @LockGuarded final var departed: Set<TenantName> = []
    /// Which of the log's journals this is; 0: the shared one. Set before it is shared between threads.
    final var number: UInt32 = 0
    /// Weights of tenants, known or not, where they are not the standard one.
    final var weights: [TenantName: Int]
    /// Why no commit is taken any more; goes from nil to an error once.
    @LockGuarded final var refusal: WALError? = nil
    @LockGuarded final var state: LogState
    /// What of it is about to be dropped, and the policies by which it is.
    @LockGuarded final var retention: RetentionLedger
    @LockGuarded private final var groupPool: [StagedGroup] = []
    @LockGuarded final var bufferPool: StagingBufferPool
    /// Groups that ended and whose appenders are still to be told.
    @LockGuarded final var endedGroups: [StagedGroup] = []
    /// The turn that is being encoded, and its worst length.
    @LockGuarded final var encodingTurn: Turn?
    @LockGuarded final var encodingWorstLength: Int?
    @LockGuarded final var admission: AdmissionControl { didSet { admittedLength = 0 } }
    @LockGuarded final var roomWaiters: [Waiter] = []
    /// Somebody waits for a journal file that is being made.
    @LockGuarded final var filesAreWaitedFor = false
    /// Counts the wake-ups of those who wait for room, so that nobody goes to sleep on one that has just passed.
    @LockGuarded final var roomGeneration: UInt64 = 0
    final var preparerFailure: WALError?
    /// How long a write takes, of late, nanoseconds.
    @LockGuarded final var writeDuration = 0.0
    /// Until when a group waits for company.
    @LockGuarded final var gatherDeadline = MonotonicTime(nanoseconds: 0)
    /// The task that appended last.
    @LockGuarded final var lastTask = 0
    /// So many appends of changing tasks may write on their own threads before one is made to wait again, to see
    /// whether others come meanwhile.
    @LockGuarded final var soloCredit = 0
    private static let mostSoloCredit = 16
    @LockGuarded final var dozingCommitters = 0
    final var wantsRotation = false
    /// What was decided to be dropped is to be written at once: somebody waits for the room.
    final var wantsDrops = false
    @LockGuarded final var isClosing = false { didSet { if isClosing { isOpen = false } } }
    final var isStopped = false
    @LockGuarded final var statistics = CommitStatistics()

    /// What staging knows of a tenant.
    struct TenantStaging {
        /// The number that the next record staged gets.
        var nextSequence: UInt64
        /// The group that has a frame of the tenant open, and the frame's place in it.
        var group: UInt64 = 0
        var frame = 0
        /// Bytes of all records of the tenant that were ever staged, headers included.
        var takenLength: UInt64 = 0
        /// Until that grows above this, the tenant's budget need not be looked at.
        var lengthLimit = UInt64.max
        /// Its share where commits wait for the device.
        var weight: Int
        /// Bytes of its records that are not durable yet.
        var stagedLength = 0
        /// The group that has its last record, and bytes of its records there.
        var lastGroup: UInt64 = 0
        var lengthInLastGroup = 0

        init(_ tenant: LogState.Tenant, weight: Int) {
            self.weight = weight
            nextSequence = tenant.nextSequence
            takenLength = tenant.backlog.appendedLength
            // Looked at with the first append.
            lengthLimit = 0
        }

        /// Records were staged.
        @inline(__always)
        mutating func account(count: Int, length: Int, inGroup group: UInt64) {
            nextSequence += UInt64(count)
            takenLength += UInt64(length)
            lengthInLastGroup = (lastGroup == group ? lengthInLastGroup : 0) + length
            lastGroup = group
        }
    }

    init(options: WriteAheadLogOptions, format: RootFormat, state: LogState, admission: AdmissionControl) {
        self.options = options
        self.format = format
        logger = options.logger
        self.state = state
        self.admission = admission
        let group = StagedGroup(sealOverhead: options.sealOverhead)
        group.number = 1
        openGroup = group
        let weights = options.tenantWeights
        self.weights = weights
        tenantStaging = state.tenants.map {
            TenantStaging($0, weight: weights[$0.name] ?? TenantWeight.standard)
        }
        retention = RetentionLedger(standard: options.retention, own: options.tenantRetention)
        lookup = TenantLookup(state.tenants.map(\.name))
        bufferPool = StagingBufferPool(
            largeCapacity: Self.groupTarget(options) + (64 << 10), limit: options.stagingLimit)
        for (index, tenant) in state.tenants.enumerated() {
            retention.add(tenant)
            reserveDrops(by: retention.entries[index].policy, tenant: index)
        }
    }

    /// Keeps room in checkpoints for what a policy may drop. Under the lock.
    final func reserveDrops(by policy: RetentionPolicy, tenant index: Int) {
        state.reserveDrops(policy.causes.union(state.tenants[index].drops.keys).count, tenant: index)
    }

    /// Bytes of records after which a group is closed and the next one opened: large enough to fill the device, small
    /// enough that encoding it does not delay those who wait.
    static func groupTarget(_ options: WriteAheadLogOptions) -> Int { min(1 << 20, options.maximumBatchLength) }

    // MARK: - What the storage adds

    /// Commits the oldest group on the calling thread. Under the lock, which is given up meanwhile.
    func lead() { preconditionFailure("overridden") }
    /// Has the committer look again although it waits for a write. Under the lock.
    func interruptCommitter() { preconditionFailure("overridden") }
    /// Whether the preparer is busy or about to be, so that waiting for it makes sense. Under the lock.
    var preparerHasWork: Bool { preconditionFailure("overridden") }

    /// Whether compaction is about to free room in the journal. Under the lock.
    var compactionMakesRoom: Bool { preconditionFailure("overridden") }
    /// Has the compactor look for work. Under the lock.
    func wakeCompactor() { preconditionFailure("overridden") }

    /// Whether drops that were decided, and are about to become durable, make room. Under the lock.
    var decidedDropsMakeRoom: Bool { preconditionFailure("overridden") }
    /// Has what was decided to be dropped written soon. Under the lock.
    func noteDecidedDrop(_ drop: RetentionDrop) { preconditionFailure("overridden") }

    /// Has the count of records that were not taken written before long. `isFirst`: none waited. Under the lock.
    func noteRefusedRecords(of tenant: TenantName, index: Int, isFirst: Bool) { preconditionFailure("overridden") }

    /// Whether beginning the next file frees room for another. Under the lock.
    var rotationMakesRoom: Bool { preconditionFailure("overridden") }

    // MARK: - Groups

    /// Whether anything but acknowledgements waits to be encoded. Under the lock.
    final var hasStagedGroups: Bool { !closedGroups.isEmpty || !openGroup.isEmpty || !turnsToRepeat.isEmpty }

    /// Whether the next commit is to be begun now. Under the lock.
    ///
    /// While few append at a time, at once: nobody waits for company. Where more are known to be on their way, since
    /// the last group has just ended and most of its appenders come back within microseconds, a short moment is given
    /// them to gather: each flush then serves more. A further commit is begun beside those under way when a group is
    /// full, or when as many as usual have gathered again.
    final var shouldBeginCommit: Bool {
        guard !isEncoding, refusal == nil, !hasFailedWrite, hasStagedGroups else { return false }
        if !closedGroups.isEmpty || !turnsToRepeat.isEmpty { return slotsUnderWay.count < options.commitsUnderWay }
        let hasGathered = Double(openGroup.appendCount) >= expectedAppends * Self.gatheredShare
        if slotsUnderWay.isEmpty {
            return fewAppend || hasGathered || isClosing || MonotonicTime.now >= gatherDeadline
        }
        return hasGathered && slotsUnderWay.count < options.commitsUnderWay
    }

    /// Of the appends that are on their way at a time, the share that makes a group worth a flush of its own.
    /// Measured with 64 and 256 appenders: 0.5 halves what a flush serves, 0.9 gains nothing over 0.75.
    private static let gatheredShare = 0.75
    /// How long a group gathers at most after the one before has ended, nanoseconds: half of the shortest write.
    static let gatherTime: UInt64 = 50_000

    /// Whether so few append at a time that none should wait for others. Under the lock.
    final var fewAppend: Bool { expectedAppends < 3 }

    /// Whether an appender may write its group on its own thread. Under the lock.
    final var mayLead: Bool { slotsUnderWay.isEmpty && !isEncoding && refusal == nil && hasStagedGroups }

    /// Has a committer's thread look for work. Under the lock.
    final func wakeCommitter() {
        guard !committerIsCalled else { return }
        committerIsCalled = true
        if dozingCommitters > 0 { committerWake.signal() } else { interruptCommitter() }
    }

    /// Puts the open group in line and opens another. Under the lock.
    final func closeOpenGroup() {
        let number = openGroup.number
        closedGroups.append(openGroup)
        openGroup = groupPool.popLast() ?? StagedGroup(sealOverhead: options.sealOverhead)
        openGroup.number = number + 1
        admittedLength = 0
    }

    /// Takes the oldest group out of the line. Under the lock; there must be one.
    final func takeOldestGroup() -> StagedGroup {
        if closedGroups.isEmpty { closeOpenGroup() }
        admittedLength = 0
        return closedGroups.removeFirst()
    }

    /// A group that is not durable yet. Under the lock.
    final func group(numbered number: UInt64) -> StagedGroup? {
        func matches(_ group: StagedGroup?) -> Bool { group?.number == number }
        if matches(openGroup) { return openGroup }
        if matches(encodingTurn?.group) { return encodingTurn?.group }
        return slotsUnderWay.first { matches($0.turn.group) }?.turn.group ?? closedGroups.first(where: matches)
            ?? turnsToRepeat.first { matches($0.group) }?.group
    }

    /// Where the log stands when all closed groups are written, were one of them of another worst length. Under the lock.
    final func positionBehindClosedGroups(
        with length: Int = 0, at place: Int? = nil
    ) -> AdmissionControl.Position {
        var position = admission.start
        if let encodingWorstLength { position = admission.placing(encodingWorstLength, at: position) }
        for turn in turnsToRepeat {
            let lengths = CommitAssembler.Lengths(
                turn.group, ControlFrames(turn.control, timestamp: 0), blockSize: format.blockSize)
            position = admission.placing(lengths.bound, at: position)
        }
        for (index, group) in closedGroups.enumerated() {
            let worst = index == place ? length : group.worstLength(blockSize: format.blockSize)
            position = admission.placing(worst, at: position)
        }
        return position
    }

    // MARK: - The end of a group

    /// A group is durable. Under the lock; its appenders are told by `tellEndedGroups`.
    final func complete(_ group: StagedGroup) {
        let onTheirWay = Double(group.appendCount + openGroup.appendCount)
        expectedAppends = max(onTheirWay, expectedAppends * 0.75 + onTheirWay * 0.25)
        if !group.waiters.isEmpty { soloCredit = onTheirWay == 1 ? Self.mostSoloCredit : 0 }
        unstage(group)
        progress.advance(to: group.number)
        endedGroups.append(group)
    }

    /// Wakes those who wait for groups that ended, without the lock, and takes the groups' memory back. Under the
    /// lock, which is given up meanwhile.
    final func tellEndedGroups() {
        while let group = endedGroups.popLast() {
            lock.unlock()
            #if Simulation
                if DeliberateBug.isActive(.loseWakeUp) { group.hasSleepers = false }
            #endif
            if group.hasSleepers { progress.wakeSleepers(ofGroup: group.number) }
            for waiter in group.waiters { waiter.resume() }
            lock.lock()
            group.waiters.removeAll(keepingCapacity: true)
            group.reset(givingTo: &bufferPool)
            if groupPool.count < 64 { groupPool.append(group) }
        }
    }

    /// Nothing that is staged becomes durable any more: everybody who waits is told. Under the lock.
    final func endAllGroups() {
        if !openGroup.isEmpty { closeOpenGroup() }
        let groups = turnsToRepeat.compactMap(\.group) + closedGroups
        turnsToRepeat = []
        closedGroups = []
        for group in groups { endUnwritten(group) }
        progress.end()
    }

    /// A group does not become durable. Under the lock.
    final func endUnwritten(_ group: StagedGroup) {
        unstage(group)
        endedGroups.append(group)
    }

    /// Whoever calls waits for a journal file that is being made. Under the lock.
    final func hurryPreparer() {
        filesAreWaitedFor = true
        preparerWake.signal()
    }

    /// Lets everyone who waits for room look again. Under the lock.
    final func wakeRoomWaiters() {
        roomGeneration += 1
        roomCondition.broadcast()
        guard !roomWaiters.isEmpty else { return }
        let waiters = roomWaiters
        roomWaiters = []
        for waiter in waiters { waiter.resume() }
    }

    /// What is known of the checkpoint's size. Upper bound of its commit's length. Under the lock.
    final func checkpointLengthBound() -> Int {
        let raw = state.checkpointBound
        return (CommitHeader.length + (raw / ControlFrames.frameLength + 2) * FrameHeader.fixedLength + raw)
            .roundedUp(toMultipleOf: format.blockSize)
    }

    /// Where commits of appends begin in a new file at worst. Under the lock.
    final func fileStartBound() -> Int {
        FormatLimits.headerCopies * format.blockSize + checkpointLengthBound()
    }

    /// Whether a checkpoint would leave most of a new file to records if it grew by so many bytes. Under the lock.
    final func checkpointFits(growingBy length: Int) -> Bool {
        UInt64(checkpointLengthBound() + length) <= min(options.journalFileSize / 4, 16 << 20)
    }
}
