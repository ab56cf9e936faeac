import Foundation
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// Segments on a real file system: what goes in comes out, whatever the disk did to everything else.
@Suite struct SegmentFileTests {
    let directory = TemporaryDirectory()
    let plan = FaultPlan()
    private let tenant: TenantName = "acme/ü"

    private func format(blockSize: Int = 4096) -> RootFormat {
        var generator = SystemRandomNumberGenerator()
        return RootFormat(logIdentifier: LogIdentifier(using: &generator), blockSize: blockSize, created: 1)
    }

    private var storage: FaultyStorage { FaultyStorage(at: directory.path, plan: plan) }

    /// A record's payload, told by its number; every third shrinks well.
    private func payload(_ sequence: UInt64, length: Int) -> [UInt8] {
        if sequence % 3 == 0 { return [UInt8](repeating: UInt8(truncatingIfNeeded: sequence), count: length) }
        var word = sequence &* 0x9E37_79B9_7F4A_7C15 | 1
        return [UInt8](unsafeUninitializedCapacity: length) { bytes, count in
            // Not a map: without optimization it is slow.
            while count < length {
                word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes[count] = UInt8(truncatingIfNeeded: word >> 40)
                count += 1
            }
        }
    }

    private func add(_ sequences: ClosedRange<UInt64>, length: Int, to writer: SegmentWriter<FaultyStorage>) throws {
        var body: [UInt8] = []
        for sequence in sequences {
            var header = [UInt8](repeating: 0, count: RecordHeader.length)
            header.withMutableRawSpan { (span: inout MutableRawSpan) in
                RecordHeader(payloadLength: length, kind: RecordKind.log.rawValue, timestamp: sequence * 10)
                    .encode(into: &span, at: 0)
            }
            body += header + payload(sequence, length: length)
        }
        try body.withRawSpan { (span: RawSpan) throws(StorageError) in
            try writer.add(
                span,
                .init(
                    sequences: sequences, kinds: RecordKindSet(.log), lowestTimestamp: sequences.lowerBound * 10,
                    highestTimestamp: sequences.upperBound * 10))
        }
    }

    /// Writes and publishes a segment of runs of records of one length.
    private func write(
        _ runs: [ClosedRange<UInt64>], length: Int, lost: [ClosedRange<UInt64>] = [], covering: ClosedRange<UInt64>,
        format: RootFormat
    ) throws -> SegmentSummary {
        let writer = SegmentWriter(storage: storage, format: format)
        writer.begin(tenant, from: covering.lowerBound)
        for run in runs { try add(run, length: length, to: writer) }
        for range in lost { writer.addLost(range, cause: .damaged) }
        let finished = try writer.finish(covering: covering, created: 7, received: 5...9)
        #expect(FileManager.default.fileExists(atPath: "\(directory.path)/\(finished.rename.temporary).tmp"))
        try storage.publish([finished.rename])
        return finished.summary
    }

    private func open(_ covering: ClosedRange<UInt64>, _ format: RootFormat) throws -> SegmentFile<FaultyStorage> {
        try SegmentFile(SegmentName.name(covering: covering), of: tenant, in: storage, format: format)
    }

    private func path(_ covering: ClosedRange<UInt64>) -> String {
        "\(directory.path)/tenants/acme%2F%C3%BC/\(SegmentName.name(covering: covering))"
    }

    /// All records of a segment that can be read, by number, and how many frames cannot.
    private func read(_ segment: SegmentFile<FaultyStorage>) -> (records: [UInt64: [UInt8]], damaged: Int) {
        var (records, damaged): ([UInt64: [UInt8]], Int) = ([:], 0)
        for number in segment.index.frames.indices {
            do throws(WALError) {
                for record in try segment.batch(ofFrame: number).records {
                    records[record.sequence] = Array(record.payload)
                }
            } catch { damaged += 1 }
        }
        return (records, damaged)
    }

    private func check(_ segment: SegmentFile<FaultyStorage>, holds runs: [ClosedRange<UInt64>], length: Int) {
        let (records, damaged) = read(segment)
        #expect(damaged == 0)
        #expect(records.count == runs.reduce(0) { $0 + $1.count })
        for (sequence, found) in records where found != payload(sequence, length: length) {
            Issue.record("record \(sequence) is another one")
        }
        for run in runs where !run.allSatisfy({ records[$0] != nil }) { Issue.record("records of \(run) are missing") }
    }

    private func edit(_ covering: ClosedRange<UInt64>, _ change: (inout [UInt8]) -> Void) throws {
        let url = URL(fileURLWithPath: path(covering))
        var bytes = [UInt8](try Data(contentsOf: url))
        change(&bytes)
        try Data(bytes).write(to: url)
    }

    // MARK: - Whole segments

