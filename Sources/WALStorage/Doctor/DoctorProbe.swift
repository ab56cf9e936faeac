import Glibc
import SystemPackage

/// Why a place cannot be probed.
package enum DoctorError: Error, CustomStringConvertible {
    /// The path, or one that leads to it, is something else.
    case notADirectory(path: String)
    /// The probe would take space that must stay free; all in bytes.
    case tooLittleSpace(path: String, needed: UInt64, available: UInt64, kept: UInt64)
    case storage(StorageError)

    package var description: String {
        switch self {
        case .notADirectory(let path): "\(path): not a directory"
        case .tooLittleSpace(let path, let needed, let available, let kept):
            "\(path): too little free space: the probe takes \(Self.readable(needed)) and leaves "
                + "\(Self.readable(kept)) free, but only \(Self.readable(available)) are there; free some, or give a "
                + "smaller --size"
        case .storage(let error): error.description
        }
    }

    private static func readable(_ bytes: UInt64) -> String {
        bytes < 16 << 20 ? "\(bytes >> 10) KiB" : "\(bytes >> 20) MiB"
    }
}

/// All that was found out about a place for a log.
package struct DoctorMeasurements: Sendable {
    /// The log there, if any, as far as judging the device needs it.
    package struct Log: Hashable, Sendable {
        package var hasWriter: Bool
        /// Nil where its FORMAT file does not say.
        package var blockSize: Int?

        package init(hasWriter: Bool, blockSize: Int?) {
            self.hasWriter = hasWriter
            self.blockSize = blockSize
        }
    }

    package var log: Log?
    package var fileSystem: FileSystemReport
    /// Nil where there is none or `/sys` does not show it.
    package var device: BlockDeviceReport?
    package var machine: MachineReport
    package var ring: RingReport
    /// Empty where measuring would say nothing: in memory.
    package var latencies: [LatencySummary]

    package init(
        fileSystem: FileSystemReport, device: BlockDeviceReport?, machine: MachineReport, ring: RingReport,
        latencies: [LatencySummary]
    ) {
        self.fileSystem = fileSystem
        self.device = device
        self.machine = machine
        self.ring = ring
        self.latencies = latencies
    }

    package subscript(operation: ProbedOperation) -> LatencySummary? {
        latencies.first { $0.operation == operation }
    }
}

/// Probes the place of a log, or of a log to be. Makes one file, which is gone afterwards, and changes nothing else.
package struct DoctorProbe {
    /// Where the probe file is made: the log's journal, since file systems may treat directories differently;
    /// else the root; else its nearest ancestor that exists.
    package let directory: String

    /// Looks for the place. Throws `.notADirectory`, or what the file system reports.
    package init(root: String) throws(DoctorError) {
        let journal = FilePath(root).appending("journal").string
        if let status = try Self.status(journal), status.isDirectory {
            directory = journal
            return
        }
        var ancestor = FilePath(root)
        while true {
            let path = ancestor.isEmpty ? "." : ancestor.string
            if let status = try Self.status(path) {
                guard status.isDirectory else { throw .notADirectory(path: path) }
                directory = path
                return
            }
            // The root and the working directory always exist, unless the latter was removed.
            guard !ancestor.isEmpty, ancestor.removeLastComponent() else {
                throw .storage(
                    StorageError(.notFound, operation: "look up", path: path, systemError: .noSuchFileOrDirectory))
            }
        }
    }

    /// Nil where there is nothing.
    private static func status(_ path: String) throws(DoctorError) -> PathStatus? {
        do throws(StorageError) { return try PathStatus(path) } catch {
            if error.systemError == .noSuchFileOrDirectory { return nil }
            // Something on the way is a file; the walk upwards comes to it.
            if error.systemError == .notDirectory { return nil }
            throw .storage(error)
        }
    }

    /// Bytes that a probe leaves free: a tenth of the file system, and no more than 256 MiB.
    package static func keptFree(of total: UInt64) -> UInt64 { min(total / 10, 256 << 20) }

    /// Asks and measures. `size` is the probe file's, bytes, a multiple of 1 MiB from 1 MiB on; `seconds` bounds the
    /// measuring, except that each operation is tried eight times however slow it is. `progress` is told the part of
    /// the time that has passed.
    package func measure(
        size: UInt64, seconds: Double, progress: @escaping (Double) -> Void
    ) throws(DoctorError) -> DoctorMeasurements {
        var (fileSystem, device) = try catching { () throws(StorageError) in try FileSystemProbe.examine(directory) }
        let isMemory = fileSystem.lowest.kind.nature == .memory
        // First, since a read-only place is not helped by free space.
        let probe = try ProbeFile(in: directory)
        // Removed here and not only by `deinit`, which may come late.
        defer { probe.remove() }
        if !isMemory {
            let kept = Self.keptFree(of: fileSystem.totalBytes)
            guard fileSystem.availableBytes >= kept, fileSystem.availableBytes - kept >= size else {
                throw .tooLittleSpace(
                    path: directory, needed: size, available: fileSystem.availableBytes, kept: kept)
            }
        }
        fileSystem.acceptsDirectIO = probe.file.isDirect
        fileSystem.overwritesInPlace = probe.hasNoCopyOnWrite
        if let alignment = try catching({ () throws(StorageError) in try probe.file.directIOAlignment() }) {
            fileSystem.memoryAlignment = alignment.memory
            fileSystem.offsetAlignment = alignment.offset
        }
        var latencies: [LatencySummary] = []
        if !isMemory {
            let measurement = LatencyProbe(
                file: probe.file, size: size, blockSize: fileSystem.blockSize, seconds: seconds,
                readsPastCache: fileSystem.hasDirectIO == true, progress: progress)
            latencies = try catching { () throws(StorageError) in try measurement.run() }
        }
        return DoctorMeasurements(
            fileSystem: fileSystem, device: device, machine: .examine(), ring: .examine(), latencies: latencies)
    }

    private func catching<Value>(_ body: () throws(StorageError) -> Value) throws(DoctorError) -> Value {
        do throws(StorageError) { return try body() } catch { throw .storage(error) }
    }
}
