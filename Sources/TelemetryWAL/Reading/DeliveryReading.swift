import WALFormat

/// What was read for a replayer at a time.
package struct DeliveryReading: Sendable {
    /// Something that was met on the way.
    package enum Item: Sendable {
        case batch(RecordBatch)
        /// Records that cannot be read, or not now: `.damaged`, `.keyForgotten`, `.keyUnavailable`, `.journalUnavailable`,
        /// `.storage`. `tenant`: whose they are, where that is known; nothing more comes of a tenant whose records
        /// cannot be had now until it is asked for again.
        case failure(WALError, tenant: TenantName?)
    }

    /// What a batch takes in memory beside its records.
    package static var batchOverhead: Int { 256 }

    package var items: [Item] = []
    package var byteCount = 0
    /// All that is durable was given, but to those who take nothing, or whose records cannot be had now.
    package var isAtEnd = false

    package init() {}
}
