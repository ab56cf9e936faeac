import WALFormat
import WALStorage

/// Says which key a tenant's records are encrypted with, and finds keys by their identifiers: out of a file, the
/// environment, a key service. See `WriteAheadLogOptions.keyProvider`; the module WALEncryption has some.
///
/// Asked at each append and for each encrypted frame that is read, on the thread that appends or reads and by several at a
/// time: it answers out of memory, or as quickly as a local file's state is asked for. What takes longer is done beforehand.
public protocol KeyProvider: Sendable {
    /// The key with which a tenant's next records are encrypted; nil: they are not. Another key than before is a rotation:
    /// what was written stays encrypted with the old one, which has to be found as long as any of it is there. What this
    /// throws the append throws as `WALError.keyUnavailable`, and nothing of it is written.
    func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)?

    /// The key that a tenant's records were encrypted with. What this throws stops reading the tenant, and nothing is given
    /// up; so it throws for a key that it does not know, too.
    func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup
}

/// What became of a key.
public enum KeyLookup: Sendable {
    case found(any FrameKey)
    /// It was destroyed on purpose, and the records with it: readers pass over them, compaction drops them.
    case forgotten
}

/// Why a provider gives no key.
public struct KeyProviderError: Error, Sendable, CustomStringConvertible {
    /// One line: what is missing and where it was looked for. Goes into logs: without any secret.
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// Finds the keys of frames that are read.
struct FrameKeys: Sendable {
    let provider: (any KeyProvider)?

    init(_ provider: (any KeyProvider)?) { self.provider = provider }

    /// With what a frame is opened; nil for one that is not encrypted. Throws `FormatError` of the causes `.sealed`, and
    /// `.keyForgotten` for a key that is no more.
    func seal(
        for header: FrameHeader, logIdentifier: LogIdentifier, epoch: UInt64
    ) throws(FormatError) -> FrameSeal? {
        guard header.isSealed, let tenant = header.tenant else { return nil }
        guard let provider else { throw FormatError(.sealed, "no key provider was given") }
        var identifier = header.keyIdentifier
        #if Simulation
            // Whatever the frame says, it is the tenant's present key.
            if DeliberateBug.isActive(.swapKeyIdentifier), let current = try? provider.currentKey(of: tenant) {
                identifier = current.identifier
            }
        #endif
        let lookup: KeyLookup
        do throws(KeyProviderError) { lookup = try provider.key(identifier, of: tenant) } catch {
            throw FormatError(.sealed, error.description)
        }
        switch lookup {
        case .found(let key): return FrameSeal(key: key, logIdentifier: logIdentifier, epoch: epoch)
        case .forgotten: throw FormatError(.keyForgotten, "key \(identifier) is forgotten")
        }
    }
}

/// Why a frame whose checksums hold gives no records: because of its key, or because of itself.
enum FrameRefusal {
    case damaged
    case keyUnavailable
    case keyForgotten

    init(_ error: FormatError) {
        switch error.cause {
        case .sealed, .authentication: self = .keyUnavailable
        case .keyForgotten: self = .keyForgotten
        default: self = .damaged
        }
    }
}
