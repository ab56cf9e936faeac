/// Bytes that do not follow the format. Says which element failed which check; where (file, offset) is for the
/// caller to add, who knows it.
public struct FormatError: Error, Equatable, CustomStringConvertible {
    /// What failed, as a cause that code can tell apart.
    public enum Cause: Equatable, Sendable {
        /// Fewer bytes than the element needs.
        case truncated
        /// The element's magic number is not there.
        case magic
        /// The CRC32C does not match.
        case checksum
        /// A field is outside its bounds, or two fields contradict each other.
        case field
        /// A version that this code does not know.
        case version
        /// The LZ4 frame does not decompress to what the header says.
        case compression
        /// The frame is encrypted, and its key was not given.
        case sealed
        /// The frame is encrypted, and the key given under its identifier does not open it.
        case authentication
        /// The frame is encrypted with a key that was destroyed on purpose.
        case keyForgotten
    }

    public let cause: Cause
    public let description: String

    public init(_ cause: Cause, _ description: String) {
        self.cause = cause
        self.description = description
    }
}
