import Testing
import WALFormat

@Suite struct LogIdentifierTests {
    /// RFC 9562: version 4 in the 13th digit, variant 10 in the 17th.
    @Test func everyIdentifierIsAVersion4UUID() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<1_000 {
            let text = LogIdentifier(using: &generator).description
            #expect(text.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil)
        }
    }

    @Test func leadingZerosAreWrittenOut() {
        struct Zeros: RandomNumberGenerator { mutating func next() -> UInt64 { 0 } }
        struct Ones: RandomNumberGenerator { mutating func next() -> UInt64 { .max } }
        var (zeros, ones) = (Zeros(), Ones())
        #expect(LogIdentifier(using: &zeros).description == "00000000-0000-4000-8000-000000000000")
        #expect(LogIdentifier(using: &ones).description == "ffffffff-ffff-4fff-bfff-ffffffffffff")
    }

    /// The 16 bytes on disk stand in the order in which the text shows them.
    @Test func bytesStandInTheOrderOfTheText() throws {
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<100 {
            let identifier = LogIdentifier(using: &generator)
            let bytes = RootFormat(logIdentifier: identifier, blockSize: 4096, created: 0).encoded()
            let digits = "0123456789abcdef".map(String.init)
            let text = bytes[16..<32].map { digits[Int($0 >> 4)] + digits[Int($0 & 15)] }.joined()
            #expect(text == identifier.description.filter { $0 != "-" })
            #expect(try decodeRoot(bytes).logIdentifier == identifier)
        }
    }
}
