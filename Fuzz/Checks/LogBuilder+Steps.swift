import TelemetryWAL
import WALFormat

/// Fields that a step may set: offset and length of each, as SPEC.md has them.
private enum Fields {
    static let summary = [
        (12, 4), (16, 8), (32, 4), (36, 2), (40, 8), (48, 8), (56, 8), (64, 8), (72, 8), (80, 4), (84, 4), (88, 4),
        (96, 8), (104, 8), (112, 8), (120, 8), (128, 1), (384, 8), (392, 8),
    ]
    /// Entries are of several kinds: what stands at a multiple of 8.
    static let index = [(0, 8), (0, 4), (4, 4), (0, 1)]
    static let frame = [
        (4, 2), (6, 1), (7, 1), (8, 8), (16, 4), (20, 4), (24, 4), (32, 8), (40, 8), (48, 8), (56, 2),
    ]
}

extension LogBuilder {
    /// Does the next step of a recipe.
    mutating func take(_ reader: inout RecipeReader) {
        if reader.upcoming < 128 {
            journal.take(&reader, formatBytes: &formatBytes)
            return
        }
        guard let step = LogStep(rawValue: reader.byte() % 128 % UInt8(LogStep.allCases.count)) else { return }
        switch step {
        case .move:
            let (tenant, count) = (Int(reader.byte()), Int(reader.byte() % 8) + 1)
            move(tenant: tenant, count: count, Moving(rawValue: reader.byte()))
        case .merge:
            let tenant = Int(reader.byte())
            merge(tenant: tenant, isInterrupted: reader.byte() % 2 == 1)
        case .stray:
            let tenant = JournalBuilder.tenants[Int(reader.byte()) % JournalBuilder.tenants.count]
            // A segment in the making, a name that no segment has, and a name that is no tenant's directory.
            let names = [
                SegmentName.directory(of: tenant) + "/0000000000000001.tmp",
                SegmentName.directory(of: tenant) + "/1-2.segment", "tenants/a.b%zz/stray", "stray", "journal/stray",
            ]
            strays[names[Int(reader.byte()) % names.count]] = [1, 2, 3]
            hasWholeSegments = false
        default:
            hasWholeSegments = false
            guard let index = reader.index(below: segments.count) else { return }
            change(step, segmentAt: index, &reader)
        }
    }

    private mutating func change(_ step: LogStep, segmentAt index: Int, _ reader: inout RecipeReader) {
        let blockSize = journal.blockSize
        switch step {
        case .overwrite:
            let start = reader.pair()
            write(reader.array(Int(reader.byte())), at: start, of: index)
        case .zero:
            let start = Int(reader.byte()) * blockSize
            write([UInt8](repeating: 0, count: (Int(reader.byte() % 4) + 1) * blockSize), at: start, of: index)
        case .cut:
            let size = Int(reader.byte()) * blockSize
            let length = max(0, size - (reader.byte() % 2 == 1 ? 100 : 0))
            segments[index].bytes = Array(segments[index].bytes.prefix(length))
        case .remove: segments.remove(at: index)
        case .rename:
            let (first, last) = (reader.number(), reader.number())
            guard first >= 1, first <= last, last < FormatLimits.maximumNumber else { return }
            moveFile(at: index, of: segments[index].tenant, named: SegmentName.name(covering: first...last))
        case .misplace:
            let tenant = JournalBuilder.tenants[Int(reader.byte()) % JournalBuilder.tenants.count]
            moveFile(at: index, of: tenant, named: segments[index].name)
        case .fail:
            let start = UInt64(reader.byte()) * UInt64(blockSize)
            segments[index].unreadable.append(start..<start + UInt64(reader.byte() % 2 + 1) * UInt64(blockSize))
        case .patchSummary: patchSummary(of: index, &reader)
        case .patchIndex: patchIndex(of: index, &reader)
        case .patchFrame: patchFrame(of: index, &reader)
        case .patchBody: patchBody(of: index, &reader)
        case .move, .merge, .stray: break
        }
    }

