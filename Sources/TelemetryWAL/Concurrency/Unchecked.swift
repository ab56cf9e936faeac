/// A value in memory of its own, for state that a lock guards and each append passes: Swift's run-time checks of
/// exclusive access, which a class's variables have, would cost such a path a quarter of its time. Whoever holds the
/// lock has exclusive access anyway.
///
/// Safe because the memory lives as long as this object, and its owner touches it under its lock only.
@safe final class Unchecked<Value> {
    private let memory: UnsafeMutablePointer<Value>

    init(_ value: Value) {
        unsafe memory = .allocate(capacity: 1)
        unsafe memory.initialize(to: value)
    }

    deinit {
        unsafe memory.deinitialize(count: 1)
        unsafe memory.deallocate()
    }

    var value: Value {
        @inline(__always) _read { yield unsafe memory.pointee }
        @inline(__always) _modify { yield unsafe &memory.pointee }
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
