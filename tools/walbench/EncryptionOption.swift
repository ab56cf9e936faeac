import ArgumentParser
import TelemetryWAL

#if Encryption
    import WALEncryption
#endif

/// Whether what is measured is encrypted, under a key that stands in this source: what it guards is a corpus.
struct EncryptionOption: ParsableArguments {
    @Flag(help: "Encrypt all records with AES-256-GCM.") var encrypt = false

    var keyProvider: (any KeyProvider)? {
        get throws {
            guard encrypt else { return nil }
            #if Encryption
                let key = try AESFrameKey(identifier: 1, secret: [UInt8](repeating: 7, count: 32))
                return try KeyRing([.init(identifier: 1, state: .current(key))])
            #else
                throw ValidationError("this walbench was built without encryption; build it with --traits Encryption")
            #endif
        }
    }
}
