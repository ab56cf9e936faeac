/// Bytes that are read at a time. The simulator's are small: its files are, and joints between reads are where mistakes
/// would be.
enum ReadLength {
    #if Simulation
        static let recoveryWindow = 64 << 10
        static let piece = 32 << 10
        static let headroom = 16 << 10
        static let gentlePiece = 16 << 10
    #else
        /// Of recovery's looks at headers and single commits.
        static let recoveryWindow = 4 << 20
        /// Of a window that slides over a file.
        static let piece = 1 << 20
        /// Free room before a piece, for what is left of the piece before it.
        static let headroom = 512 << 10
        /// Of one that appends must not wait behind: a long read stands in the way of whatever else the device has to do.
        static let gentlePiece = 128 << 10
    #endif
}
