/// Where the tenants' records lie in a journal file, by the tenant's index in the log's state. Every frame that becomes
/// durable adds to it under the log's lock: an open-addressing table over the index itself, which is small and dense,
/// instead of a dictionary with its hashing.
struct TenantExtents: Sequence {
    typealias Element = (tenantIndex: Int, extent: TenantExtent)

    private var entries: [Element] = []
    /// Places in `entries`, -1 in a free slot; at most half full.
    private var slots: [Int32] = []

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// A tenant's extent, nil if the file holds none of its records.
    subscript(tenantIndex: Int) -> TenantExtent? {
        let slot = slot(of: tenantIndex)
        return slot < slots.count && slots[slot] >= 0 ? entries[Int(slots[slot])].extent : nil
    }

    /// Extends a tenant's extent by a later one.
    mutating func add(_ extent: TenantExtent, ofTenant tenantIndex: Int) {
        let slot = slot(of: tenantIndex)
        if slot < slots.count, slots[slot] >= 0 {
            entries[Int(slots[slot])].extent.extend(by: extent)
            return
        }
        entries.append((tenantIndex, extent))
        if entries.count * 2 > slots.count {
            slots = Array(repeating: -1, count: Swift.max(16, slots.count * 2))
            for place in entries.indices { slots[self.slot(of: entries[place].tenantIndex)] = Int32(place) }
        } else {
            slots[slot] = Int32(entries.count - 1)
        }
    }

    func makeIterator() -> IndexingIterator<[Element]> { entries.makeIterator() }

    /// The slot that holds a tenant, or the free one where it would go. The number of slots is a power of two.
    private func slot(of tenantIndex: Int) -> Int {
        guard !slots.isEmpty else { return 0 }
        var slot = tenantIndex & (slots.count - 1)
        while slots[slot] >= 0, entries[Int(slots[slot])].tenantIndex != tenantIndex {
            slot = (slot + 1) & (slots.count - 1)
        }
        return slot
    }
}
