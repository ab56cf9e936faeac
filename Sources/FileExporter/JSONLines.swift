import OTLPProtocol
import TelemetryReplay
import TelemetryWAL
import WALFormat

/// A batch as lines of JSON.
enum JSONLines {
    struct Fault: Error { var reason: String }

    static func encode(_ batch: ExportBatch) -> Result<[UInt8], Fault> {
        var text: [UInt8] = []
        for record in batch.records {
            do throws(OTLPInputError) {
                text += try OTLPJSON.line(kind: record.kind, payload: record.payload).utf8
                text.append(UInt8(ascii: "\n"))
            } catch { return .failure(Fault(reason: "record \(record.sequence): \(error)")) }
        }
        return .success(text)
    }
}
