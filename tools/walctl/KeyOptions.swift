import ArgumentParser
import Foundation
import TelemetryWAL
import WALFormat

#if Encryption
    import WALEncryption
#endif

/// Where the keys of encrypted records come from: an option of the commands that read or write payloads.
struct KeyOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The keys that records are encrypted with: a file that only its owner may read, made by walctl keys add.",
            discussion: "Unless given, the file that WALCTL_KEY_FILE names, or else the text in WALCTL_KEYS.",
            valueName: "file"))
    var keyFile: String?

    /// Keys as the command line and the environment give them; nil where they give none.
    func provider() throws(CommandFailure) -> (any KeyProvider)? {
        let environment = ProcessInfo.processInfo.environment
        let path = keyFile ?? environment["WALCTL_KEY_FILE"]
        guard path != nil || environment["WALCTL_KEYS"] != nil else { return nil }
        #if Encryption
            do throws(KeyProviderError) {
                if let path { return try FileKeyProvider(path: path) }
                return try EnvironmentKeyProvider(variable: "WALCTL_KEYS")
            } catch { throw CommandFailure(error.description, .usage) }
        #else
            throw CommandFailure("this walctl was built without encryption; build it with --traits Encryption", .usage)
        #endif
    }
}
