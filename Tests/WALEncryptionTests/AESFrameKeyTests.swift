#if Encryption
    import Foundation
    import Testing
    @testable import WALEncryption
    import WALFormat

    @Suite struct AESFrameKeyTests {
        private func sealed(_ plain: [UInt8], by key: AESFrameKey, binding: [UInt8]) -> [UInt8] {
            var bytes = [UInt8](repeating: 0xEE, count: plain.count + FrameSeal.overhead + 2)
            var span = bytes.mutableSpan
            var raw = span.mutableBytes
            key.seal(plain.span.bytes, binding: binding.span.bytes, into: &raw, at: 1)
            #expect(bytes.first == 0xEE && bytes.last == 0xEE)
            return Array(bytes[1..<bytes.count - 1])
        }

        private func opened(_ sealed: [UInt8], by key: AESFrameKey, binding: [UInt8]) -> [UInt8]? {
            var plain = [UInt8](repeating: 0, count: max(0, sealed.count - FrameSeal.overhead))
            var span = plain.mutableSpan
            var raw = span.mutableBytes
            return key.open(sealed.span.bytes, binding: binding.span.bytes, into: &raw) ? plain : nil
        }

        private func key(_ byte: UInt8 = 1) throws -> AESFrameKey {
            try AESFrameKey(identifier: 1, secret: [UInt8](repeating: byte, count: 32))
        }

        /// Made with Python's `cryptography` 50: HKDF(SHA256, 32, salt, b"telemetry-wal frame"), AESGCM.
        @Test func anotherImplementationsBytesAreOpened() throws {
            let secret = (0..<32).map { UInt8($0) }
            let key = try AESFrameKey(identifier: 1, secret: secret)
            let sealed = try #require(Data(base64Encoded: Self.vector))
            let plain = opened([UInt8](sealed), by: key, binding: Array("bound to this".utf8))
            #expect(plain.map { String(decoding: $0, as: UTF8.self) } == "what nobody else may read")
        }

        private static let vector =
            "ZGVmZ2hpamtsbW5vyMnKy8zNzs/Q0dLT6NrAhh4GDsqDwahbvS7WQ5sIWsZhxB35iC06mCBT8fZdyUM/ugf124k="

        @Test(arguments: [1, 15, 16, 17, 4096, 300_000]) func whatIsSealedIsOpened(_ length: Int) throws {
            let plain = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let (key, binding) = (try key(), Array("place".utf8))
            let sealed = sealed(plain, by: key, binding: binding)
            #expect(sealed.count == length + FrameSeal.overhead)
            #expect(opened(sealed, by: key, binding: binding) == plain)
            #expect(opened(sealed, by: key, binding: Array("plane".utf8)) == nil)
            #expect(opened(sealed, by: try self.key(2), binding: binding) == nil)
            #expect(opened(Array(sealed.dropLast()), by: key, binding: binding) == nil)
            for offset in stride(from: 0, to: sealed.count, by: max(1, sealed.count / 50)) {
                var changed = sealed
                changed[offset] ^= 0x10
                #expect(opened(changed, by: key, binding: binding) == nil)
            }
        }

        @Test func nonceIsNeverTheSame() throws {
            let key = try key()
            let count = 2 * AESFrameKey.framesOfKey + 10
            let seals = (0..<count).map { _ in Data(sealed([1], by: key, binding: [2]).prefix(24)) }
            #expect(Set(seals.map { $0.suffix(12) }).count == count)
            // No key is derived for more frames than it may serve, nor do two processes derive the same one.
            let salts = Dictionary(grouping: seals) { $0.prefix(12) }
            #expect(salts.values.map(\.count).sorted() == [10, AESFrameKey.framesOfKey, AESFrameKey.framesOfKey])
            let other = sealed([1], by: try self.key(), binding: [2])
            #expect(salts[Data(other.prefix(12))] == nil)
        }

        @Test func neighboursWithOtherSaltsAreOpened() throws {
            let (one, other, reader) = (try key(), try key(), try key())
            for number in 0..<20 {
                let bytes = sealed([UInt8(number)], by: number.isMultiple(of: 3) ? one : other, binding: [3])
                #expect(opened(bytes, by: reader, binding: [3]) == [UInt8(number)])
            }
        }

        @Test func secretsAndIdentifiersAreChecked() {
            #expect(throws: (any Error).self) {
                try AESFrameKey(identifier: 0, secret: [UInt8](repeating: 1, count: 32))
            }
            #expect(throws: (any Error).self) {
                try AESFrameKey(identifier: 1, secret: [UInt8](repeating: 1, count: 31))
            }
        }
    }
#endif
