import WALFormat

/// How tenants share what is scarce while commits wait for the device: the memory of staging, and the places in line.
///
/// **Memory.** Up to half of `stagingLimit` anybody may take. Above that, tenants that have much staged share it by their
/// weights, and the last 16th is left to those that have little: one that floods alone gets nearly all, and one that
/// comes finds room for a little. The line is served in order, so shares of what waits are shares of what gets through.
/// Beyond some 200 tenants that flood at a time nobody has much: then room goes to whoever comes first.
///
/// **Line**, by rounds (Sharma and others, "Approximating Fair Queueing on Reconfigurable Switches", NSDI 2018): each
/// waiting group is a round, in which a tenant may add what its weight gives. An append goes into the first one where it
/// may, so that it waits for a commit or two and not for all that others have staged. What is enqueued goes to the end:
/// nobody waits for it, and a barrier covers all that was enqueued before.
extension LogFront {
    /// The share of staging that is left to tenants that have little there, and the share that is little: who has no more
    /// does not count as one that floods.
    private static let reservedShare = 16
    private static let smallShare = 256
    /// The share of a group's target that a tenant of standard weight may add to each waiting group.
    private static let roundShare = 8

    /// Waiting groups that an append looks at.
    private static let mostRounds = 16

    /// Bytes that a waiting group may grow to: half as much again as one usually has. The rest of the bandwidth is for
    /// those at the end of the line.
    private final var longestRound: Int { Self.groupTarget(options) / 2 * 3 }

    /// Whether staging has room for so many bytes of a tenant. Under the lock.
    @inline(__always)
    final func hasStagingRoom(tenant index: Int?, length: Int) -> Bool {
        let (total, limit) = (stagedBytes + length, options.stagingLimit)
        if total <= limit / 2 || stagedBytes == 0 { return true }
        guard let index, tenantStaging[index].stagedLength > 0 else { return total <= limit }
        let staging = tenantStaging[index]
        let own = staging.stagedLength + length
        let reserve = limit / Self.reservedShare
        // However many have little there, together they have no more than is kept for them.
        if own <= min(limit / Self.smallShare, reserve / stagedTenants) { return total <= limit }
        let shared = limit - reserve
        // Who is not counted yet may enter by the reserve: others get less from then on.
        if total > (isLarge(staging.stagedLength) ? shared : limit) { return false }
        // Not counted so far, it is from here on.
        let weights = stagedWeight + (isLarge(staging.stagedLength) ? 0 : staging.weight)
        return own * weights <= shared * staging.weight
    }

    @inline(__always)
    private final func isLarge(_ stagedLength: Int) -> Bool { stagedLength > options.stagingLimit / Self.smallShare }

    /// A tenant has so many bytes more, or fewer, in staging. Under the lock.
    @inline(__always)
    final func changeStagedLength(by length: Int, tenant index: Int) {
        stagedBytes += length
        let before = tenantStaging[index].stagedLength
        tenantStaging[index].stagedLength = before + length
        if before == 0 { stagedTenants += 1 } else if before + length == 0 { stagedTenants -= 1 }
        let (wasLarge, isLarge) = (isLarge(before), isLarge(before + length))
        if wasLarge != isLarge { stagedWeight += isLarge ? tenantStaging[index].weight : -tenantStaging[index].weight }
    }

    /// The place in line of the first waiting group to which an append may be added; nil: it goes into the open one.
    /// Under the lock.
    final func roundForAppend(
        tenant index: Int, named tenant: TenantName, count: Int, length: Int
    ) -> Int? {
        guard let oldest = closedGroups.first else { return nil }
        let staging = tenantStaging[index]
        // Numbers follow each other. Its records stay in order: none goes before one that was staged before it.
        let first = staging.lastGroup > oldest.number ? Int(staging.lastGroup - oldest.number) : 0
        guard first < closedGroups.count else { return nil }
        let quantum = max(1, Self.groupTarget(options) / Self.roundShare * staging.weight / TenantWeight.standard)
        var credit = 0
        for place in first..<min(closedGroups.count, first + Self.mostRounds) {
            let group = closedGroups[place]
            // What it may add in the rounds that it lets pass adds up: a batch of up to half a group comes to its turn.
            let own = group.number == staging.lastGroup ? staging.lengthInLastGroup : 0
            credit = max(0, credit + quantum - own)
            guard length <= credit, group.rawLength + length <= longestRound,
                group.frameCount < FormatLimits.maximumFrameCount - 64,
                group.recordCount + count <= FormatLimits.maximumRecordCount
            else { continue }
            let worst = group.worstLength(
                blockSize: format.blockSize, addingRecords: length, newTenantLength: tenant.utf8.count)
            guard admission.fileStart + worst <= admission.usableEnd else { continue }
            // All behind it move back: they were admitted and have to stay so.
            var end = positionBehindClosedGroups(with: worst, at: place)
            if !openGroup.isEmpty {
                end = admission.placing(openGroup.worstLength(blockSize: format.blockSize), at: end)
            }
            guard admission.allows(end) else { return nil }
            admittedLength = 0
            statistics.passingAppends += 1
            return place
        }
        return nil
    }

    /// Sets a tenant's weight. Under the lock.
    final func setWeight(_ weight: Int, of tenant: TenantName) {
        weights[tenant] = weight
        if let index = lookup.index(of: tenant) {
            if isLarge(tenantStaging[index].stagedLength) { stagedWeight += weight - tenantStaging[index].weight }
            tenantStaging[index].weight = weight
        }
        wakeRoomWaiters()
    }

    /// A group's records do not wait any more. Under the lock.
    final func unstage(_ group: StagedGroup) {
        for index in 0..<group.frameCount {
            changeStagedLength(by: -group.frames[index].rawLength, tenant: group.frames[index].tenantIndex)
        }
    }
}

/// Shares of the commit bandwidth where it is scarce.
enum TenantWeight {
    /// Of tenants that were given none.
    static let standard = 100

    static func checked(_ weight: Int) throws(WALError) {
        guard (1...10_000).contains(weight) else {
            throw .invalidOption("a tenant's weight is \(weight); give 1 to 10000")
        }
    }
}
