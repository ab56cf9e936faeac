import AsyncHTTPClient
import NIOConcurrencyHelpers

/// A client that is made with its first request, and ends with whoever has it: the library's own must be told to end,
/// and stops a debug build where it is not.
final class Connections: Sendable {
    private enum State {
        case unused
        case used(HTTPClient)
        case ended
    }

    private let configuration: HTTPClient.Configuration
    private let state = NIOLockedValueBox(State.unused)

    init(_ configuration: HTTPClient.Configuration) { self.configuration = configuration }

    deinit {
        guard case .used(let client) = state.withLockedValue({ $0 }) else { return }
        client.shutdown { _ in }
    }

    /// The client. After `shutdown` one that refuses requests.
    var client: HTTPClient {
        state.withLockedValue { state in
            if case .used(let client) = state { return client }
            let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
            if case .ended = state { client.shutdown { _ in } } else { state = .used(client) }
            return client
        }
    }

    /// Ends connections; what is under way fails.
    func shutdown() async {
        let before = state.withLockedValue { state in
            defer { state = .ended }
            return state
        }
        if case .used(let client) = before { try? await client.shutdown() }
    }
}
