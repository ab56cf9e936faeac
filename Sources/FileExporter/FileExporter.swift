import OTLPProtocol
import TelemetryReplay
import TelemetryWAL
import WALFormat
import WALStorage

/// Delivers to files: one a tenant, one OTLP/JSON document a line (NDJSON), as the OpenTelemetry Collector's file
/// exporter writes them. Opaque records that are JSON objects stand as they are; others as `{"opaque":"<base64>"}`.
///
/// A batch counts as delivered when its lines are on stable storage. The file of a tenant is named by
/// `TenantName.pathComponents`, so no name leaves the directory.
public actor FileExporter: TelemetryExporter {
    public nonisolated let destination: String
    public nonisolated var deliversInOrder: Bool { true }
    private let directory: String
    /// Files in use; closed when there are many, opened again on demand.
    private var files: [TenantName: LineFile] = [:]
    private static var maximumOpenFiles: Int { 64 }

    /// An exporter into a directory, which is created on the first delivery.
    public init(directory: String) {
        self.directory = directory
        destination = "file:\(directory)"
    }

    /// The path of a tenant's file.
    public nonisolated static func path(of tenant: TenantName, in directory: String) -> String {
        directory + "/" + tenant.pathComponents.joined(separator: "/") + ".ndjson"
    }

    public func export(_ batch: ExportBatch) async -> ExportResult {
        let text: [UInt8]
        switch JSONLines.encode(batch) {
        case .success(let lines): text = lines
        case .failure(let fault): return .refused(reason: fault.reason)
        }
        do throws(StorageError) {
            try file(of: batch.tenant).append(text)
            return .delivered(rejected: 0, message: nil)
        } catch {
            files[batch.tenant] = nil
            return .retry(reason: "\(error)", after: nil)
        }
    }

    private func file(of tenant: TenantName) throws(StorageError) -> LineFile {
        if let file = files[tenant] { return file }
        if files.count >= Self.maximumOpenFiles { files.removeAll() }
        let file = try LineFile(path: Self.path(of: tenant, in: directory))
        files[tenant] = file
        return file
    }

    public func shutdown() { files.removeAll() }
}
