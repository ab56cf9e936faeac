import WALFormat

/// A tenant as the log sees it.
public struct TenantStatus: Sendable {
    public let name: TenantName
    /// The number that the next record gets: as many as were ever appended, plus one.
    public let nextSequence: UInt64
    /// Sequence numbers that journal and segments still hold, nil where they hold none.
    public let held: ClosedRange<UInt64>?
    /// Per subscriber, through which sequence number it has acknowledged.
    public let acknowledgedThrough: [TenantName: UInt64]
    /// Through which number records were dropped, whoever lacked them; 0: none.
    public let droppedThrough: UInt64
    /// What was dropped since the log began, or not taken, by cause.
    public let drops: [DropCause: DropTotal]
    /// The tenant was erased, or is about to be; nil: never.
    public let erasure: TenantErasure?
    /// Records in the log that some subscriber lacks, by their numbers; all that are there while nobody subscribes.
    public let backlog: UInt64
    /// Bytes of these with 16 bytes each, uncompressed: what counts against a budget. After the log was opened it is an
    /// estimate where a subscriber has a part of what one journal file held.
    public let backlogLength: UInt64
    /// About when the log received the first of them, nanoseconds since 1970 (UTC); nil where there is none.
    public let oldestReceived: UInt64?

    /// The tenants of the shared journal, with what is of them in their own. `residences` in the order of a table; nil
    /// where they are in the shared journal, or their journal cannot be used.
    static func joining(
        _ shared: [TenantStatus], _ residences: [(residence: PlacementTable.Residence, own: [TenantStatus]?)],
        _ accounts: [PlacementTable.Account]
    ) -> [TenantStatus] {
        if residences.isEmpty { return shared }
        let accounts = Dictionary(grouping: accounts, by: \.tenant)
        var names = shared.map(\.name)
        var parts = Dictionary(grouping: residences, by: \.residence.tenant)
        let inShared = Dictionary(uniqueKeysWithValues: shared.map { ($0.name, $0) })
        for tenant in parts.keys.sorted() where inShared[tenant] == nil { names.append(tenant) }
        return names.compactMap { name in
            guard let own = parts.removeValue(forKey: name) else { return inShared[name] }
            var statuses: [Part] = []
            var unavailable: [UInt64] = []
            let first = own.map(\.residence.firstSequence).min() ?? 1
            for (residence, status) in own {
                if residence.home != .shared, status == nil { unavailable.append(residence.firstSequence) }
                let status =
                    residence.home == .shared ? inShared[name] : status?.first { $0.name == name }
                if let status { statuses.append(Part(residence: residence, status: status)) }
            }
            return joined(
                statuses, beside: inShared[name], from: first, accounts[name] ?? [],
                unavailableFrom: unavailable.min())
        }
    }

    /// A residence, and what its journal says of the tenant.
    private struct Part {
        var residence: PlacementTable.Residence
        var status: TenantStatus
        var first: UInt64 { residence.firstSequence }
    }

