#if Encryption
    import Foundation
    import TelemetryWAL
    import TestSupport
    import Testing
    import WALEncryption
    import WALFormat
    import WALKeys

    @Suite struct KeyFileTests {
        let directory = TemporaryDirectory()
        private var path: String { directory.appending("wal.keys") }

        private func secret(_ byte: UInt8) -> Data { Data(repeating: byte, count: 32) }

        private func write(_ entries: [KeyFile.Entry]) throws { try KeyFile(entries).write(to: path) }

        private func message(_ body: () throws -> Void) -> String {
            do { try body() } catch { return "\(error)" }
            return ""
        }

        private func parse(_ text: String) throws -> KeyRing {
            try KeyFile(parsing: Data(text.utf8), source: "x").ring(source: "x")
        }

        @Test func whatIsWrittenIsRead() throws {
            let entries: [KeyFile.Entry] = [
                .init(identifier: 1, tenant: nil, state: .retired, secret: secret(1)),
                .init(identifier: .max, tenant: nil, state: .current, secret: secret(2)),
                .init(identifier: 3, tenant: "zoë/🦊", state: .current, secret: secret(3)),
                .init(identifier: 4, tenant: "zoë/🦊", state: .forgotten, secret: nil),
            ]
            try write(entries)
            #expect(try KeyFile(contentsOf: path).entries == entries)
            let ring = try KeyFile(contentsOf: path).ring(source: path)
            #expect(try ring.currentKey(of: "acme")?.identifier == .max)
            #expect(try ring.currentKey(of: "zoë/🦊")?.identifier == 3)
            guard case .forgotten = try ring.key(4, of: "zoë/🦊") else { return #expect(Bool(false)) }
            guard case .found(let old) = try ring.key(1, of: "acme") else { return #expect(Bool(false)) }
            #expect(old.identifier == 1)
            #expect(message { _ = try ring.key(9, of: "acme") }.contains("there is no key 9"))
            #expect(message { _ = try ring.key(3, of: "acme") }.contains("another tenant"))
        }

        /// Nobody's records become plain because a key was taken away; where no key was ever given, they are.
        @Test func withoutACurrentKey() throws {
            let entries: [KeyFile.Entry] = [
                .init(identifier: 1, tenant: "acme", state: .retired, secret: secret(1)),
                .init(identifier: 2, tenant: "globex", state: .forgotten, secret: nil),
            ]
            let ring = try KeyFile(entries).ring(source: "wal.keys")
            #expect(
                message { _ = try ring.currentKey(of: "acme") }
                    == "wal.keys: of the keys of tenant acme none is current")
            #expect(message { _ = try ring.currentKey(of: "globex") }.contains("none is current"))
            #expect(try ring.currentKey(of: "initech") == nil)
            let shared = try KeyFile([.init(identifier: 1, tenant: nil, state: .retired, secret: secret(1))])
                .ring(source: "wal.keys")
            #expect(message { _ = try shared.currentKey(of: "initech") }.contains("none is current"))
        }

        @Test func badFilesAreToldInOneLine() throws {
            let secret = secret(5).base64EncodedString()
            let cases: [(String, String)] = [
                ("", "no JSON"), ("[]", "expected an object"), (#"{"keys":{}}"#, "expected an object"),
                (#"{"keys":[],"more":1}"#, "expected an object"),
                (#"{"keys":[1]}"#, "key 1 of the list: it is no object"),
                (#"{"keys":[{"state":"current","secret":"\#(secret)"}]}"#, "identifier"),
                (#"{"keys":[{"identifier":0,"state":"current","secret":"\#(secret)"}]}"#, "identifier"),
                (#"{"keys":[{"identifier":1.5,"state":"current","secret":"\#(secret)"}]}"#, "identifier"),
                (#"{"keys":[{"identifier":-1,"state":"current","secret":"\#(secret)"}]}"#, "identifier"),
                (#"{"keys":[{"identifier":true,"state":"current","secret":"\#(secret)"}]}"#, "identifier"),
                (#"{"keys":[{"identifier":1,"state":"present","secret":"\#(secret)"}]}"#, "state"),
                (#"{"keys":[{"identifier":1,"state":"current","secret":"c2hvcnQ="}]}"#, "32 bytes"),
                (#"{"keys":[{"identifier":1,"state":"current"}]}"#, "missing"),
                (#"{"keys":[{"identifier":1,"state":"forgotten","secret":"\#(secret)"}]}"#, "take that out"),
                (#"{"keys":[{"identifier":1,"state":"current","secret":"\#(secret)","tennant":"a"}]}"#, "tennant"),
                (#"{"keys":[{"identifier":1,"state":"current","secret":"\#(secret)","tenant":""}]}"#, "tenant"),
            ]
            for (text, said) in cases {
                let message = message { _ = try parse(text) }
                #expect(message.contains(said), "\(text): \(message)")
                #expect(!message.contains(secret) && !message.contains("\n"))
            }
            func pair(_ first: String, _ second: String) -> String {
                #"{"keys":[{"secret":"\#(secret)",\#(first)},{"secret":"\#(secret)",\#(second)}]}"#
            }
            #expect(
                message {
                    _ = try parse(pair(#""identifier":1,"state":"current""#, #""identifier":1,"state":"retired""#))
                }
                .contains("two keys have the identifier 1"))
            #expect(
                message {
                    _ = try parse(pair(#""identifier":1,"state":"current""#, #""identifier":2,"state":"current""#))
                }
                .contains("keys 1 and 2 of all tenants are both current"))
        }

        @Test func othersMayNotReadIt() throws {
            try write([.init(identifier: 1, tenant: nil, state: .current, secret: secret(1))])
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
            for mode: mode_t in [0o640, 0o604, 0o620, 0o666] {
                #expect(chmod(path, mode) == 0)
                #expect(message { _ = try FileKeyProvider(path: path) }.contains("chmod 600"))
            }
            #expect(message { _ = try FileKeyProvider(path: directory.path) }.contains("it is no file"))
            #expect(message { _ = try FileKeyProvider(path: path + ".none") }.contains("No such file"))
        }

        @Test func changedFileIsReadAgain() async throws {
            let first = KeyFile.Entry(identifier: 1, tenant: nil, state: .current, secret: secret(1))
            try write([first])
            let provider = try FileKeyProvider(path: path)
            #expect(try provider.currentKey(of: "acme")?.identifier == 1)
            var retired = first
            retired.state = .retired
            let second = KeyFile.Entry(identifier: 2, tenant: nil, state: .current, secret: secret(2))
            try write([retired, second])
            let deadline = endOfPatience()
            while try provider.currentKey(of: "acme")?.identifier != 2 {
                #expect(Date() < deadline)
                if Date() > deadline { return }
                try await Task.sleep(for: .milliseconds(50))
            }
            // What cannot be read changes nothing.
            try Data("{".utf8).write(to: URL(fileURLWithPath: path))
            #expect(throws: (any Error).self) { try provider.reload() }
            try await Task.sleep(for: .milliseconds(1200))
            #expect(try provider.currentKey(of: "acme")?.identifier == 2)
            guard case .found = try provider.key(1, of: "acme") else { return #expect(Bool(false)) }
        }
    }
#endif
