/// How an `OTLPExporter` sends.
public struct OTLPExporterOptions: Sendable {
    /// The receiver's base URL, as `http://127.0.0.1:4318`; the signals' paths (`/v1/traces` …) are appended.
    public var endpoint: String
    /// Headers for each request, as for authorization.
    public var headers: [(name: String, value: String)] = []
    /// Whether bodies are compressed with gzip.
    public var compresses = true
    /// How long a request may take, in seconds.
    public var timeoutSeconds: Int64 = 10
    /// Name of the resource attribute that carries the tenant where opaque records are wrapped as log records.
    public var tenantAttribute = "tenant.id"

    public init(endpoint: String) { self.endpoint = endpoint }
}
