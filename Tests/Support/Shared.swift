import Foundation

/// A value that several threads of a test change. Not `Mutex`, which ThreadSanitizer does not see through.
///
/// Safe to share although unchecked: the lock guards the value.
public final class Shared<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var content: Value

    public init(_ value: Value) { content = value }

    public var value: Value {
        get { lock.withLock { content } }
        set { lock.withLock { content = newValue } }
    }

    public func change(_ body: (inout Value) -> Void) { lock.withLock { body(&content) } }
}
