import WALFormat

/// A tenant's leaving one journal of the log and coming to another: see `Journals`.
extension LogFront {
    /// Takes nothing more of a tenant, known or not. Returns the group with the last that was staged of it. Under the lock.
    final func depart(_ tenant: TenantName) -> UInt64 {
        departed.insert(tenant)
        // Appends that wait for room wait elsewhere from now on.
        wakeRoomWaiters()
        guard let index = lookup.index(of: tenant) else { return 0 }
        // So that the next append is looked at.
        tenantStaging[index].lengthLimit = 0
        return tenantStaging[index].lastGroup
    }

    /// Takes a tenant's records again. Under the lock.
    final func readmit(_ tenant: TenantName) {
        guard departed.remove(tenant) != nil else { return }
        if let index = lookup.index(of: tenant) { tenantStaging[index].lengthLimit = 0 }
    }

    /// Throws `.placementChanging` for a tenant whose records go elsewhere. Under the lock.
    final func checkPresence(of tenant: TenantName) throws(WALError) {
        if !departed.isEmpty, departed.contains(tenant) { throw .placementChanging(tenant) }
    }

    /// The number that a tenant's next record would get. Under the lock.
    final func nextSequence(of tenant: TenantName) -> UInt64 {
        lookup.index(of: tenant).map { tenantStaging[$0].nextSequence } ?? state.sequenceFloor
    }

    /// Makes a tenant known that is not. Under the lock.
    final func addTenant(_ tenant: TenantName) -> Int {
        let index = state.makeIndex(of: tenant)
        lookup.add(tenant)
        tenantStaging.append(TenantStaging(state.tenants[index], weight: weights[tenant] ?? TenantWeight.standard))
        retention.add(state.tenants[index])
        reserveDrops(by: retention.entries[index].policy, tenant: index)
        admission.fileStart = fileStartBound()
        return index
    }

    /// Throws `.tooManyTenants` where one more finds no place. Under the lock.
    final func checkRoomForTenant() throws(WALError) {
        guard state.tenants.count < options.maximumTenants, checkpointFits(growingBy: 2048) else {
            throw .tooManyTenants(limit: state.tenants.count)
        }
    }
}
