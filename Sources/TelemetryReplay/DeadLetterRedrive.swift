import TelemetryWAL
import WALFormat
import WALStorage

/// Sends the dead letters of a log again, each once: those that are there when it begins. What the receiver takes is
/// gone from them; what it refuses again comes to their end, with what it said now and one attempt more.
public struct DeadLetterRedrive<Storage: JournalStorage, Exporter: TelemetryExporter>: Sendable {
    private let log: WriteAheadLogEngine<Storage>
    private let exporter: Exporter
    private let options: ReplayOptions
    private let subscriber: TenantName?

    /// `subscriber`: only what its receiver refused; nil: whoever's. `options.tenants`: only these tenants'.
    public init(
        log: WriteAheadLogEngine<Storage>, exporter: Exporter, subscriber: TenantName? = nil,
        options: ReplayOptions = ReplayOptions()
    ) {
        (self.log, self.exporter, self.subscriber, self.options) = (log, exporter, subscriber, options)
    }

    /// Sends them, and returns what came of it: `deadLetters` are those that were refused again. Throws `WALError` as
    /// opening the log of dead letters does, and where it fails.
    public func run(progress: (@Sendable (Int, Int) -> Void)? = nil) async throws(WALError) -> ReplaySummary {
        guard try log.deadLetters.exists() else { return ReplaySummary() }
        // Any of them may have to be written again.
        let letters = try await log.deadLetters.open(fitting: FormatLimits.maximumFrameRawLength - RecordHeader.length)
        var ceilings: [TenantName: UInt64] = [:]
        for tenant in letters.tenants where options.tenants?.contains(tenant.name) ?? true {
            ceilings[tenant.name] = tenant.nextSequence - 1
        }
        let store = Reburial(letters: letters)
        let envelope = LetterExporter(exporter: exporter, only: subscriber, store: store)
        let source = SubscriberSource(letters, DeadLetterLog<Storage>.subscriber, ceilings: ceilings)
        var summary = try await ReplayRun(
            sources: [source], subscriber: DeadLetterLog<Storage>.subscriber, exporter: envelope, deadLetters: store,
            options: options, isFollowing: false, stop: nil, progress: progress
        ).run()
        let others = await store.others
        summary.deliveredRecords -= others
        return summary
    }
}

/// Exports what dead letters are of.
private struct LetterExporter<Storage: JournalStorage, Exporter: TelemetryExporter>: TelemetryExporter {
    let exporter: Exporter
    let only: TenantName?
    let store: Reburial<Storage>

    var destination: String { exporter.destination }
    var deliversInOrder: Bool { exporter.deliversInOrder }

    func export(_ batch: ExportBatch) async -> ExportResult {
        var kinds: [(kind: RecordKind, records: [RecordBatch.Record])] = []
        var others: [TelemetryRecord] = []
        for record in batch.records {
            guard let letter = DeadLetter(record, of: batch.tenant) else {
                return .refused(reason: "record \(record.sequence) of the dead letters is none")
            }
            if let only, letter.subscriber != only {
                others.append(
                    TelemetryRecord(kind: .opaque, timestamp: record.timestamp, payload: Array(record.payload)))
            } else if let place = kinds.firstIndex(where: { $0.kind == letter.kind }) {
                kinds[place].records.append(letter.record)
            } else {
                kinds.append((letter.kind, [letter.record]))
            }
        }
        // What one request cannot be for is halved until it can: a part that fails must not have the others sent again.
        guard kinds.count + (others.isEmpty ? 0 : 1) == 1 else { return .refused(reason: "letters of several kinds") }
        if let (kind, records) = kinds.first {
            return await exporter.export(ExportBatch(tenant: batch.tenant, kind: kind, records: records))
        }
        do { try await store.keep(others, of: batch.tenant) } catch {
            return .retry(reason: "a dead letter of another subscriber cannot be kept: \(error)", after: nil)
        }
        return .delivered(rejected: 0, message: nil)
    }
}

/// Puts dead letters that are refused again behind the others.
private actor Reburial<Storage: JournalStorage>: DeadLetterStore {
    private let letters: WriteAheadLogEngine<Storage>
    /// Letters of others than those who are sent for.
    private(set) var others = 0

    init(letters: WriteAheadLogEngine<Storage>) { self.letters = letters }

    func store(_ letter: DeadLetter) async throws {
        // What was refused is the letter in its envelope.
        let record = RecordBatch.Record(
            sequence: letter.sequence, kind: letter.kind, timestamp: letter.timestamp, payload: letter.payload[...])
        guard var known = DeadLetter(record, of: letter.tenant) else {
            try await letters.append(
                TelemetryRecord(kind: letter.kind, timestamp: letter.timestamp, payload: letter.payload),
                tenant: letter.tenant)
            return
        }
        known.attempts += 1
        (known.reason, known.refused) = (letter.reason, letter.refused)
        try await letters.append(try known.encoded(), tenant: letter.tenant)
    }

    func keep(_ records: [TelemetryRecord], of tenant: TenantName) async throws {
        for record in records {
            try await letters.append(record, tenant: tenant)
            others += 1
        }
    }
}
