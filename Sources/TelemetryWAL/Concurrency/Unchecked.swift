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

/// Marks a variable of a class whose lock guards it: see `Unchecked`.
@propertyWrapper struct LockGuarded<Value> {
    private let storage: Unchecked<Value>

    init(wrappedValue: Value) { storage = Unchecked(wrappedValue) }

    var wrappedValue: Value {
        @inline(__always) _read { yield storage.value }
        @inline(__always) nonmutating _modify { yield &storage.value }
    }
}

/// A list with room for a fixed number of elements, whose elements are changed in place without run-time checks.
@safe struct FixedList<Element> {
    private let memory: UnsafeMutablePointer<Element>
    private(set) var count = 0
    let capacity: Int

    /// Takes memory, which pages in as it is used. Given back by `deallocate`, not by itself.
    init(capacity: Int) {
        unsafe memory = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    mutating func append(_ element: Element) {
        precondition(count < capacity)
        unsafe (memory + count).initialize(to: element)
        count += 1
    }

    mutating func removeAll() {
        unsafe memory.deinitialize(count: count)
        count = 0
    }

    mutating func deallocate() {
        removeAll()
        unsafe memory.deallocate()
    }

    subscript(index: Int) -> Element {
        @inline(__always) _read {
            precondition(index >= 0 && index < count)
            yield unsafe memory[index]
        }
        @inline(__always) nonmutating _modify {
            precondition(index >= 0 && index < count)
            yield unsafe &memory[index]
        }
    }
}