    /// From one record to segments of several writes, from many small runs to one that fills a frame alone.
    @Test(arguments: [4096, 16384])
    func whatGoesInComesOut(blockSize: Int) throws {
        let format = format(blockSize: blockSize)
        let cases: [(runs: [ClosedRange<UInt64>], length: Int)] = [
            ([1...1], 0), ([5...5], 1), ([10...20, 21...30], 100), ([100...139, 150...150, 160...180], 3000),
            ([1000...1003], 300_000), ((0..<60).map { 2000 + $0 * 100...2099 + $0 * 100 }, 1500),
        ]
        for (runs, length) in cases {
            let covering = runs[0].lowerBound...runs[runs.count - 1].upperBound + 1
            let summary = try write(runs, length: length, covering: covering, format: format)
            let segment = try open(covering, format)
            #expect(segment.fault == nil && segment.covered == covering && segment.index.lostRanges.isEmpty)
            check(segment, holds: runs, length: length)
            #expect(summary.recordCount == UInt64(runs.reduce(0) { $0 + $1.count }))
            #expect(summary.rawLength == summary.recordCount * UInt64(16 + length))
            #expect(summary.lowestTimestamp == runs[0].lowerBound * 10)
            #expect(summary.highestTimestamp == runs[runs.count - 1].upperBound * 10)
            #expect(try Data(contentsOf: URL(fileURLWithPath: path(covering))).count == summary.length)
            let longest = segment.index.frames.map(\.rawLength).max() ?? 0
            #expect(longest <= max(256 << 10, (16 + length) * runs.map(\.count).max()!))
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path + "/tenants/acme%2F%C3%BC")
        #expect(names.count == cases.count && names.allSatisfy { $0.hasSuffix(".segment") })
    }

    /// Runs that follow each other become one frame, others do not.
    @Test func runsAreJoined() throws {
        let format = format()
        let runs: [ClosedRange<UInt64>] = [1...3, 4...4, 5...9, 11...12]
        _ = try write(runs, length: 50, covering: 1...12, format: format)
        let segment = try open(1...12, format)
        #expect(segment.index.frames.map(\.firstSequence) == [1, 11])
        #expect(segment.index.frames.map(\.recordCount) == [9, 2])
    }

    @Test func readingBeginsAtAnyNumber() throws {
        let format = format()
        _ = try write([1...600], length: 1000, covering: 1...600, format: format)
        let segment = try open(1...600, format)
        #expect(segment.index.frames.count == 1)
        let batch = try segment.batch(ofFrame: segment.index.firstFrame(from: 599), from: 599)
        #expect(batch.sequences == 599...600 && batch.records.map(\.sequence) == [599, 600])
        #expect(batch.records.map { Array($0.payload) } == [599, 600].map { payload($0, length: 1000) })
    }

