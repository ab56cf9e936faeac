import Logging
import WALFormat
import WALStorage

/// The root directory of a log: whether it is one, its `FORMAT`, its lock.
struct LogRoot<Storage: JournalStorage> {
    let storage: Storage
    var logger: Logger?
    /// Whose own journal it is to be; nil: a log.
    var dedicated: DedicatedRoot?

    /// Entries that a log's root may have before its FORMAT is written.
    static var ownEntries: Set<String> {
        [
            "LOCK", "FORMAT", "FORMAT.tmp", "journal", "tenants", "quarantine", "lost+found",
            PlacementRoot<Storage>.fileName, PlacementRoot<Storage>.fileName + ".tmp", PlacementRoot<Storage>.directory,
            DeadLetterLog<Storage>.directory,
        ]
    }

    /// Takes the writer's lock and reads the format, creating what is missing. Throws `.notALog` for a directory that
    /// holds other things, and never writes to one.
    func openForWriting() throws(WALError) -> (RootFormat, Storage.Lock) {
        if let foreign = try catching({ () throws(StorageError) in try foreignEntry() }) {
            throw .notALog(
                path: storage.rootDescription,
                reason: "the directory holds other things (\(foreign)); give an empty or a new one")
        }
        if let dedicated, !dedicated.mayCreate { _ = try openForReading() }
        let lock = try catching { () throws(StorageError) in
            try storage.prepareDirectories()
            return try storage.lockForWriting()
        }
        let required = try catching { () throws(StorageError) in try storage.requiredBlockSize() }
        if let format = try readFormat(rewriting: true) {
            guard required <= format.blockSize else {
                throw .unsupportedFormat(
                    path: storage.rootDescription,
                    reason: "this device needs blocks of \(required) bytes, the log has \(format.blockSize)")
            }
            return (format, lock)
        }
        var generator = KernelRandomness()
        let format = RootFormat(
            logIdentifier: dedicated?.logIdentifier ?? LogIdentifier(using: &generator),
            blockSize: max(FormatLimits.defaultBlockSize, required), created: wallClockNanoseconds(),
            tenant: dedicated?.tenant)
        try catching { () throws(StorageError) in try storage.replace("FORMAT", with: format.encoded()) }
        return (format, lock)
    }

    /// Reads the format of an existing log, changing nothing. Throws `.notALog` where there is none.
    func openForReading() throws(WALError) -> RootFormat {
        guard try catching({ () throws(StorageError) in try storage.exists("") }) else {
            throw .notALog(path: storage.rootDescription, reason: "no such directory" + mountHint)
        }
        guard let format = try readFormat(rewriting: false) else {
            throw .notALog(
                path: storage.rootDescription, reason: "it has neither a FORMAT file nor journal files" + mountHint)
        }
        return format
    }

    private var mountHint: String { dedicated == nil ? "" : "; is its volume mounted?" }

    /// The format as FORMAT has it, or, where that file is damaged or gone, as the journal files' headers have it. Throws
    /// `.notALog` where the root is not what it is opened as.
    private func readFormat(rewriting: Bool) throws(WALError) -> RootFormat? {
        guard let format = try anyFormat(rewriting: rewriting) else { return nil }
        guard let dedicated else {
            if let tenant = format.tenant, rewriting {
                throw .notALog(
                    path: storage.rootDescription,
                    reason:
                        "it is tenant \(tenant)'s own journal, a part of log \(format.logIdentifier); open that log's "
                        + "root")
            }
            return format
        }
        guard format.logIdentifier == dedicated.logIdentifier, format.tenant == dedicated.tenant else {
            let owner = format.tenant.map { "tenant \($0)'s own journal in" } ?? "that of"
            throw .notALog(
                path: storage.rootDescription,
                reason: "tenant \(dedicated.tenant)'s own journal is expected here, and it is \(owner) log "
                    + "\(format.logIdentifier)")
        }
        return format
    }

    private func foreignEntry() throws(StorageError) -> String? {
        guard try storage.exists(""), try !storage.exists("FORMAT") else { return nil }
        return try storage.entries(of: "").filter { !Self.ownEntries.contains($0) }.min()
    }

