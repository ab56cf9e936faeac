import CWALLinux
import Synchronization

/// How far groups are durable, and where threads sleep until theirs is. Groups end in the order of their numbers, so
/// one number tells of all; whoever wakes up looks at it and needs no lock.
///
/// Safe to share although unchecked: all that changes is atomic.
@safe final class GroupProgress: @unchecked Sendable {
    private let durable: Atomic<UInt64>
    private let isRefused = Atomic<Bool>(false)
    /// Futex words, taken in turns, so that a group's end does not wake those who wait for the next.
    private let words: UnsafeMutablePointer<Atomic<UInt32>>
    private static let wordCount: UInt64 = 4

    init(durableThrough group: UInt64) {
        durable = Atomic(group)
        unsafe words = .allocate(capacity: Int(Self.wordCount))
        for index in 0..<Int(Self.wordCount) { unsafe (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe words.deinitialize(count: Int(Self.wordCount))
        unsafe words.deallocate()
    }

    /// The last group that is durable, and all before it.
    var durableThrough: UInt64 { durable.load(ordering: .acquiring) }
    /// No group behind `durableThrough` becomes durable any more.
    var hasEnded: Bool { isRefused.load(ordering: .acquiring) }

    private func word(_ group: UInt64) -> UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe words + Int(group % Self.wordCount)
    }

    /// Notes that a group is durable. The caller wakes its sleepers when it holds no lock.
    func advance(to group: UInt64) { durable.store(group, ordering: .releasing) }

    /// Wakes the threads that sleep until a group is done, with one system call.
    func wakeSleepers(ofGroup group: UInt64) {
        let word = unsafe word(group)
        unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
        unsafe cwal_futex_wake(word)
    }

    /// No further group becomes durable: everybody wakes up.
    func end() {
        isRefused.store(true, ordering: .releasing)
        for group in 0..<Self.wordCount { wakeSleepers(ofGroup: group) }
    }

    /// Sleeps until a group is durable or none can be any more. Returns whether it is durable.
    func sleep(untilGroup group: UInt64) -> Bool {
        let word = unsafe word(group)
        while true {
            let seen = unsafe word.pointee.load(ordering: .acquiring)
            // The order matters: what is durable stays so, whatever ends later.
            let ended = hasEnded
            if durableThrough >= group { return true }
            if ended { return false }
            unsafe cwal_futex_wait(word, seen)
        }
    }
}
