import ArgumentParser
import Foundation
import WALFormat

/// `walbench micro`: the parts by themselves.
struct MicroCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "micro", abstract: "Measure CRC32C, LZ4, encoding and decoding by themselves.")

    @Option(help: "A file whose bytes are used; made up if there is none.") var corpus: String?
    @Option(help: "Seconds for each.") var seconds = 0.3

    struct Line: Encodable {
        var name: String
        var value: Double
        var unit: String
    }
    struct Answer: Encodable {
        var driver = "telemetry-wal"
        var operation = "micro"
        var results: [Line]
    }

    func run() throws {
        let bytes = try corpus.map { [UInt8](try Data(contentsOf: URL(fileURLWithPath: $0))) } ?? Self.madeUp()
        var lines: [Line] = []
        for length in [96, 528, 4096, 32 << 10, 256 << 10] {
            lines.append(throughput("crc32c \(label(length))", length) { blackHole(UInt64(checksum(bytes, length))) })
        }
        lines.append(throughput("crc32c by table 4 KiB", 4096) { blackHole(UInt64(tableChecksum(bytes, 4096))) })
        let compressor = LZ4FrameCompressor()
        let decompressor = LZ4FrameDecompressor()
        for length in [4096, 32 << 10, 256 << 10] {
            var target = [UInt8](repeating: 0, count: length + length / 255 + (256 << 10))
            var count = 0
            lines.append(
                throughput("lz4 compress \(label(length))", length) {
                    count = try! bytes.withRawSpan { source in
                        try target.withMutableRawSpan {
                            try compressor.compress(source.extracting(0..<length), into: &$0, at: 0)
                        }
                    }
                })
            lines.append(Line(name: "lz4 ratio \(label(length))", value: Double(length) / Double(count), unit: "×"))
            var raw = [UInt8](repeating: 0, count: length)
            lines.append(
                throughput("lz4 decompress \(label(length))", length) {
                    try! target.withRawSpan { source in
                        try raw.withMutableRawSpan {
                            try decompressor.decompress(source.extracting(0..<count), into: &$0)
                        }
                    }
                })
        }
        lines += encoding(bytes)
        try printLine(Answer(results: lines))
    }

    /// Commits of 64 records of 512 bytes, of one tenant and of 64.
    private func encoding(_ bytes: [UInt8]) -> [Line] {
        var lines: [Line] = []
        for frames in [1, 64] {
            let records = 64 / frames
            let rawLength = records * (RecordHeader.length + 512)
            let body = Array(bytes[0..<rawLength])
            var walkable = body
            walkable.withMutableRawSpan { span in
                for record in 0..<records {
                    RecordHeader(payloadLength: 512, kind: 1, timestamp: 1).encode(into: &span, at: record * 528)
                }
            }
            let headers = (0..<frames).map { frame in
                FrameHeader(
                    tenant: try! TenantName("tenant-\(frame)"), kinds: .init(.span), codec: .raw, firstSequence: 1,
                    recordCount: records, storedLength: 0, rawLength: 0, bodyChecksum: 0, lowestTimestamp: 1,
                    highestTimestamp: 1)
            }
            let headersLength = headers.reduce(0) { $0 + $1.length }
            var buffer = [UInt8](repeating: 0, count: 512 << 10)
            var generator = SystemRandomNumberGenerator()
            let log = RootFormat(
                logIdentifier: LogIdentifier(using: &generator), blockSize: 4096, created: 0)
            let compressor = LZ4FrameCompressor()
            let decompressor = LZ4FrameDecompressor()
            var header: CommitHeader?
            let placement = CommitPlacement(
                epoch: 7, fileSequence: 1, offset: 8192, commitNumber: 2, durableThrough: 1, recordsBefore: 0,
                previousChecksum: 0)
            let name = "64 records of \(frames) tenants"
            lines.append(
                duration("encode \(name)") {
                    var encoder = CommitEncoder(
                        at: 0, of: log, frameHeadersLength: headersLength, rawLengths: rawLength * frames,
                        compresses: false)
                    header = try! buffer.withMutableRawSpan { span in
                        for var frame in headers {
                            try walkable.withRawSpan {
                                try encoder.add(&frame, rawBody: $0, into: &span, compressor: compressor)
                            }
                        }
                        return encoder.finish(placement, timestamp: 1, flags: [], into: &span)
                    }
                })
            lines.append(
                duration("decode \(name)") {
                    buffer.withRawSpan { span in
                        guard let header, let frames = try? CommitDecoder.frames(of: header, in: span) else { return }
                        for frame in frames {
                            let raw = try? CommitDecoder.rawBody(of: frame, in: span, decompressor: decompressor)
                            blackHole(UInt64(raw?.count ?? 0))
                        }
                    }
                })
        }
        return lines
    }

    private func checksum(_ bytes: [UInt8], _ length: Int) -> UInt32 {
        bytes.withRawSpan { CRC32C.checksum($0.extracting(0..<length)) }
    }
    private func tableChecksum(_ bytes: [UInt8], _ length: Int) -> UInt32 {
        bytes.withRawSpan { CRC32C.checksumByTable($0.extracting(0..<length)) }
    }

    private func label(_ length: Int) -> String { length < 1024 ? "\(length) B" : "\(length >> 10) KiB" }

    private func measure(_ body: () -> Void) -> Double {
        body()
        var rounds = 0
        let start = now()
        repeat {
            for _ in 0..<16 { body() }
            rounds += 16
        } while Double(now() - start) < seconds * 1e9
        return Double(now() - start) / Double(rounds)
    }
    private func throughput(_ name: String, _ length: Int, _ body: () -> Void) -> Line {
        Line(name: name, value: Double(length) / measure(body), unit: "GB/s")
    }
    private func duration(_ name: String, _ body: () -> Void) -> Line {
        Line(name: name, value: measure(body), unit: "ns")
    }

    /// Span-like text, half of it random hexadecimal digits.
    private static func madeUp() -> [UInt8] {
        var state: UInt64 = 1
        var text = ""
        while text.utf8.count < 512 << 10 {
            for _ in 0..<4 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text += String(state, radix: 16)
            }
            text += #"{"name":"POST /api/v1/orders","status":{"code":"STATUS_CODE_OK"},"service":"checkout"}"#
        }
        return Array(text.utf8)
    }
}

/// Keeps a value from being optimised away.
@inline(never) func blackHole(_ value: UInt64) { if value == 0x5EED_0000_0000_0001 { print(value) } }