    private func anyFormat(rewriting: Bool) throws(WALError) -> RootFormat? {
        var fault = "there is no FORMAT file"
        // A device that fails to read these two blocks need not take the whole log with them.
        var failure: WALError?
        if try catching({ () throws(StorageError) in try storage.exists("FORMAT") }) {
            do throws(WALError) { return try storedFormat() } catch {
                switch error {
                case .storage(let cause) where cause.code == .ioFailure: fault = "the device fails to read FORMAT"
                case .notALog(_, let reason): fault = reason
                default: throw error
                }
                failure = error
            }
        }
        let names = try catching { () throws(StorageError) in
            try storage.exists("journal") ? try storage.entries(of: "journal") : []
        }.filter { JournalFileName.number(of: $0) != nil }
        if names.isEmpty {
            if let failure { throw failure }
            return nil
        }
        var formats: [RootFormat] = []
        for name in names.sorted() {
            if let format = try format(fromHeaderOf: name) { formats.append(format) }
        }
        if let other = formats.first(where: { $0.logIdentifier != formats[0].logIdentifier }) {
            throw .notALog(
                path: storage.rootDescription + "/FORMAT",
                reason: "\(fault), and its journal files belong to different logs (\(formats[0].logIdentifier), "
                    + "\(other.logIdentifier)); put back the FORMAT file or take the foreign files out")
        }
        if var format = formats.first {
            format.tenant = dedicated?.tenant
            if rewriting { try rewrite(format, fault) }
            return format
        }
        throw .notALog(
            path: storage.rootDescription + "/FORMAT", reason: "\(fault), and no journal file's header can replace it")
    }

    private func rewrite(_ format: RootFormat, _ fault: String) throws(WALError) {
        do throws(StorageError) {
            try storage.replace("FORMAT", with: format.encoded())
            logger?.warning("FORMAT was written anew from the journal files' headers", metadata: ["reason": "\(fault)"])
        } catch {
            // A full disk must not keep a log from opening: the headers say the same next time.
            if error.code != .noSpace { throw .storage(error) }
            logger?.warning(
                "FORMAT cannot be written anew: the journal files' headers stand in for it",
                metadata: ["reason": "\(fault)", "error": "\(error)"])
        }
    }

    /// What FORMAT says. Throws `.notALog` where no copy is whole, `.unsupportedFormat`, `.storage`.
    private func storedFormat() throws(WALError) -> RootFormat {
        let bytes = try catching { () throws(StorageError) in
            try storage.contents(of: "FORMAT", limit: RootFormat.fileLength)
        }
        do throws(FormatError) {
            return try bytes.withRawSpan { (span: RawSpan) throws(FormatError) in try RootFormat.decode(span) }
        } catch {
            let path = storage.rootDescription + "/FORMAT"
            if error.cause == .version { throw .unsupportedFormat(path: path, reason: error.description) }
            throw .notALog(path: path, reason: error.description)
        }
    }

    private func format(fromHeaderOf name: String) throws(WALError) -> RootFormat? {
        let buffer = AlignedBuffer(
            capacity: FormatLimits.headerCopies * FormatLimits.maximumBlockSize,
            alignment: FormatLimits.maximumBlockSize)
        let count = try catching { () throws(StorageError) in
            let file = try storage.open("journal/" + name, forWriting: false)
            var unreadable: [Range<UInt64>] = []
            return try file.readAround(
                &unreadable, into: buffer, at: 0, length: buffer.capacity, from: 0,
                blockSize: try storage.requiredBlockSize())
        }
        return buffer.withBytes { bytes in
            let span = bytes.extracting(0..<count)
            var blockSize = FormatLimits.defaultBlockSize
            while blockSize <= FormatLimits.maximumBlockSize {
                for base in [0, blockSize] {
                    if let header = try? JournalFileHeader.decode(span, at: base, blockSize: blockSize) {
                        return RootFormat(
                            logIdentifier: header.logIdentifier, blockSize: blockSize, created: header.created)
                    }
                }
                blockSize *= 2
            }
            return nil
        }
    }

    private func catching<Value>(_ body: () throws(StorageError) -> Value) throws(WALError) -> Value {
        do throws(StorageError) { return try body() } catch { throw .storage(error) }
    }
}
