import OTLPProtocol
import Testing
import WALFormat

@Suite struct MalformedInputTests {
    private func failure(
        _ bytes: [UInt8], _ format: OTLPInputFormat = .automatic, signal: OTLPSignal? = nil, piece: Int = 4096,
        maximum: Int = OTLPInputParser.defaultMaximumMessageLength
    ) -> OTLPInputError? {
        Samples.failure { () throws(OTLPInputError) in
            try Samples.parse(bytes, format, signal: signal, piece: piece, maximum: maximum)
        }
    }

    @Test func recordsBeforeTheFaultAreInTheError() throws {
        let text = "\(Samples.oneSpan)\n\(Samples.oneSpan)\n{\"resourceSpans\":7}\n\(Samples.oneSpan)\n"
        var parser = OTLPInputParser(format: .automatic, signal: nil, tenantAttribute: "tenant.id", granularity: .item)
        let error = try #require(throws: OTLPInputError.self) { try parser.append(text.utf8) }
        #expect(error.completedRecords.count == 2)
        #expect(error.place == .line(3))
        #expect(error.offset == UInt64(2 * (Samples.oneSpan.utf8.count + 1)))
        #expect(error.reason == .malformed)

        // The parser stays where it is, and does not hand out the records again.
        let again = try #require(throws: OTLPInputError.self) { try parser.append(Samples.oneSpan.utf8) }
        #expect(again.completedRecords.isEmpty)
        #expect(again.place == .line(3))
        #expect(throws: OTLPInputError.self) { try parser.finish() }
    }

    @Test(arguments: ["agent-spans.json", "agent-logs.pb", "agent-metrics.json", "agent-spans.pb"])
    func inputCutOffAnywhereIsRefused(name: String) throws {
        let bytes = try Samples.bytes(name)
        for length in stride(from: 1, to: bytes.count - 2, by: max(1, bytes.count / 150)) {
            let part = Array(bytes.prefix(length))
            let kept = try Self.records(part)
            // Bare protobuf may happen to be cut between two resources, and is then another valid request.
            #expect(kept.error != nil || name.hasSuffix(".pb"), "\(length) bytes of \(name)")
        }
    }

    @Test func streamCutOffAnywhereGivesTheWholeRequestsBefore() throws {
        let bytes = Array(try Samples.bytes("agent-spans.delimited").prefix(40_000))
        var ends = [0]
        while let start = ends.last, start + 4 <= bytes.count {
            let length = bytes[start..<start + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
            if start + 4 + length > bytes.count { break }
            ends.append(start + 4 + length)
        }
        for cut in stride(from: ends[1], to: bytes.count, by: 991) {
            let (records, error) = try Self.records(Array(bytes.prefix(cut)), .delimited)
            let whole = try Samples.parse(Array(bytes.prefix(ends.last { $0 <= cut } ?? 0)), .delimited)
            #expect(records == whole)
            #expect(ends.contains(cut) ? error == nil : error?.reason == .truncated)
            if error != nil { #expect(error?.place == .message(ends.count { $0 <= cut })) }
        }
    }

    /// Nothing is asserted about what comes out: a flipped bit may leave valid input. It must not crash or hang.
    @Test(arguments: [
        "agent-spans.json", "agent-spans.pb", "agent-logs.json", "agent-logs.pb", "agent-metrics.json",
        "agent-metrics.pb", "lines.ndjson",
    ])
    func flippedBitsDoNoHarm(name: String) throws {
        let original = try Samples.bytes(name)
        var generator = SplitMix(state: 0x5EED)
        for _ in 0..<150 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            }
            for signal in [nil, OTLPSignal.traces] {
                for record in try Self.records(bytes, signal: signal).records {
                    _ = try? OTLPJSON.line(kind: record.kind, payload: record.payload)
                }
            }
        }
    }

    @Test(arguments: OTLPInputFormat.allCases)
    func randomBytesDoNoHarm(format: OTLPInputFormat) throws {
        var generator = SplitMix(state: 0xF00D)
        for _ in 0..<300 {
            // Few distinct values, so that tags, lengths and brackets turn up often.
            let alphabet: [UInt8] = [
                0, 1, 2, 8, 0x0A, 0x12, 0x1A, 0x0B, 0x0C, 0x7B, 0x7D, 0x22, 0x5C, 0x80, 0xFF, 0x2C,
            ]
            let bytes = (0..<Int.random(in: 1...64, using: &generator)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
            }
            _ = try Self.records(bytes, format, piece: 3)
        }
    }

    @Test(arguments: [
        "[{}]", "{\"resourceSpans\":[}", "}", "{\"resourceSpans\":[{\"scopeSpans\":7}]}", "{\"other\":[]}", "{} x", "x",
        "\"text\"", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"startTimeUnixNano\":\"soon\"}]}]}]}",
        "{\"resourceSpans\":[],}",
    ])
    func malformedDocumentsAreRefused(text: String) {
        let failure = failure(Array(text.utf8), .json)
        #expect(failure?.reason == .malformed)
        #expect(failure?.description.contains("\n") == false)
        #expect(failure?.description.contains("line 1") == true)
    }

