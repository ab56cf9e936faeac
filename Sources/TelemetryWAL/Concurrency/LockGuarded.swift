/// Marks a variable of a class whose lock guards it: see `Unchecked`.
@propertyWrapper struct LockGuarded<Value> {
    private let storage: Unchecked<Value>

    init(wrappedValue: Value) { storage = Unchecked(wrappedValue) }

    var wrappedValue: Value {
        @inline(__always) _read { yield storage.value }
        @inline(__always) nonmutating _modify { yield &storage.value }
    }
}
