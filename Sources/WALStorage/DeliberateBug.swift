#if Simulation
    /// Mistakes that a storage engine could make, to be switched on by name in the simulator's build, so that it can be
    /// seen that the simulator finds them. In every other build there is nothing of them.
    package enum DeliberateBug: String, CaseIterable, Sendable {
        /// A receipt is given for a write that was not flushed.
        case acknowledgeBeforeFlush
        /// A commit of an earlier life of a file is taken for one of the present.
        case ignoreEpochs
        /// A new file's name is not made durable.
        case skipDirectorySync
        /// Recovery ends the log at the first damage.
        case truncateAtFirstDamage
        /// A write that failed is flushed again, and that is taken for success.
        case retryFailedWriteInPlace
        /// A commit need not continue the chain: neither its number nor the checksum that it repeats matters.
        case dropChainCheck
        /// A commit's buffer is used again while the device reads from it.
        case reuseBufferInFlight
        /// A cursor counts as durable when it is acknowledged, not when its commit is.
        case advanceCursorBeforeCommit
        /// A block of zeros ends a file in peace.
        case acceptZeroBlock
        /// Groups are acknowledged as their writes end, not in the log's order.
        case acknowledgeOutOfOrder
        /// A commit vouches for those that are under way beside it.
        case vouchForCommitsUnderWay
        /// What is read as the log's end when it is opened is not made durable.
        case skipSynchronizeAtOpening
        /// After a failed write the log goes on as if the commits under way were durable.
        case countFailedCommits
        /// The state of the last tenant is left out of checkpoints.
        case forgetTenantInCheckpoint
        /// Cursors are left out of checkpoints.
        case forgetCursorsInCheckpoint
        /// A write that was done in part is taken for success.
        case swallowShortWrite
        /// What the device fails to read is taken for the log's end.
        case ignoreReadErrors
        /// Nobody is told that a group is durable.
        case loseWakeUp
        /// What stands behind a torn commit is taken for acknowledged, and the torn one for damage.
        case acceptUnvouchedCommits
        /// One sector that cannot be read takes all that is read with it.
        case giveUpAtUnreadableBlock
        /// A reader beside the writer shows commits that may be under way.
        case showCommitsUnderWay
        /// A journal file is used again although the segments that hold its records have no name yet.
        case skipRenameOfSegments
        /// A merge puts the records of its second segment first.
        case reorderInMerge
        /// A merge drops frames that nobody has acknowledged.
        case dropUnacknowledgedInMerge
        /// A reader whose next segment was merged goes on behind what that one held.
        case passOverMerged
        /// Segments are removed when one subscriber has their records.
        case removeSegmentsOfOthers
        /// What moves into segments counts against the tenant's budget once more.
        case countBudgetTwice
        /// Records count as dropped when that is decided, not when it is durable.
        case dropBeforeCommit
        /// An erasure removes a tenant's segments and leaves the journal as it is.
        case eraseMissesJournal
        /// Records that are lost in a journal file do not show in the segments made of it.
        case forgetLossInSegments
        /// A frame is read with the tenant's present key, whatever key its header names.
        case swapKeyIdentifier
        /// `FORMAT` says that a log is encrypted when its second encrypted commit is written.
        case markEncryptionLate
        /// What moves into segments is not encrypted again.
        case compactInTheOpen
        /// A frame that moves as it is, since its key is not to be had, loses the epoch that it is bound to.
        case forgetEpochOfCarried
        /// Where a tenant's records go from now on is not written down.
        case forgetPlacement
        /// Of a tenant that has moved, what came last is read first.
        case readResidencesBackwards
        /// A subscriber's cursor moves on with any section that has ended, whatever became of those before it.
        case acknowledgePastOpenSections
        /// What was dropped from memory of a tenant that stands still is not read again.
        case forgetDroppedQueue
        /// Who was behind is live again as soon as its segments end.
        case passOverCatchUp
        /// Of a batch that is halved, one half is lost.
        case loseHalfOfRefused
        /// More is sent of a tenant although acknowledgements are not durable.
        case sendPastWindow

        /// The one that is switched on. Set before a simulation begins, by its only thread.
        package nonisolated(unsafe) static var active: DeliberateBug?

        package static func isActive(_ bug: DeliberateBug) -> Bool { unsafe active == bug }
    }
#endif
