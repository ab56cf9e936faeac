import ArgumentParser
import Foundation
import TelemetryWAL
import WALStorage

/// The log's directory: the first argument of every command.
struct RootArgument: ParsableArguments {
    @Argument(help: ArgumentHelp("The log's directory.", valueName: "root"))
    var root: String
}

/// Options of the commands that write.
struct WriterOptions: ParsableArguments {
    @Option(help: "Size of each journal file in MiB (64 unless told).")
    var journalFileMib: UInt64 = 64

    @Option(help: "Most bytes that the journal may take, in MiB (8192 unless told).")
    var journalLimitMib: UInt64 = 8192

    @Option(
        help: "MiB of undelivered journal files beyond which the oldest move into tenant segments (1024 unless told).")
    var compactionThresholdMib: UInt64 = 1024

    @Option(help: "Most bytes that tenant segments may take, in MiB (65536 unless told); 0: make none.")
    var segmentLimitMib: UInt64 = 65536

    @Option(help: "MiB of free space that the file system is left with.")
    var freeSpaceFloorMib: UInt64 = 0

    @OptionGroup var retention: RetentionOptions
    @OptionGroup var keys: KeyOptions

    @Flag(help: "Go on without direct I/O where the file system has none.")
    var directIoPreferred = false

    func options() throws(CommandFailure) -> WriteAheadLogOptions {
        var options = WriteAheadLogOptions()
        options.keyProvider = try keys.provider()
        options.retention = try retention.standard()
        options.tenantRetention = try retention.own()
        options.freeSpaceFloor = freeSpaceFloorMib.multipliedReportingOverflow(by: 1 << 20).partialValue
        options.journalFileSize = journalFileMib.multipliedReportingOverflow(by: 1 << 20).partialValue
        options.journalLimit = journalLimitMib.multipliedReportingOverflow(by: 1 << 20).partialValue
        options.compactionThreshold = compactionThresholdMib.multipliedReportingOverflow(by: 1 << 20).partialValue
        options.segmentLimit = segmentLimitMib.multipliedReportingOverflow(by: 1 << 20).partialValue
        options.directIO = directIoPreferred ? .preferred : .required
        return options
    }

    /// Opens the log to deliver what it holds: what is about to go is not moved into segments before.
    func openToDeliver(_ root: String) throws(CommandFailure) -> WriteAheadLog {
        try open(root) { $0.compactionThreshold = max($0.compactionThreshold, $0.journalLimit / 2) }
    }

    /// Opens the log for writing and says on standard error what recovery found, where it found anything.
    func open(
        _ root: String, _ change: (inout WriteAheadLogOptions) -> Void = { _ in }
    ) throws(CommandFailure) -> WriteAheadLog {
        let bar = ProgressBar("recovering")
        var options = try self.options()
        change(&options)
        let prepared = options
        let log = try failing { () throws(WALError) in
            try WriteAheadLog.openBlocking(at: root, options: prepared) { bar.update($0, of: $1) }
        }
        bar.finish()
        for report in [log.recoveryReport] + log.dedicatedReports.map(\.report) where report.tornTailBytes > 0 {
            Terminal.write(
                "walctl: recovered after a crash: \(report.records) records, an unfinished commit of "
                    + "\(report.tornTailBytes) bytes dropped (it was never acknowledged)\n")
        }
        if log.recoveryReport.hasLoss || log.dedicatedReports.contains(where: \.report.hasLoss) {
            Terminal.complain("the log is damaged; run: walctl verify \(root)")
        }
        for residence in log.residences() {
            if let fault = residence.fault { Terminal.complain(fault) }
        }
        return log
    }
}
