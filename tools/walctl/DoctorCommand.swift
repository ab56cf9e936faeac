import ArgumentParser
import Foundation
import SystemPackage
import WALFormat
import WALStorage

/// `walctl doctor`: is this a place for a log, and how fast will it be?
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Probe the file system and device below a log; say what to change.",
        discussion: """
            ROOT may be a log, with or without a living writer, or a directory that is not there yet: then the nearest
            one that exists is probed. One temporary file is written and removed; the log is not touched. Says which
            durability holds, what an append may be expected to take, and what to change. docs/doctor.md explains each
            line.

            EXAMPLES
              walctl doctor /var/lib/agent/wal
              walctl doctor /mnt/candidate --seconds 30 --size 512
              walctl doctor wal --format json | jq '.conclusions[] | select(.severity != "info")'

            EXIT CODES
              0  fine
              1  warnings or refusals: something should be changed
              2  usage: ROOT is no directory
              3  I/O: no permission, read-only, too little space, a device's error
            """)

    @OptionGroup var root: RootArgument
    @Option(
        help: ArgumentHelp(
            "Size of the probe file in MiB (64 unless told). A tenth of the file system, 256 MiB at most, stays free.",
            valueName: "mib"))
    var size: UInt64 = 64
    @Option(help: "About how long to measure.")
    var seconds: Double = 5
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...65536).contains(size) else { throw ValidationError("--size takes 1 to 65536 (MiB)") }
        guard seconds >= 0.1, seconds <= 3600 else { throw ValidationError("--seconds takes 0.1 to 3600") }
        guard !root.root.isEmpty else { throw ValidationError("give the log's directory") }
    }

    func run() throws {
        let bar = ProgressBar("probing")
        let outcome: Result<(String, DoctorMeasurements), DoctorError>
        do throws(DoctorError) {
            let probe = try DoctorProbe(root: root.root)
            let measurements = try probe.measure(size: size << 20, seconds: seconds) {
                bar.update(UInt64($0 * 1000), of: 1000)
            }
            outcome = .success((probe.directory, measurements))
        } catch { outcome = .failure(error) }
        bar.finish()
        switch outcome {
        case .failure(let error):
            if case .notADirectory = error { throw CommandFailure("\(error)", .usage) }
            throw CommandFailure("\(error)", .io)
        case .success((let directory, var measurements)):
            measurements.log = log
            let diagnosis = DeviceDiagnosis(measurements)
            let view = DoctorView(root: root.root, directory: directory, measurements, diagnosis)
            if output.format == .json { try printJSON(view) } else { view.print() }
            if diagnosis.hasFindings { throw ExitStatus.findings }
        }
    }

    /// The log at the root, if there is one. What cannot be read of it does not matter here.
    private var log: DoctorMeasurements.Log? {
        let storage = DirectStorage(root: FilePath(root.root))
        guard (try? storage.exists("FORMAT")) ?? false else { return nil }
        let bytes = (try? storage.contents(of: "FORMAT", limit: RootFormat.fileLength)) ?? []
        let format = try? bytes.withRawSpan { span in try RootFormat.decode(span) }
        return DoctorMeasurements.Log(
            hasWriter: (try? storage.writer()) ?? .none != .none, blockSize: format?.blockSize)
    }
}
