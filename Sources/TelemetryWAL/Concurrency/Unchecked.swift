/// A value in memory of its own, for state that a lock guards and each append passes: Swift's run-time checks of
/// exclusive access, which a class's variables have, would cost such a path a quarter of its time. Whoever holds the
/// lock has exclusive access anyway.
///
/// Safe because the memory lives as long as any copy of this value, and is touched under the lock only.
@safe struct Unchecked<Value> {
    /// Gives the memory back when the last copy goes; accesses do not touch it, and so pay no reference counting.
    @safe private final class Owner {
        let memory: UnsafeMutablePointer<Value>

        init(_ value: Value) {
            unsafe memory = .allocate(capacity: 1)
            unsafe memory.initialize(to: value)
        }

        deinit {
            unsafe memory.deinitialize(count: 1)
            unsafe memory.deallocate()
        }
    }

    private let owner: Owner
    private let memory: UnsafeMutablePointer<Value>

    init(_ value: Value) {
        owner = Owner(value)
        unsafe memory = owner.memory
    }

    var value: Value {
        @inline(__always) _read { yield unsafe memory.pointee }
        @inline(__always) nonmutating _modify { yield unsafe &memory.pointee }
    }
}
