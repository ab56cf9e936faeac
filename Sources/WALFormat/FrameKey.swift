/// A secret key that encrypts frames' bodies. The format says with which algorithm (SPEC.md, "Encryption"); the engine
/// knows none, so that a log without encryption links no cryptography. `AESFrameKey` in the module WALEncryption is the one
/// to use.
///
/// Called by several threads at a time.
public protocol FrameKey: AnyObject, Sendable {
    /// What frames name the key by, at least 1. A second secret never gets the identifier of another.
    var identifier: UInt64 { get }

    /// Writes `plain` encrypted to `target` at `offset`: `FrameSeal.overhead` bytes more. What it writes cannot be opened
    /// with another key or another `associatedData`. The same `plain` gives other bytes each time.
    func seal(
        _ plain: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan, at offset: Int)

    /// Decrypts what `seal` wrote into `target`, which has exactly the room. Returns false where it was not written with
    /// this key and this `associatedData`; `target` then holds nothing that may be used.
    func open(
        _ sealed: RawSpan, binding associatedData: RawSpan, into target: inout MutableRawSpan
    ) -> Bool
}

/// How a frame's body is encrypted: with which key, and bound to which place. A frame can be opened only as what it was
/// written as: in its log, in its life of a journal file, as this tenant's records of these numbers.
public struct FrameSeal: Sendable {
    /// Bytes that encryption adds to a body: a nonce of 24, a tag of 16.
    public static let overhead = 40

    public let key: any FrameKey
    public let logIdentifier: LogIdentifier
    /// The epoch of the journal file; 0 in segments, which are never written a second time, but for carried frames.
    public let epoch: UInt64

    public init(key: any FrameKey, logIdentifier: LogIdentifier, epoch: UInt64) {
        self.key = key
        self.logIdentifier = logIdentifier
        self.epoch = epoch
    }

    /// What a frame's body is bound to: log identifier, epoch, and the frame's header without what is known only when the
    /// body is encrypted (both checksums, the stored length), and with zeros for what is reserved.
    public func associatedData(of header: FrameHeader) -> [UInt8] {
        var header = header
        header.storedLength = 0
        header.bodyChecksum = 0
        header.isCarried = false
        var bytes = [UInt8](repeating: 0, count: Self.headerOffset + header.length)
        bytes.withMutableRawSpan { span in
            logIdentifier.encode(into: &span, at: 0)
            span.store(littleEndian: epoch, at: 16)
            header.encode(into: &span, at: Self.headerOffset)
            span.store(littleEndian: UInt32(0), at: Self.headerOffset)
        }
        return bytes
    }

    private static let headerOffset = 24

    /// Encodes a body, compressed if that `compresses` it by a sixteenth at least, into a buffer at an offset. Sets codec,
    /// raw and stored length and key identifier of the header, whose other fields are final. Plain bytes never come into
    /// the buffer. Throws `FormatError` when liblz4 fails.
    public func store(
        _ rawBody: RawSpan, header: inout FrameHeader, compresses: Bool, compressor: LZ4FrameCompressor,
        into buffer: inout MutableRawSpan, at offset: Int
    ) throws(FormatError) {
        precondition(key.identifier != 0, "a frame was to be encrypted with no key")
        header.keyIdentifier = key.identifier
        header.rawLength = rawBody.byteCount
        header.codec = .raw
        header.storedLength = rawBody.byteCount + Self.overhead
        if compresses {
            let compressed = try compressor.compress(rawBody)
            if compressed.count <= rawBody.byteCount - rawBody.byteCount / 16 {
                header.codec = .lz4
                header.storedLength = compressed.count + Self.overhead
                let associatedData = associatedData(of: header)
                compressed.withRawSpan { plain in
                    associatedData.withRawSpan { key.seal(plain, binding: $0, into: &buffer, at: offset) }
                }
                return
            }
        }
        associatedData(of: header).withRawSpan { key.seal(rawBody, binding: $0, into: &buffer, at: offset) }
    }

    /// The body of a frame as it was before encryption. Throws `FormatError` where the key is not the one that it was
    /// encrypted with, or the frame is not in its place.
    func open(_ stored: RawSpan, of header: FrameHeader) throws(FormatError) -> [UInt8] {
        guard header.keyIdentifier == key.identifier,
            stored.byteCount > Self.overhead + (header.isCarried ? CarriedFrame.epochLength : 0)
        else {
            throw FormatError(.sealed, "a frame is encrypted with key \(header.keyIdentifier), not \(key.identifier)")
        }
        let sealed = stored.extracting(
            0..<stored.byteCount - (header.isCarried ? CarriedFrame.epochLength : 0))
        let length = sealed.byteCount - Self.overhead
        let associatedData = associatedData(of: header)
        var isOpen = false
        let plain = unsafe [UInt8](unsafeUninitializedCapacity: length) { room, count in
            let buffer = unsafe UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(room)[..<length])
            var target = unsafe MutableRawSpan(_unsafeBytes: buffer)
            isOpen = associatedData.withRawSpan { key.open(sealed, binding: $0, into: &target) }
            if isOpen { count = length }
        }
        guard isOpen else {
            throw FormatError(
                .authentication,
                "the secret of key \(key.identifier) does not open it: it is another one, or the bytes were changed "
                    + "by whoever can compute checksums")
        }
        return plain
    }
}
