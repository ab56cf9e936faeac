import OTLPProtocol
import Testing

@Suite struct ResponseTests {
    @Test(arguments: zip(OTLPSignal.allCases, ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"]))
    func partialSuccessIsRead(signal: OTLPSignal, key: String) throws {
        let json = #"{"partialSuccess":{"\#(key)":"3","errorMessage":"late"},"other":1}"#
        let protobuf: [UInt8] = [0x0A, 8, 0x08, 3, 0x12, 4] + Array("late".utf8)
        for (body, type) in [(Array(json.utf8), OTLPContentType.json), (protobuf, .protobuf)] {
            let partial = try #require(OTLPResponse.partialSuccess(signal: signal, body: body, contentType: type))
            #expect(partial.rejected == 3)
            #expect(partial.message == "late")
        }
    }

    @Test func aWarningRejectsNothing() throws {
        let body = Array(#"{"partialSuccess":{"errorMessage":"soon no more"}}"#.utf8)
        let partial = try #require(OTLPResponse.partialSuccess(signal: .traces, body: body, contentType: .json))
        #expect(partial.rejected == 0)
        #expect(partial.message == "soon no more")
    }

    @Test(arguments: ["", "{}", #"{"partialSuccess":{}}"#, "OK", "{"])
    func everythingElseIsFullSuccess(body: String) {
        for type in OTLPContentType.allCases {
            for signal in OTLPSignal.allCases {
                #expect(OTLPResponse.partialSuccess(signal: signal, body: Array(body.utf8), contentType: type) == nil)
            }
        }
    }

    @Test func contentTypesAreReadFromHeaders() {
        #expect(OTLPContentType(headerValue: "application/json; charset=utf-8") == .json)
        #expect(OTLPContentType(headerValue: "Application/X-Protobuf") == .protobuf)
        #expect(OTLPContentType(headerValue: "text/html") == nil)
    }
}
