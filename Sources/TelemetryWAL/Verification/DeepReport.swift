import WALFormat

/// Where a log contradicts itself although every checksum holds, and what stands in its directories that is not its own:
/// mistakes of a writer, a copy gone bad that its twin has stood in for so far, strangers' files.
public struct DeepReport: Sendable {
    public enum What: String, CaseIterable, Sendable {
        /// A frame's header says of kinds or times what its records do not keep to: a reader that selects by them misses
        /// records.
        case frameMisstated
        /// A segment's index says another thing of a frame than the frame's header.
        case indexMisstated
        /// A record stands in the journal and in a segment, and not as the same.
        case recordsDiffer
        /// A payload is not what its record's kind says. Of the appender's making: the log keeps what it is given.
        case payloadInvalid
        /// Of two copies one is not whole, or they differ.
        case copyDamaged
        /// A file that is not the log's lies in one of its directories. It is left alone, but where a tenant's segments
        /// lie an erasure of that tenant overwrites and removes it.
        case fileStrange
    }

    /// One place.
    public struct Finding: Sendable {
        public let what: What
        /// Path below the log's root.
        public let path: String
        /// Where in the file, bytes: the commit, the frame in a segment, or the damaged copy.
        public let offset: UInt64
        public let tenant: TenantName?
        /// Numbers of the records that it is about.
        public let sequences: ClosedRange<UInt64>?
        public let detail: String
    }

    /// At most so many are kept of each kind: `counts` has all.
    public static var mostFindings: Int { 1000 }

    public private(set) var findings: [Finding] = []
    public private(set) var counts: [What: UInt64] = [:]
    /// Frames whose contents were held against what is said of them.
    public internal(set) var frames: UInt64 = 0
    /// Records in them.
    public internal(set) var records: UInt64 = 0
    /// Records that stood in journal and segments, and were compared.
    public internal(set) var recordsCompared: UInt64 = 0
    /// Encrypted frames that were not looked into, for want of the key.
    public internal(set) var framesNotOpened: UInt64 = 0

    /// Journal files and segments that left the log before they were looked at to the end, since a living writer began
    /// them anew, merged or removed them: their records are elsewhere by then, or delivered.
    public internal(set) var filesPassedOver: UInt64 = 0

    /// How many findings there are beyond those that are kept.
    public var unlisted: UInt64 { counts.values.reduce(0, +) - UInt64(findings.count) }

    mutating func add(
        _ what: What, _ path: String, at offset: UInt64 = 0, tenant: TenantName? = nil,
        sequences: ClosedRange<UInt64>? = nil, _ detail: String
    ) {
        counts[what, default: 0] += 1
        guard counts[what, default: 0] <= UInt64(Self.mostFindings) else { return }
        findings.append(
            Finding(what: what, path: path, offset: offset, tenant: tenant, sequences: sequences, detail: detail))
    }
}
