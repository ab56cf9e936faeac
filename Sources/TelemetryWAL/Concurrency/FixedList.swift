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