    private mutating func write(_ bytes: [UInt8], at offset: Int, of index: Int) {
        let range = (offset..<offset + bytes.count).clamped(to: 0..<segments[index].bytes.count)
        if range.isEmpty { return }
        segments[index].bytes.replaceSubrange(range, with: bytes.prefix(range.count))
    }

    private mutating func moveFile(at index: Int, of tenant: TenantName, named name: String) {
        var segment = segments.remove(at: index)
        (segment.tenant, segment.name) = (tenant, name)
        let path = segment.path
        segments.removeAll { $0.path == path }
        segments.append(segment)
        forgesSegments = true
    }

    // MARK: - Fields

    private mutating func patchSummary(of index: Int, _ reader: inout RecipeReader) {
        forgesSegments = true
        let copies = reader.byte()
        let patch = FieldPatch(Fields.summary, &reader)
        let blockSize = journal.blockSize
        segments[index].bytes.withUnsafeMutableBytes { bytes in
            let last = bytes.count / blockSize * blockSize - blockSize
            for (copy, base) in [0, last].enumerated()
            where copies & (1 << UInt8(copy)) == 0 && base >= 0 && base + blockSize <= bytes.count {
                patch.apply(to: bytes, at: base)
                bytes.seal(base + 12..<base + blockSize, at: base + 8)
            }
        }
    }

    private mutating func patchIndex(of index: Int, _ reader: inout RecipeReader) {
        forgesSegments = true
        let place = reader.pair()
        let patch = FieldPatch(Fields.index, &reader)
        let blockSize = journal.blockSize
        segments[index].bytes.withUnsafeMutableBytes { bytes in
            guard let entries = bytes.segmentIndex, !entries.isEmpty else { return }
            patch.apply(to: bytes, at: entries.lowerBound + place % entries.count / 8 * 8)
            bytes.sealSegment(blockSize: blockSize)
        }
    }

    private mutating func patchFrame(of index: Int, _ reader: inout RecipeReader) {
        forgesSegments = true
        let frame = Int(reader.byte())
        let patch = FieldPatch(Fields.frame, &reader)
        let blockSize = journal.blockSize
        segments[index].bytes.withUnsafeMutableBytes { bytes in
            guard let start = bytes.segmentFrame(frame) else { return }
            patch.apply(to: bytes, at: start)
            bytes.sealSegment(blockSize: blockSize)
        }
    }

    private mutating func patchBody(of index: Int, _ reader: inout RecipeReader) {
        forgesSegments = true
        let (frame, place, value) = (Int(reader.byte()), Int(reader.byte()), reader.byte())
        let blockSize = journal.blockSize
        segments[index].bytes.withUnsafeMutableBytes { bytes in
            guard let start = bytes.segmentFrame(frame), let header = bytes.integer(UInt16.self, at: start + 4) else {
                return
            }
            let target = start + Int(header) + place
            if target < bytes.count { bytes[target] = value }
            bytes.sealSegment(blockSize: blockSize)
        }
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Where the index stands that the first summary names; nil where that leads outside.
    fileprivate var segmentIndex: Range<Int>? {
        guard let start = integer(UInt64.self, at: 72).flatMap(Int.init(exactly:)), start <= count,
            let frames = integer(UInt32.self, at: 84), let lost = integer(UInt32.self, at: 88)
        else { return nil }
        let length = Int(frames) * SegmentIndex.Frame.length + Int(lost) * SegmentIndex.LostRange.length
        return length <= count - start ? start..<start + length : nil
    }

    /// Where a frame of a segment stands, by its place in the index, modulo their number.
    fileprivate func segmentFrame(_ number: Int) -> Int? {
        guard let entries = segmentIndex, let frames = integer(UInt32.self, at: 84), frames > 0,
            let start = integer(
                UInt64.self, at: entries.lowerBound + number % Int(frames) * SegmentIndex.Frame.length
            ).flatMap(Int.init(exactly:)), start <= count
        else { return nil }
        return start
    }
}
