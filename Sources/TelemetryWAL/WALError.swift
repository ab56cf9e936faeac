import WALFormat
import WALStorage

/// Why the WAL refused or failed. Each case says what a caller can do.
public enum WALError: Error, Sendable, CustomStringConvertible {
    /// A tenant's or subscriber's name is not valid.
    case invalidName(TenantNameError)
    /// A record's payload is too long; split it. Nothing of the call was appended.
    case recordTooLarge(length: Int, limit: Int)
    /// A batch does not fit into one commit; split it. Nothing of it was appended.
    case batchTooLarge(length: Int, limit: Int)
    /// The log has as many tenants as its options allow.
    case tooManyTenants(limit: Int)
    /// The subscribers' cursors would fill too much of a journal file.
    case tooManySubscribers(limit: Int)
    /// Back-pressure: the tenant's budget is used up by records that some subscriber lacks. Its appends go on when these
    /// are acknowledged, or with a larger budget; other tenants' go on meanwhile.
    case tenantFull(tenant: TenantName, limit: UInt64)
    /// The tenant's budget is used up and its policy is to take no more: the records of this call are counted as dropped,
    /// and need not be tried again.
    case dropped(tenant: TenantName, records: Int)
    /// No record of the tenant was ever in the log.
    case unknownTenant(TenantName)
    /// Back-pressure: the tenant's appends arrive faster than the device takes them, and have all of `stagingLimit` that
    /// others leave them. Wait for a barrier and try again.
    case stagingFull(limit: Int)
    /// Back-pressure: no journal file is free, and none can be made: the disk is full, or the log's own limit
    /// is reached. Reading, acknowledging and closing go on working; acknowledging frees files.
    case journalFull(reason: String)
    /// A file operation failed; nothing was lost.
    case storage(StorageError)
    /// Writing failed twice, in two files. The log refuses appends until it is opened again; what was
    /// acknowledged is safe.
    case failed(StorageError)
    /// The log was closed.
    case closed
    /// The directory holds no log, or something else.
    case notALog(path: String, reason: String)
    /// The log was written in a format of another version, or its numbers have come to the limits of this one.
    case unsupportedFormat(path: String, reason: String)
    /// Damage was met while reading: a place whose bytes fail their checks.
    case damaged(path: String, offset: UInt64, reason: String)
    /// The key with which a tenant's records are encrypted, or are to be, is not to be had. `sequences` are those that
    /// could not be read; nil: none of the call's records were appended. Nothing is lost: with the key it works.
    case keyUnavailable(tenant: TenantName, sequences: ClosedRange<UInt64>?, reason: String)
    /// The key of a tenant's records was forgotten on purpose: nobody reads them any more. Whoever reads on goes on
    /// behind them.
    case keyForgotten(tenant: TenantName, sequences: ClosedRange<UInt64>, identifier: UInt64)
    /// The tenant is on its way from one journal to another, for some milliseconds: `enqueue` would have to wait. The
    /// other appends do.
    case placementChanging(TenantName)
    /// The tenant's own journal cannot be used: its volume is not mounted, or another process has it. Other tenants go on;
    /// when the log is opened again, it is tried again.
    case journalUnavailable(tenant: TenantName, path: String, reason: String)
    /// An option's value is out of its range.
    case invalidOption(String)

    public var description: String {
        switch self {
        case .invalidName(let error): "\(error)"
        case .recordTooLarge(let length, let limit):
            "record of \(length) bytes: at most \(limit) are allowed; split it"
        case .batchTooLarge(let length, let limit):
            "batch of \(length) bytes: one commit takes at most \(limit); split it"
        case .tooManyTenants(let limit): "the log has \(limit) tenants and takes no more; raise maximumTenants"
        case .tooManySubscribers(let limit):
            "the log has \(limit) subscribers, whose cursors fill a quarter of a journal file; raise journalFileSize"
        case .tenantFull(let tenant, let limit):
            "tenant \(tenant) has \(limit) bytes of undelivered records, its whole budget; replay and acknowledge, or "
                + "raise the budget"
        case .dropped(let tenant, let records):
            "\(records) record\(records == 1 ? "" : "s") of tenant \(tenant) dropped: its budget is used up, and its "
                + "policy is drop-newest"
        case .unknownTenant(let tenant): "the log has no tenant \(tenant); walctl tenants lists those it has"
        case .stagingFull(let limit):
            "the tenant's appends come faster than the device takes them, and what may wait (stagingLimit, \(limit) bytes) "
                + "has no more room for them; slow down"
        case .journalFull(let reason):
            "the journal is full (\(reason)); replay and acknowledge, free space, or raise journalLimit"
        case .storage(let error): "\(error)"
        case .failed(let error): "writing failed, the log refuses appends until it is opened again: \(error)"
        case .closed: "the log is closed"
        case .notALog(let path, let reason): "\(path): no telemetry WAL: \(reason)"
        case .unsupportedFormat(let path, let reason):
            "\(path): \(reason); use the version of this software that wrote it"
        case .damaged(let path, let offset, let reason): "\(path): offset \(offset): \(reason); run walctl verify"
        case .keyUnavailable(let tenant, let sequences?, let reason):
            "records \(sequences.lowerBound) to \(sequences.upperBound) of tenant \(tenant) are encrypted: \(reason); give "
                + "the log the key provider that they were written with"
        case .keyUnavailable(let tenant, nil, let reason):
            "no key to encrypt records of tenant \(tenant): \(reason); nothing was appended"
        case .keyForgotten(let tenant, let sequences, let identifier):
            "records \(sequences.lowerBound) to \(sequences.upperBound) of tenant \(tenant) are gone with key "
                + "\(identifier), which was forgotten"
        case .placementChanging(let tenant): "tenant \(tenant) is moving to another journal; try again"
        case .journalUnavailable(let tenant, let path, let reason):
            "\(path): tenant \(tenant)'s own journal cannot be used: \(reason); see to it and open the log again"
        case .invalidOption(let reason): "option out of range: \(reason)"
        }
    }
}
