import WALFormat

/// Finds a tenant's index by its name: an open-addressing table over the hash that each name brings along. Tenants are
/// added and never removed. A plain value in effect; the log's lock guards it.
struct TenantLookup {
    private struct Slot {
        var hash: Int
        /// The tenant's index, -1 in a free slot.
        var index: Int
    }

    private var slots: Unchecked<[Slot]>
    private var names: Unchecked<[TenantName]> = Unchecked([])
    private var mask: Int

    init(_ tenants: [TenantName]) {
        mask = 63
        slots = Unchecked(Array(repeating: Slot(hash: 0, index: -1), count: mask + 1))
        for tenant in tenants { add(tenant) }
    }

    /// The index of a tenant, nil if it is not known. A few nanoseconds.
    @inline(__always)
    func index(of tenant: TenantName) -> Int? {
        var place = tenant.hash & mask
        while true {
            let slot = slots.value[place]
            if slot.index < 0 { return nil }
            if slot.hash == tenant.hash, names.value[slot.index].utf8 == tenant.utf8 { return slot.index }
            place = (place + 1) & mask
        }
    }

    /// Adds a tenant that is not known; it gets the next index.
    mutating func add(_ tenant: TenantName) {
        names.value.append(tenant)
        // At most half full, so that a look-up meets a free slot soon.
        if names.value.count * 2 > mask {
            mask = mask * 2 + 1
            slots = Unchecked(Array(repeating: Slot(hash: 0, index: -1), count: mask + 1))
            for index in names.value.indices { insert(index) }
        } else {
            insert(names.value.count - 1)
        }
    }

    private func insert(_ index: Int) {
        let hash = names.value[index].hash
        var place = hash & mask
        while slots.value[place].index >= 0 { place = (place + 1) & mask }
        slots.value[place] = Slot(hash: hash, index: index)
    }
}
