/// Finds the end of a line; the state is kept between calls, so that each byte is looked at once.
struct LineScanner: Sendable {
    private var scanned = 0

    /// The length of the first line with its line feed, or nil if the buffer holds no line feed.
    mutating func scan(_ buffer: InputBuffer) -> Int? {
        guard let feed = buffer.bytes[(buffer.start + scanned)...].firstIndex(of: UInt8(ascii: "\n")) else {
            scanned = buffer.count
            return nil
        }
        return feed + 1 - buffer.start
    }
}
