import Glibc

/// Measures one file: repeats each operation for its share of the time.
struct LatencyProbe {
    private let file: DirectFile
    private let size: UInt64
    private let blockSize: Int
    private let seconds: Double
    private let readsPastCache: Bool
    private let progress: (Double) -> Void
    private let start = Self.now()

    /// Shares of the time. What the expectation rests on gets the most.
    private static let shares: [ProbedOperation: Double] = [
        .unwritten: 0.12, .written: 0.14, .recycled: 0.24, .recycledLarge: 0.10, .plain: 0.06, .idleFlush: 0.04,
        .flush: 0.06, .sequentialWrite: 0.07, .sequentialRead: 0.05,
    ]
    /// What writing zeros may take of the time; a slow device then gets along with a part of the file.
    private static let fillShare = 0.12
    private static let largeLength = 32 << 10
    private static let sequentialLength = 1 << 20
    /// A quantile of fewer is worth nothing, whatever the time.
    private static let fewest = 8
    private static let most = 50_000

    /// `size` is a multiple of 1 MiB, at least 1 MiB. `progress` is called with the part of the time that has passed,
    /// never while something is timed.
    init(
        file: DirectFile, size: UInt64, blockSize: Int, seconds: Double, readsPastCache: Bool,
        progress: @escaping (Double) -> Void
    ) {
        self.file = file
        self.size = size
        self.blockSize = blockSize
        self.seconds = seconds
        self.readsPastCache = readsPastCache
        self.progress = progress
    }

    /// Every operation in turn. The file must be empty and is written over and over. Sequential reads are left out
    /// where the page cache would answer.
    func run() throws(StorageError) -> [LatencySummary] {
        // Random bytes: a host or file system that detects zeros or compresses must not be asked the easy question.
        let data = AlignedBuffer(capacity: Self.sequentialLength, alignment: max(4096, blockSize))
        data.withMutableBytes { bytes in
            var generator = SystemRandomNumberGenerator()
            for offset in stride(from: 0, to: bytes.byteCount, by: 8) {
                bytes.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self)
            }
        }
        try file.allocate(size)
        try file.synchronizeWithMetadata()
        var summaries: [LatencySummary] = []
        func writes(_ operation: ProbedOperation, _ length: Int, within end: UInt64, wraps: Bool = true)
            throws(StorageError)
        {
            summaries.append(
                try repeated(operation, bytes: length, within: end, wraps: wraps) { offset throws(StorageError) in
                    try file.write(data, at: 0, length: length, to: offset, durability: .powerLoss)
                })
        }
        try writes(.unwritten, blockSize, within: size / 4, wraps: false)
        let end = try fill()
        try writes(.written, blockSize, within: end, wraps: false)
        // Only what the pass before has overwritten; the same again from the front where that is done.
        let overwritten = UInt64(summaries[1].count * blockSize)
        try writes(.recycled, blockSize, within: overwritten)
        try writes(.recycledLarge, max(Self.largeLength, blockSize), within: end)
        summaries.append(
            try repeated(.plain, bytes: blockSize, within: overwritten) { offset throws(StorageError) in
                try file.write(data, at: 0, length: blockSize, to: offset, durability: .processCrash)
            })
        try file.synchronize()
        summaries.append(
            try repeated(.idleFlush, bytes: 0, within: end) { _ throws(StorageError) in try file.synchronize() })
        summaries.append(
            try repeated(
                .flush, bytes: 0, within: overwritten,
                before: { offset throws(StorageError) in
                    try file.write(data, at: 0, length: blockSize, to: offset, durability: .processCrash)
                },
                operation: { _ throws(StorageError) in try file.synchronize() }))
        try writes(.sequentialWrite, Self.sequentialLength, within: end)
        if readsPastCache {
            let target = AlignedBuffer(capacity: Self.sequentialLength, alignment: max(4096, blockSize))
            summaries.append(
                try repeated(.sequentialRead, bytes: Self.sequentialLength, within: end) {
                    offset throws(StorageError) in
                    _ = try file.read(into: target, at: 0, length: Self.sequentialLength, from: offset)
                })
        }
        progress(1)
        return summaries
    }

    /// Writes zeros as the log does when it makes a file, and returns how far it got, a multiple of 1 MiB.
    private func fill() throws(StorageError) -> UInt64 {
        let zeros = AlignedBuffer(capacity: Self.sequentialLength, alignment: max(4096, blockSize))
        let deadline = Self.now() + UInt64(seconds * Self.fillShare * 1e9)
        var end: UInt64 = 0
        while end < size, end < 4 << 20 || Self.now() < deadline {
            try file.write(zeros, at: 0, length: zeros.capacity, to: end, durability: .processCrash)
            end += UInt64(zeros.capacity)
            progress(elapsedShare)
        }
        try file.synchronizeWithMetadata()
        return end
    }

    private func repeated(
        _ operation: ProbedOperation, bytes: Int, within end: UInt64, wraps: Bool = true,
        perform: (UInt64) throws(StorageError) -> Void
    ) throws(StorageError) -> LatencySummary {
        try repeated(
            operation, bytes: bytes, within: end, wraps: wraps, before: { _ throws(StorageError) in },
            operation: perform)
    }

    /// Times `operation` at one offset after the other until its share of the time, or, unless it wraps, the range is
    /// used up. `before` is not timed.
    private func repeated(
        _ kind: ProbedOperation, bytes: Int, within end: UInt64, wraps: Bool = true,
        before: (UInt64) throws(StorageError) -> Void, operation: (UInt64) throws(StorageError) -> Void
    ) throws(StorageError) -> LatencySummary {
        let step = UInt64(max(bytes, blockSize))
        let deadline = Self.now() + UInt64(seconds * (Self.shares[kind] ?? 0.1) * 1e9)
        var times: [UInt64] = []
        var offset: UInt64 = 0
        var reported: UInt64 = 0
        while times.count < Self.most {
            if offset + step > end {
                guard wraps else { break }
                offset = 0
            }
            try before(offset)
            let start = Self.now()
            try operation(offset)
            let finish = Self.now()
            times.append(finish - start)
            offset += step
            if finish - reported > 50_000_000 {
                reported = finish
                progress(elapsedShare)
            }
            if finish >= deadline, times.count >= Self.fewest { break }
        }
        return LatencySummary(kind, bytes: bytes, times: times)
    }

    private var elapsedShare: Double { min(1, Double(Self.now() - start) / 1e9 / seconds) }

    /// Nanoseconds of the monotonic clock.
    private static func now() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
