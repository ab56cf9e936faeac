/// A task that is suspended. Resumed exactly once, by whoever took it out of the list it stands in; a checked
/// continuation would take memory for each append.
@safe struct Waiter: Sendable {
    private let continuation: UnsafeContinuation<Void, Never>

    func resume() { unsafe continuation.resume() }

    /// Suspends the calling task and hands it to a closure, which sees to it that it is resumed.
    @inline(__always)
    static func suspend(_ body: (Waiter) -> Void) async {
        await unsafe withUnsafeContinuation { unsafe body(Waiter(continuation: $0)) }
    }
}