    @Test func nestingBeyondTheBoundIsRefused() {
        let depth = 5000
        let values =
            String(repeating: #"{"arrayValue":{"values":["#, count: depth) + String(repeating: "]}}", count: depth)
        let text = #"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":\#(values)}]}]}]}"#
        #expect(failure(Array(text.utf8))?.reason == .malformed)

        var item: [UInt8] = []
        for _ in 0..<500 { item = Samples.field(0x2A, Samples.field(0x0A, item)) }
        let log = [0x09, 1, 0, 0, 0, 0, 0, 0, 0] + Samples.field(0x2A, item)
        let failure = failure(Samples.request(items: [log]), .protobuf)
        #expect(failure?.reason == .malformed)
        #expect(failure?.description.contains("log record 1 of a scope of resource 1") == true)

        let groups = Array(repeating: UInt8(0x0B), count: 100_000)
        #expect(self.failure(Samples.field(0x0A, groups), .protobuf, signal: .traces)?.reason == .malformed)
    }

    /// Alone an item may be nested as deeply as a decoder follows; in its request it lies three messages deeper.
    @Test(arguments: 40...55) func whatIsTakenCanBeWrittenAgain(depth: Int) throws {
        var value: [UInt8] = []
        for _ in 0..<depth { value = Samples.field(0x2A, Samples.field(0x0A, value)) }
        let log = [0x09, 1, 0, 0, 0, 0, 0, 0, 0] + Samples.field(0x2A, value)
        for record in try Self.records(Samples.request(items: [log]), .protobuf).records {
            #expect(throws: Never.self) { try OTLPJSON.line(kind: record.kind, payload: record.payload) }
        }
    }

    /// Eight zeros are two empty requests, passed over; the fault behind them is where it is.
    @Test(
        arguments: [
            [0, 0, 0, 0, 0, 0, 0, 0, 0xEF, 0xBB, 0xBF, 0x7B, 0x31], Array("\u{FEFF}{\"a\":[}".utf8),
            Array("{\"a\": \"\(String(repeating: "x", count: 300))\"\n}\n{}".utf8),
            Array("{\"a\": \"\(String(repeating: "x", count: 300))\"]".utf8),
        ] as [[UInt8]])
    func howInputIsCutUpChangesNothingAboutItsFault(bytes: [UInt8]) throws {
        let whole = try #require(failure(bytes, maximum: 256))
        for piece in [1, 3, 61] {
            let other = try #require(failure(bytes, piece: piece, maximum: 256))
            #expect(other.reason == whole.reason && other.offset == whole.offset && other.place == whole.place)
        }
    }

    @Test func textThatIsNoUTF8IsRefused() {
        let span = Samples.field(0x0A, Array(repeating: 1, count: 16)) + Samples.field(0x2A, [0xFF])
        #expect(failure(Samples.request(items: [span]), .protobuf, signal: .traces)?.reason == .malformed)
        let resource = Samples.field(0x0A, Samples.field(0x0A, [0xC0]))
        let request = Samples.request(items: [], resource: resource)
        #expect(failure(request, .protobuf, signal: .traces)?.detail.contains("UTF-8") == true)
    }

    @Test func whatIsNeitherJSONNorOTLPAsksForTheFormat() {
        for text in ["hello", "[1]", "1,2,3\n"] {
            let failure = failure(Array(text.utf8))
            #expect(failure?.reason == .unknownFormat)
            #expect(failure?.description.contains("otlp-json") == true)
        }
        #expect(failure(Array("{\"a\":[}".utf8))?.reason == .unknownFormat)
        #expect(failure([0x1F, 0x8B, 8, 0, 0, 0, 0, 0])?.detail.contains("gzip") == true)
        #expect(failure([1, 2, 3, 4, 5], .delimited)?.reason == .malformed)
    }

    @Test func lengthsBeyondTheLimitAreRefusedBeforeTheyArrive() throws {
        let message = Array(try Samples.bytes("agent-spans.delimited").prefix(4096))
        let length = message.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
        let first = Array(try Samples.bytes("agent-spans.delimited").prefix(4 + length))
        #expect(failure(first + [0xFF, 0xFF, 0xFF, 0x7F], .delimited)?.reason == .tooLong)
        #expect(failure(Array(Samples.oneSpan.utf8), .json, maximum: 100)?.reason == .tooLong)
        #expect(failure(Array(Samples.oneSpan.utf8), .automatic, maximum: 100)?.reason == .tooLong)
        #expect(failure(Array(repeating: 0x20, count: 200), .ndjson, maximum: 100)?.reason == .tooLong)
        #expect(failure(try Samples.bytes("agent-logs.pb"), .protobuf, piece: 10, maximum: 100)?.reason == .tooLong)
    }

    /// Each item gets a copy of its resource, which a small request could turn into any amount of memory.
    @Test func largeResourceOfManyItemsIsRefused() {
        let resource = [0xA2, 0x1F] + Samples.varint(10_000) + Array(repeating: UInt8(0), count: 10_000)
        let request = Samples.request(items: Array(repeating: [], count: 10_000), resource: resource)
        let failure = failure(request, .protobuf, signal: .traces, maximum: 1_000_000)
        #expect(failure?.reason == .tooLong)
        #expect(failure?.completedRecords.isEmpty == true)
        let whole = try? Samples.parse(
            request, .protobuf, signal: .traces, granularity: .resource, maximum: 1_000_000)
        #expect(whole?.count == 1)
    }

    /// All records, those in the error included.
    private static func records(
        _ bytes: [UInt8], _ format: OTLPInputFormat = .automatic, signal: OTLPSignal? = nil, piece: Int = 4096
    ) throws -> (records: [OTLPRecord], error: OTLPInputError?) {
        var parser = OTLPInputParser(
            format: format, signal: signal, tenantAttribute: "tenant.id", granularity: .item)
        var records: [OTLPRecord] = []
        do throws(OTLPInputError) {
            var start = 0
            while start < bytes.count {
                let end = min(start + piece, bytes.count)
                records += try parser.append(bytes[start..<end])
                start = end
            }
            records += try parser.finish()
            return (records, nil)
        } catch {
            return (records + error.completedRecords, error)
        }
    }
}

/// Random numbers that are the same in every run.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
