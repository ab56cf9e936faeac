import Crypto
import Foundation
import TelemetryWAL
import WALFormat
import WALKeys

/// A key for AES-256-GCM, as SPEC.md ("Encryption") has it: each frame is encrypted with a key of its own, derived by
/// HKDF-SHA256 (RFC 5869) from the secret and 12 random bytes, under a random nonce of 12. GCM with random nonces alone may
/// serve 2^32 messages of a key (NIST SP 800-38D, 8.3); with a derived key and a nonce, 24 bytes would have to come twice.
/// They depend on nothing that the log counts, so that no crash, no restored backup and no copy of the machine repeats
/// them. The same construction: Gueron and Lindell, "Better Bounds for Block Cipher Modes of Operation via Nonce-Based Key
/// Derivation", CCS 2017.
///
/// Costs some microseconds a frame beside AES itself. Safe to use from several threads at a time.
public final class AESFrameKey: FrameKey {
    public let identifier: UInt64
    private let secret: SymmetricKey

    private static let saltLength = 12
    private static let context = Data("telemetry-wal frame".utf8)

    /// A key with a secret of 32 random bytes (`openssl rand -base64 32`, `walctl keys add`). Throws where it has another
    /// length, or the identifier is 0.
    public init(identifier: UInt64, secret: some ContiguousBytes) throws(KeyProviderError) {
        self.identifier = identifier
        self.secret = SymmetricKey(data: secret)
        guard identifier > 0 else { throw KeyProviderError("a key has the identifier 0, which means none") }
        guard self.secret.bitCount == 8 * KeyFile.secretLength else {
            throw KeyProviderError(
                "the secret of key \(identifier) has \(self.secret.bitCount / 8) bytes; give \(KeyFile.secretLength)")
        }
    }

    public func seal(
        _ plain: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan, at offset: Int
    ) {
        var generator = SystemRandomNumberGenerator()
        var salt = [UInt8](repeating: 0, count: Self.saltLength)
        for index in salt.indices { salt[index] = generator.next() }
        let key = derivedKey(salt: salt)
        let box: AES.GCM.SealedBox
        do {
            box = try unsafe plain.withUnsafeBytes { plain in
                try unsafe associatedData.withUnsafeBytes { associatedData in
                    unsafe try AES.GCM.seal(plain, using: key, authenticating: associatedData)
                }
            }
        } catch { preconditionFailure("AES-GCM encrypts whatever is shorter than 64 GiB: \(error)") }
        guard let combined = box.combined else { preconditionFailure("a nonce of 12 bytes was given") }
        target.store(salt, at: offset)
        unsafe combined.withUnsafeBytes { bytes in
            unsafe target.store(RawSpan(_unsafeBytes: bytes), at: offset + Self.saltLength)
        }
    }

    public func open(
        _ sealed: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan
    ) -> Bool {
        guard sealed.byteCount == target.byteCount + FrameSeal.overhead else { return false }
        let key = derivedKey(salt: sealed.array(0..<Self.saltLength))
        let combined = sealed.extracting(Self.saltLength..<sealed.byteCount)
        let plain = unsafe combined.withUnsafeBytes { combined -> Data? in
            unsafe associatedData.withUnsafeBytes { associatedData -> Data? in
                guard let box = unsafe try? AES.GCM.SealedBox(combined: combined) else { return nil }
                return unsafe try? AES.GCM.open(box, using: key, authenticating: associatedData)
            }
        }
        guard let plain else { return false }
        unsafe plain.withUnsafeBytes { bytes in unsafe target.store(RawSpan(_unsafeBytes: bytes), at: 0) }
        return true
    }

    private func derivedKey(salt: [UInt8]) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: secret, salt: salt, info: Self.context, outputByteCount: KeyFile.secretLength)
    }
}