    /// What a tenant has in several residences, in their order. A journal that is there twice has one status.
    /// `shared`: what is told of it in the shared journal, where its records may have been before all residences, the first of
    /// which begins at `first`.
    /// `unavailableFrom`: from which number on records may be where nobody can look.
    private static func joined(
        _ parts: [Part], beside shared: TenantStatus?, from first: UInt64, _ accounts: [PlacementTable.Account],
        unavailableFrom: UInt64?
    ) -> TenantStatus? {
        // Its own journals cannot be used: there is what the shared one says.
        guard let last = parts.last?.status else { return shared }
        let distinct = parts.enumerated().filter { place, part in
            !parts[..<place].contains { $0.residence.home == part.residence.home }
        }.map(\.element.status)
        func end(_ place: Int) -> UInt64 {
            let next = parts[place].status.nextSequence
            return (place + 1 < parts.count ? min(next, parts[place + 1].first) : next) - 1
        }
        var drops: [DropCause: DropTotal] = [:]
        let others = parts.contains { $0.residence.home == .shared } ? [] : [shared].compactMap(\.self)
        let all = distinct + others
        for status in all { drops.merge(status.drops) { $0.adding($1) } }
        for account in accounts {
            if let cause = account.cause { drops[cause] = drops[cause]?.adding(account.total) ?? account.total }
        }
        // Whoever has a record has all before it, wherever they are.
        var acknowledged: [TenantName: UInt64] = [:]
        for status in all { acknowledged.merge(status.acknowledgedThrough) { max($0, $1) } }
        let erasures =
            all.compactMap(\.erasure)
            + accounts.filter { $0.cause == nil }.map {
                TenantErasure(through: $0.through, requested: $0.total.firstReceived, isComplete: true)
            }
        // It is complete when it is in each journal that has, or may have, a number of it.
        let erasure = erasures.reduce(nil as TenantErasure?) { $0?.later($1) ?? $1 }.map { latest in
            func lacks(_ status: TenantStatus, _ last: UInt64) -> Bool {
                status.erasure?.through ?? 0 < min(last, latest.through)
            }
            let isMissing =
                parts.enumerated().contains { $1.first <= latest.through && lacks($1.status, end($0)) }
                || others.contains { lacks($0, min($0.nextSequence, first) - 1) }
                || unavailableFrom.map { $0 <= latest.through } ?? false
            return TenantErasure(
                through: latest.through, requested: latest.requested,
                isComplete: !isMissing && erasures.allSatisfy(\.isComplete))
        }
        let droppedThrough = all.map(\.droppedThrough) + accounts.map(\.through)
        let held = parts.compactMap(\.status.held)
        let backlog = parts.enumerated().reduce(UInt64(0)) { sum, part in
            let (place, first, status) = (part.offset, part.element.first, part.element.status)
            let last = end(place)
            let released = status.nextSequence - 1 - min(status.nextSequence - 1, status.backlog)
            return sum + last - min(last, max(first - 1, released))
        }
        return TenantStatus(
            name: last.name, nextSequence: parts.map(\.status.nextSequence).max() ?? 1,
            held: held.isEmpty ? nil : held.map(\.lowerBound).min()!...held.map(\.upperBound).max()!,
            acknowledgedThrough: acknowledged, droppedThrough: droppedThrough.max() ?? 0,
            drops: drops, erasure: erasure,
            backlog: backlog, backlogLength: distinct.reduce(0) { $0 + $1.backlogLength },
            oldestReceived: distinct.compactMap(\.oldestReceived).min())
    }

    static func all(in state: LogState, files: [LiveFile], segments: SegmentCatalog) -> [TenantStatus] {
        state.tenants.enumerated().map { index, tenant in
            let extents = files.compactMap { $0.extents[index] }
            let entries = segments.entries(of: tenant.name)
            let firsts = extents.map(\.firstSequence) + entries.prefix(1).map(\.covered.lowerBound)
            let lasts = extents.map(\.lastSequence) + entries.suffix(1).map(\.covered.upperBound)
            var held: ClosedRange<UInt64>?
            if let first = firsts.min(), let last = lasts.max() { held = first...max(first, last) }
            let unheld = held.map { $0.lowerBound - 1 } ?? tenant.nextSequence - 1
            let released = state.releasedThrough(tenant: index)
            return TenantStatus(
                name: tenant.name, nextSequence: tenant.nextSequence, held: held,
                acknowledgedThrough: Dictionary(
                    uniqueKeysWithValues: state.cursors.keys.map {
                        ($0, state.acknowledgedThrough($0, tenant: index))
                    }),
                droppedThrough: tenant.droppedThrough, drops: tenant.drops, erasure: tenant.erasure,
                backlog: tenant.nextSequence - 1 - min(tenant.nextSequence - 1, max(released, unheld)),
                backlogLength: state.heldLength(tenant: index),
                oldestReceived: tenant.backlog.received(of: max(released, tenant.backlog.baseSequence) + 1))
        }
    }
}
