import Crypto
import Foundation
import Synchronization
import TelemetryWAL
import WALFormat
import WALKeys

/// A key for AES-256-GCM, as SPEC.md ("Encryption") has it: frames are encrypted under a random nonce of 12 bytes, with a
/// key that HKDF-SHA256 (RFC 5869) derives from the secret and a salt of 12 random bytes. GCM with random nonces may serve
/// 2^32 messages of a key (NIST SP 800-38D, 8.3), which a busy log uses up in days; here a key serves 2^16, so that a nonce
/// comes twice with a probability of 2^-65 for each of them, and then another salt is drawn. Salts and nonces depend on
/// nothing that the log counts, so that no crash and no restored backup repeats them; machines that are copied while they run go
/// on with the same salt, and nonces that their kernels draw. Deriving keys
/// by nonces: Gueron and Lindell, "Better Bounds for Block Cipher Modes of Operation via Nonce-Based Key Derivation", CCS
/// 2017.
///
/// Costs some microseconds a frame beside AES itself; deriving a key, 10 to 20 more. Safe to use from several threads at a
/// time.
public final class AESFrameKey: FrameKey {
    public let identifier: UInt64
    private let secret: SymmetricKey
    private let state = Mutex(State())

    private struct State {
        /// What frames are sealed with, and how many more.
        var sealing: DerivedKey?
        var framesLeft = 0
        /// What the last frame was opened with: its neighbours most likely have the same salt.
        var opening: DerivedKey?
    }

    private struct DerivedKey {
        var salt: [UInt8]
        var key: SymmetricKey
    }

    /// Frames that are sealed with one derived key at most.
    static let framesOfKey = 1 << 16
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
        let derived = sealingKey()
        let box: AES.GCM.SealedBox
        do {
            box = try unsafe plain.withUnsafeBytes { plain in
                try unsafe associatedData.withUnsafeBytes { associatedData in
                    unsafe try AES.GCM.seal(plain, using: derived.key, authenticating: associatedData)
                }
            }
        } catch { preconditionFailure("AES-GCM encrypts whatever is shorter than 64 GiB: \(error)") }
        guard let combined = box.combined else { preconditionFailure("a nonce of 12 bytes was given") }
        target.store(derived.salt, at: offset)
        unsafe combined.withUnsafeBytes { bytes in
            unsafe target.store(RawSpan(_unsafeBytes: bytes), at: offset + Self.saltLength)
        }
    }

    public func open(
        _ sealed: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan
    ) -> Bool {
        guard sealed.byteCount == target.byteCount + FrameSeal.overhead else { return false }
        let key = openingKey(salt: sealed.array(0..<Self.saltLength))
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

    private func sealingKey() -> DerivedKey {
        state.withLock { state in
            if let known = state.sealing, state.framesLeft > 0 {
                state.framesLeft -= 1
                return known
            }
            var generator = SystemRandomNumberGenerator()
            let (low, high): (UInt64, UInt32) = (generator.next(), generator.next())
            let salt =
                (0..<8).map { UInt8(truncatingIfNeeded: low >> (8 * $0)) }
                + (0..<4).map { UInt8(truncatingIfNeeded: high >> (8 * $0)) }
            let derived = DerivedKey(salt: salt, key: derivedKey(salt: salt))
            state.sealing = derived
            state.framesLeft = Self.framesOfKey - 1
            return derived
        }
    }

    private func openingKey(salt: [UInt8]) -> SymmetricKey {
        let known = state.withLock { state -> SymmetricKey? in
            if let opening = state.opening, opening.salt == salt { return opening.key }
            // What this process writes is read by it, too.
            if let sealing = state.sealing, sealing.salt == salt { return sealing.key }
            return nil
        }
        if let known { return known }
        let key = derivedKey(salt: salt)
        state.withLock { $0.opening = DerivedKey(salt: salt, key: key) }
        return key
    }

    private func derivedKey(salt: [UInt8]) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: secret, salt: salt, info: Self.context, outputByteCount: KeyFile.secretLength)
    }
}
