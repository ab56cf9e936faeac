import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import OTLPProtocol
import TelemetryReplay
import TelemetryWAL
import WALFormat

/// Delivers to an OTLP receiver by HTTP with protobuf bodies (OTLP 1.x, "OTLP/HTTP").
///
/// A batch's payloads are strung together as they are: each is an export request with one `Resource…` element, and
/// protobuf merges repeated fields, so the body is a valid request and nothing is decoded. Opaque records, which OTLP
/// has no place for, go as log records whose body is the record.
///
/// 2xx means delivered, with the items that a partial success rejects counted. 429, 502, 503, 504 and failures of the
/// connection are tried again, not before `Retry-After`. Everything else, redirects included, is a refusal.
public struct OTLPExporter: TelemetryExporter {
    private let options: OTLPExporterOptions
    private let connections: Connections

    /// An exporter with connections of its own, opened on the first delivery.
    public init(options: OTLPExporterOptions) {
        var options = options
        while options.endpoint.hasSuffix("/") { options.endpoint.removeLast() }
        self.options = options
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        configuration.timeout.connect = .seconds(min(5, options.timeoutSeconds))
        // The client's own deadline ends with the response's head: a body that stalls needs this one.
        configuration.timeout.read = .seconds(options.timeoutSeconds)
        configuration.connectionPool.retryConnectionEstablishment = false
        connections = Connections(configuration)
    }

    public var destination: String { options.endpoint }

    public func shutdown() async { await connections.shutdown() }

    public func export(_ batch: ExportBatch) async -> ExportResult {
        let body: [UInt8]
        let signal: OTLPSignal
        if let known = OTLPSignal(kind: batch.kind) {
            signal = known
            body = batch.concatenatedPayloads()
        } else {
            signal = .logs
            var wrapped: [UInt8] = []
            for record in batch.records {
                do throws(OTLPInputError) {
                    wrapped += try OTLPOpaqueLog.wrap(
                        payloads: [record.payload], tenantAttribute: options.tenantAttribute,
                        tenant: batch.tenant.description, timestamp: record.timestamp)
                } catch { return .refused(reason: "record \(record.sequence): \(error)") }
            }
            body = wrapped
        }
        do {
            let response = try await connections.client.execute(
                request(signal: signal, body: body), timeout: .seconds(options.timeoutSeconds))
            // What a receiver answers is short; a longer answer is none of OTLP's.
            let answer = (try? await response.body.collect(upTo: 1 << 20)) ?? ByteBuffer()
            return result(of: response, answer: answer, signal: signal, batch: batch)
        } catch let error as HTTPClientError where error == .invalidURL || error == .emptyHost || error == .emptyScheme
        {
            return .denied(reason: "\(options.endpoint): not a URL to send to (\(error.shortDescription))")
        } catch let error as HTTPClientError {
            return .retry(reason: "\(options.endpoint): \(error.shortDescription)", after: nil)
        } catch {
            return .retry(reason: "\(options.endpoint): \(error)", after: nil)
        }
    }

    private func request(signal: OTLPSignal, body: [UInt8]) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: options.endpoint + signal.httpPath)
        request.method = .POST
        request.headers.add(name: "content-type", value: OTLPContentType.protobuf.rawValue)
        request.headers.add(name: "user-agent", value: "telemetry-wal")
        for (name, value) in options.headers { request.headers.replaceOrAdd(name: name, value: value) }
        if options.compresses, let compressed = Gzip.compress(body) {
            request.headers.add(name: "content-encoding", value: "gzip")
            request.body = .bytes(ByteBuffer(bytes: compressed))
        } else {
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        return request
    }

    private func result(
        of response: HTTPClientResponse, answer: ByteBuffer, signal: OTLPSignal, batch: ExportBatch
    ) -> ExportResult {
        let status = Int(response.status.code)
        let bytes = Array(answer.readableBytesView)
        switch status {
        case 200..<300:
            let type = response.headers.first(name: "content-type").flatMap(OTLPContentType.init(headerValue:))
            let partial = OTLPResponse.partialSuccess(signal: signal, body: bytes, contentType: type ?? .protobuf)
            // The number is the receiver's word: negative or absurd ones must not spoil the account.
            let rejected = min(max(partial?.rejected ?? 0, 0), Int64(batch.payloadLength))
            return .delivered(rejected: Int(rejected), message: partial?.message)
        case 429, 502, 503, 504:
            let after = response.headers.first(name: "retry-after").flatMap(Int.init)
            return .retry(
                reason: "\(options.endpoint): HTTP \(status)",
                after: after.map { .seconds(min(max($0, 0), 3600)) })
        case 401, 403, 404, 405, 407, 300..<400:
            return .denied(reason: "\(options.endpoint): HTTP \(status)")
        default:
            let type = response.headers.first(name: "content-type").flatMap(OTLPContentType.init(headerValue:))
            let text = OTLPResponse.refusal(body: bytes, contentType: type)
            return .refused(reason: "\(options.endpoint): HTTP \(status)\(text.isEmpty ? "" : ": \(text)")")
        }
    }
}
