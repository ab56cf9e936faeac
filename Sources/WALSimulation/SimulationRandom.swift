/// All chance of a simulation, from one seed: xoshiro256** (Blackman and Vigna, https://prng.di.unimi.it), its state
/// filled by splitmix64.
public struct SimulationRandom: RandomNumberGenerator, Sendable {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    public init(seed: UInt64) {
        var value = seed
        func mixed() -> UInt64 {
            value &+= 0x9E37_79B9_7F4A_7C15
            var mixed = value
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
        state = (mixed(), mixed(), mixed(), mixed())
    }

    public mutating func next() -> UInt64 {
        let product = state.1 &* 5
        let result = (product << 7 | product >> 57) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = state.3 << 45 | state.3 >> 19
        return result
    }

    /// A number from 0 up to but not `limit`, which is 1 or more.
    public mutating func below(_ limit: Int) -> Int { Int(truncatingIfNeeded: next() % UInt64(limit)) }

    /// Whether one of `oneIn` throws comes up. Never for 0.
    public mutating func chance(oneIn: Int) -> Bool { oneIn > 0 && below(oneIn) == 0 }

    /// A number of a range.
    public mutating func pick(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

    /// An element of a list, which is not empty.
    public mutating func pick<Element>(_ list: [Element]) -> Element { list[below(list.count)] }

    /// A generator of its own, so that what one part of a simulation draws does not move what another does.
    public mutating func split() -> SimulationRandom { SimulationRandom(seed: next()) }
}
