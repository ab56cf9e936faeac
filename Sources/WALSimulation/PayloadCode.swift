import WALFormat

/// A record that says which one it is: its payload begins with its number, and all that follows can be computed.
enum PayloadCode {
    static let shortest = 12

    static func payload(number: Int, length: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: max(shortest, length))
        for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: number >> (8 * index)) }
        for index in 0..<4 { bytes[8 + index] = UInt8(truncatingIfNeeded: bytes.count >> (8 * index)) }
        var index = shortest
        // Runs of eight, so that LZ4 has something to do.
        while index < bytes.count {
            let value = UInt8(truncatingIfNeeded: number &* 31 &+ index / 8 &* 7)
            for place in index..<min(index + 8, bytes.count) { bytes[place] = value }
            index += 8
        }
        return bytes
    }

    /// The number of a payload, nil if a byte of it is not as it was appended.
    static func number(of payload: some Collection<UInt8>) -> Int? {
        let bytes = Array(payload)
        guard bytes.count >= shortest else { return nil }
        var number = 0
        for index in 0..<8 { number |= Int(bytes[index]) << (8 * index) }
        var length = 0
        for index in 0..<4 { length |= Int(bytes[8 + index]) << (8 * index) }
        guard length == bytes.count, payloadMatches(bytes, number) else { return nil }
        return number
    }

    private static func payloadMatches(_ bytes: [UInt8], _ number: Int) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var index = shortest
            while index < bytes.count {
                let value = UInt8(truncatingIfNeeded: number &* 31 &+ index / 8 &* 7)
                if index + 8 <= bytes.count {
                    let run = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                    if run != UInt64(value) &* 0x0101_0101_0101_0101 { return false }
                } else {
                    for place in index..<bytes.count where bytes[place] != value { return false }
                }
                index += 8
            }
            return true
        }
    }
}
