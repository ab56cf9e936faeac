import Foundation
import SwiftProtobuf

/// Puts opaque records into log records, the one place OTLP has for text and bytes of any kind.
package enum OTLPOpaqueLog {
    /// A serialized logs request of one resource, with one log record for each payload: its body is a string if the
    /// payload is UTF-8, otherwise bytes. Requests can be put behind each other, as all payloads can.
    ///
    /// - Parameters:
    ///   - tenantAttribute: name of the resource attribute that holds `tenant`; left out if `tenant` is nil.
    ///   - timestamp: time and observed time of all log records in nanoseconds since 1970; 0 if it is not known.
    ///
    /// Never fails for payloads that fit into a protobuf message, 2 GiB in all; throws beyond that. Costs two copies.
    package static func wrap<Payload: Collection<UInt8>>(
        payloads: some Sequence<Payload>, tenantAttribute: String, tenant: String?, timestamp: UInt64
    ) throws(OTLPInputError) -> [UInt8] {
        var request = LogsRequest()
        var resource = ResourceLogs()
        if let tenant {
            var attribute = KeyValue()
            attribute.key = tenantAttribute
            attribute.value.stringValue = tenant
            resource.resource.attributes = [attribute]
        }
        var scope = ScopeLogs()
        scope.logRecords = payloads.map { payload in
            var record = LogRecord()
            record.timeUnixNano = timestamp
            record.observedTimeUnixNano = timestamp
            if let text = String(validating: payload, as: UTF8.self) {
                record.body.stringValue = text
            } else {
                record.body.bytesValue = Data(payload)
            }
            return record
        }
        resource.scopeLogs = [scope]
        request.resourceLogs = [resource]
        do {
            return try request.serializedBytes()
        } catch {
            throw OTLPInputError(.tooLong, "opaque records that do not fit into one export request")
        }
    }
}
