import WALFormat
import WALStorage

/// A tenant segment, as tools show it.
public struct SegmentStatus: Sendable {
    public let tenant: TenantName
    /// The numbers that it stands for.
    public let covered: ClosedRange<UInt64>
    /// Path below the log's root.
    public var path: String { SegmentName.directory(of: tenant) + "/" + SegmentName.name(covering: covered) }
}

/// What a look into a segment found.
public struct SegmentReport: Sendable {
    /// Numbers whose records a segment does not have and some subscriber may lack.
    public struct Loss: Sendable, Hashable {
        public let sequences: ClosedRange<UInt64>
        /// Where in the file, bytes; 0 where they were lost before they came here.
        public let offset: UInt64
        public let reason: String
        /// A repair has stated that nobody waits for them any more.
        public var isGivenUp = false
    }

    public let segment: SegmentStatus
    /// Bytes of the file.
    public internal(set) var length: UInt64 = 0
    public internal(set) var frames = 0
    /// Encrypted frames whose checksums hold, and that were to be opened and not, for want of the key.
    public internal(set) var framesNotOpened: UInt64 = 0
    /// Of one of these the key is there and does not open it: another secret has its identifier, or somebody changed the
    /// frame on purpose.
    public internal(set) var hasAnotherSecret = false
    /// Records that can be read.
    public internal(set) var records: UInt64 = 0
    /// Bytes of the records, headers included, before compression.
    public internal(set) var rawLength: UInt64 = 0
    /// No record is earlier, none later; nanoseconds since 1970 (UTC). nil where there is none.
    public internal(set) var timestamps: ClosedRange<UInt64>?
    public internal(set) var losses: [Loss] = []
    /// What is wrong with summary or index, where the frames had to be looked for without.
    public internal(set) var fault: String?

    init(_ segment: SegmentStatus) { self.segment = segment }

    /// Whether a person should look at it: damage that no repair has dealt with.
    public var isDamaged: Bool { fault != nil || losses.contains { !$0.isGivenUp } }
}

extension WriteAheadLogReader {
    /// All segments, tenants in the order in which they came, each one's by number.
    public var segments: [SegmentStatus] { recovered.state.tenants.flatMap { segments(of: $0.name) } }

    /// A tenant's segments, by number.
    public func segments(of tenant: TenantName) -> [SegmentStatus] {
        recovered.segments.entries(of: tenant).map { SegmentStatus(tenant: tenant, covered: $0.covered) }
    }

    /// Looks into a segment: reads its summary and index and, with `opensFrames`, each frame, decompressed, its records
    /// walked. Damage is no error but in the report. nil where the segment is gone, which a living writer merged or
    /// removed. Throws `.unsupportedFormat`, `.storage`.
    public func report(on segment: SegmentStatus, opensFrames: Bool) throws(WALError) -> SegmentReport? {
        guard var report = try reportAsItStands(on: segment, opensFrames: opensFrames) else { return nil }
        // What is erased, or about to be, fails its checks and is missed by nobody.
        if report.isDamaged {
            var byNow = LogByNow(of: self)
            let erased = byNow.erasedThrough(segment.tenant, segment.covered.upperBound)
            report.losses.removeAll { $0.sequences.upperBound <= erased }
            if segment.covered.upperBound <= erased { report.fault = nil }
        }
        return report
    }

    private func reportAsItStands(
        on segment: SegmentStatus, opensFrames: Bool
    ) throws(WALError) -> SegmentReport? {
        var report = SegmentReport(segment)
        let file: SegmentFile<Storage>
        do throws(WALError) {
            file = try SegmentFile(
                SegmentName.name(covering: segment.covered), of: segment.tenant, in: storage, format: format,
                keys: keys)
        } catch {
            switch error {
            case .storage(let cause) where cause.code == .notFound: return nil
            case .damaged(_, let offset, let reason):
                report.losses = [.init(sequences: segment.covered, offset: offset, reason: reason)]
                return report
            default: throw error
            }
        }
        report.length = file.length
        report.fault = file.fault?.description
        report.frames = file.index.frames.count
        for range in file.index.lostRanges where range.cause != .dropped {
            report.losses.append(
                .init(
                    sequences: range.sequences, offset: 0, reason: "lost before they came here",
                    isGivenUp: range.cause == .givenUp))
        }
        for (number, frame) in file.index.frames.enumerated() {
            do throws(WALError) {
                if opensFrames, try !file.opens(frame: number) { report.framesNotOpened += 1 }
                report.records += UInt64(frame.recordCount)
                report.rawLength += UInt64(frame.rawLength)
                let times = frame.lowestTimestamp...max(frame.lowestTimestamp, frame.highestTimestamp)
                report.timestamps =
                    report.timestamps.map {
                        min($0.lowerBound, times.lowerBound)...max($0.upperBound, times.upperBound)
                    } ?? times
            } catch {
                guard case .damaged(_, let offset, let reason) = error else { throw error }
                report.losses.append(
                    .init(sequences: frame.firstSequence...frame.lastSequence, offset: offset, reason: reason))
            }
        }
        report.hasAnotherSecret = file.hasMetAnotherSecret
        report.losses.sort { $0.sequences.lowerBound < $1.sequences.lowerBound }
        return report
    }
}
