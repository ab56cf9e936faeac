import OTLPProtocol
import Testing
import WALFormat

@Suite struct SignalTests {
    @Test func mapsToKindsAndPaths() {
        for signal in OTLPSignal.allCases {
            #expect(OTLPSignal(kind: signal.kind) == signal)
            #expect(OTLPSignal(httpPath: signal.httpPath) == signal)
        }
        #expect(OTLPSignal(kind: .opaque) == nil)
        #expect(OTLPSignal.logs.httpPath == "/v1/logs")
        #expect(OTLPSignal(httpPath: "/v1/profiles") == nil)
        #expect(OTLPSignal(httpPath: "/v1/logs/") == nil)
    }

    static let name16 = Samples.field(0x0A, Array("sixteen letters!".utf8))
    static let description8 = Samples.field(0x12, Array("in bytes".utf8))

    @Test func itemsShowTheirSignal() throws {
        let cases: [(item: [UInt8], kind: RecordKind)] = [
            (Self.name16 + Self.description8 + [0x39, 1, 0, 0, 0, 0, 0, 0, 0], .span),
            ([0x09, 1, 0, 0, 0, 0, 0, 0, 0], .log),
            ([0x59, 1, 0, 0, 0, 0, 0, 0, 0, 0x2A, 0], .log),
            (Samples.field(0x0A, Array("load".utf8)) + [0x2A, 0], .metric),
            (Samples.field(0x0A, Array("load".utf8)) + [0x3A, 0], .metric),
            (Samples.field(0x0A, Array("load".utf8)) + [0x5A, 0], .metric),
        ]
        for (item, kind) in cases {
            #expect(try Samples.parse(Samples.request(items: [item]), .protobuf).map(\.kind) == [kind])
            // Items without content do not hide those that show it.
            let request = Samples.request(items: [[], item])
            #expect(try Samples.parse(request, .protobuf).map(\.kind) == [kind, kind])
        }
    }

    /// A metric can have a name of 16 and a description of 8 bytes, and a span can have no times.
    @Test(arguments: [name16 + description8 + [0x2A, 0], [], [0x2A, 0], name16])
    func itemsThatFitSeveralSignalsOrNoneAreRefused(item: [UInt8]) throws {
        let request = Samples.request(items: [item])
        let failure = Samples.failure { () throws(OTLPInputError) in try Samples.parse(request, .protobuf) }
        #expect(failure?.reason == .unknownSignal)
        #expect(failure?.description.contains("traces, logs, metrics") == true)
        #expect(try Samples.parse(request, .protobuf, signal: .metrics).map(\.kind) == [.metric])
    }

    @Test func laterRequestsOfAStreamFollowTheSignalOfEarlierOnes() throws {
        let clear = Samples.request(items: [[0x09, 1, 0, 0, 0, 0, 0, 0, 0]])
        let vague = Samples.request(items: [[0x2A, 0]])
        let stream = Samples.varint(clear.count) + clear + Samples.varint(vague.count) + vague
        #expect(try Samples.parse(stream, .delimited).map(\.kind) == [.log, .log])
    }

    @Test func jsonOfAnotherSignalThanNamedIsRefused() {
        let failure = Samples.failure { () throws(OTLPInputError) in
            try Samples.parse(Array(Samples.oneSpan.utf8), .json, signal: .logs)
        }
        #expect(failure?.reason == .malformed)
        #expect(failure?.description.contains("resourceSpans") == true)
    }
}