    @Test func lostRangesAreKept() throws {
        let format = format()
        let writer = SegmentWriter(storage: storage, format: format)
        writer.begin(tenant, from: 1)
        writer.addLost(1...4, cause: .damaged)
        try add(5...6, length: 10, to: writer)
        writer.addLost(7...8, cause: .damaged)
        writer.addLost(9...9, cause: .damaged)
        writer.addLost(10...12, cause: .dropped)
        try storage.publish([try writer.finish(covering: 1...12, created: 7, received: 5...9).rename])
        let segment = try open(1...12, format)
        #expect(
            segment.index.lostRanges == [
                .init(sequences: 1...4, cause: .damaged), .init(sequences: 7...9, cause: .damaged),
                .init(sequences: 10...12, cause: .dropped),
            ])
    }

    /// A name that is there already is taken over whole.
    @Test func publishingReplaces() throws {
        let format = format()
        _ = try write([1...9], length: 10, covering: 1...9, format: format)
        _ = try write([4...9], length: 10, covering: 1...9, format: format)
        check(try open(1...9, format), holds: [4...9], length: 10)
    }

    // MARK: - Damage

    /// Whatever block is lost of summary and index: all records are read.
    @Test func summaryAndIndexHaveASubstitute() throws {
        let format = format()
        let runs: [ClosedRange<UInt64>] = [1...99, 200...299]
        let summary = try write(runs, length: 5000, covering: 1...300, format: format)
        let last = Int(summary.length) - 4096
        let index = Int(summary.indexOffset)
        for (ranges, isMarked) in [
            ([0..<4096], false), ([last..<last + 4096], false), ([0..<4096, last..<last + 4096], true),
            ([index..<index + 1], true),
        ] {
            try edit(1...300) { bytes in
                for range in ranges { for place in range { bytes[place] ^= 0x55 } }
            }
            let segment = try open(1...300, format)
            #expect((segment.fault != nil) == isMarked)
            check(segment, holds: runs, length: 5000)
            try edit(1...300) { bytes in
                for range in ranges { for place in range { bytes[place] ^= 0x55 } }
            }
        }
    }

    /// A damaged frame costs its own records, whether in its header or in its body.
    @Test(arguments: [0, 100]) func damagedFrameIsTold(at offset: Int) throws {
        let format = format()
        _ = try write([1...99, 200...299, 400...420], length: 2000, covering: 1...420, format: format)
        let segment = try open(1...420, format)
        let hit = segment.index.frames[1]
        try edit(1...420) { $0[Int(hit.offset) + offset] ^= 1 }
        let (records, damaged) = read(try open(1...420, format))
        #expect(damaged == 1 && records.count == 220 - hit.recordCount)
        #expect(records.keys.allSatisfy { !(hit.firstSequence...hit.lastSequence).contains($0) })
        #expect { _ = try open(1...420, format).batch(ofFrame: 1) } throws: {
            "\($0)".contains("records \(hit.firstSequence) to \(hit.lastSequence) of tenant \(tenant)")
        }
    }

    /// Without an index a damaged header ends what can be found; the rest counts as lost.
    @Test func framesBehindDamageAreLostWithTheIndex() throws {
        let format = format()
        let summary = try write([1...99, 200...299], length: 2000, covering: 1...300, format: format)
        let hit = try open(1...300, format).index.frames[1]
        try edit(1...300) {
            $0[Int(summary.indexOffset)] ^= 1
            $0[Int(hit.offset)] ^= 1
        }
        let segment = try open(1...300, format)
        #expect(segment.fault != nil && segment.index.frames.count == 1)
        #expect(segment.index.lostRanges == [.init(sequences: 100...300, cause: .damaged)])
    }

    @Test func cutOffSegment() throws {
        let format = format()
        let summary = try write([1...99, 200...299], length: 2000, covering: 1...300, format: format)
        for length in [Int(summary.indexOffset), 250_000, 9000, 4096, 0] {
            try edit(1...300) { $0.removeLast($0.count - length) }
            do {
                let segment = try open(1...300, format)
                #expect(segment.fault != nil)
                for (sequence, found) in read(segment).records where found != payload(sequence, length: 2000) {
                    Issue.record("record \(sequence) is another one")
                }
            } catch WALError.damaged { #expect(length <= 4096) }
        }
    }

    /// A file in the wrong place is not taken for what its name says.
    @Test func segmentOfAnotherTenantOrLogOrRange() throws {
        let format = format()
        _ = try write([1...9], length: 10, covering: 1...9, format: format)
        let strange = "\(directory.path)/tenants/other"
        try FileManager.default.createDirectory(atPath: strange, withIntermediateDirectories: true)
        let name = SegmentName.name(covering: 1...9)
        try FileManager.default.copyItem(atPath: path(1...9), toPath: "\(strange)/\(name)")
        #expect(throws: WALError.self) { try SegmentFile(name, of: "other", in: storage, format: format) }
        #expect(throws: WALError.self) {
            try FileManager.default.copyItem(atPath: path(1...9), toPath: path(20...30))
            _ = try open(20...30, format)
        }
        #expect(throws: WALError.self) { _ = try open(1...9, self.format()) }
    }

    @Test func newerVersionIsRefused() throws {
        let format = format()
        _ = try write([1...9], length: 10, covering: 1...9, format: format)
        try edit(1...9) { bytes in
            bytes[12] = UInt8(FormatLimits.formatVersion + 1)
            let checksum = bytes.withRawSpan { CRC32C.checksum($0.extracting(12..<4096)) }
            for place in 0..<4 { bytes[8 + place] = UInt8(truncatingIfNeeded: checksum >> UInt32(8 * place)) }
        }
        #expect { _ = try open(1...9, format) } throws: {
            if case WALError.unsupportedFormat = $0 { true } else { false }
        }
    }

    // MARK: - Failing

    /// A segment that cannot be written whole is not there, and another attempt is not in its way.
    @Test func failedWriteLeavesNothing() throws {
        let format = format()
        plan.failNextWrites(1, .failsHolding([0..<4096]))
        #expect(throws: StorageError.self) { try write([1...999], length: 100, covering: 1...999, format: format) }
        plan.setCreate { _ in .noSpace }
        #expect(throws: StorageError.self) { try write([1...999], length: 100, covering: 1...999, format: format) }
        plan.setCreate(nil)
        #expect(!FileManager.default.fileExists(atPath: path(1...999)))
        _ = try write([1...999], length: 100, covering: 1...999, format: format)
        check(try open(1...999, format), holds: [1...999], length: 100)
    }

    @Test func names() {
        #expect(SegmentName.name(covering: 1...255) == "0000000000000001-00000000000000ff.segment")
        #expect(SegmentName.sequences(of: "0000000000000001-00000000000000ff.segment") == 1...255)
        for name in [
            "0000000000000000-00000000000000ff.segment", "0000000000000002-0000000000000001.segment",
            "0000000000000001-00000000000000FF.segment", "1-2.segment", "0000000000000001-00000000000000ff",
            "0000000000000001-00000000000000ff.segment.tmp", "0000000000000001-4000000000000000.segment",
            "0000000000000001-0000000000000002-0000000000000003.segment", "",
        ] { #expect(SegmentName.sequences(of: name) == nil, "\(name)") }
        let long = TenantName(stringLiteral: String(repeating: "x", count: 255))
        #expect(SegmentName.directory(of: long).split(separator: "/").allSatisfy { $0.utf8.count <= 201 })
    }
}
