import Foundation
import SimulatedKeys
import TestSupport
import Testing
import WALFormat
import WALStorage

@testable import TelemetryWAL

/// What the suites of encryption share: a cipher that hides nothing, but finds out who mixes up keys or places. AES itself
/// is tested in WALEncryptionTests.
protocol EncryptionSuite: CompactionSuite {
    var keys: SimulatedKeys { get }
}

extension EncryptionSuite {
    func encrypted(_ compression: CompressionPolicy = .automatic) -> WriteAheadLogOptions {
        var options = options()
        options.keyProvider = keys
        options.compression = compression
        return options
    }

    func view() throws -> WriteAheadLogReader<DirectStorage> {
        try WriteAheadLogReader(at: directory.path, scope: .wholeJournal, opensBodies: true)
    }

    /// Identifiers of the keys that a tenant's frames name, in the journal and in segments.
    func identifiers(of tenant: TenantName) throws -> (journal: Set<UInt64>, segments: Set<UInt64>) {
        let view = try WriteAheadLogReader(at: directory.path, scope: .wholeJournal)
        var journal: Set<UInt64> = []
        for file in view.journalFiles {
            for commit in try view.commits(inFileNamed: file.name) {
                for frame in commit.frames where frame.header.tenant == tenant {
                    journal.insert(frame.header.keyIdentifier)
                }
            }
        }
        var segments: Set<UInt64> = []
        for status in view.segments(of: tenant) {
            let file = try SegmentFile(
                SegmentName.name(covering: status.covered), of: tenant, in: view.storage, format: view.format)
            for number in file.index.frames.indices {
                try file.withEncodedFrame(number) { bytes in
                    if let header = try? FrameHeader.decode(bytes, at: 0) { segments.insert(header.keyIdentifier) }
                }
            }
        }
        return (journal, segments)
    }

    func rotateAll() { for tenant in Self.tenants { keys.rotate(tenant) } }
}

/// A key for each identifier, and none that anybody wrote with.
struct OtherSecrets: KeyProvider {
    func currentKey(of tenant: TenantName) throws(KeyProviderError) -> (any FrameKey)? { nil }
    func key(_ identifier: UInt64, of tenant: TenantName) throws(KeyProviderError) -> KeyLookup {
        .found(SimulatedKey(identifier: identifier, secret: 7))
    }
}
