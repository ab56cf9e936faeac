import CWALLinux
import SystemPackage

/// What of the machine and the process's limits matters for a log. Nil where `/proc` and `/sys` do not say.
package struct MachineReport: Hashable, Sendable {
    /// As `6.18.44`.
    package var kernel: String?
    /// Cores that this process may run on.
    package var cores: Int?
    package var clockSource: String?
    /// RLIMIT_NOFILE's soft value; `.max` for unlimited.
    package var openFilesLimit: UInt64?
    /// RLIMIT_MEMLOCK's soft value, bytes, which older kernels hold registered buffers to; `.max` for unlimited.
    package var lockedMemoryLimit: UInt64?

    package init() {}

    static func examine() -> MachineReport {
        var report = MachineReport()
        report.kernel = SystemText.line("/proc/sys/kernel/osrelease")
        let status = SystemText.contents("/proc/self/status") ?? ""
        report.cores = field("Cpus_allowed_list", of: status).flatMap(count(ofList:))
        report.clockSource = SystemText.line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        let limits = SystemText.contents("/proc/self/limits") ?? ""
        report.openFilesLimit = limit("Max open files", of: limits)
        report.lockedMemoryLimit = limit("Max locked memory", of: limits)
        return report
    }

    /// A field of `/proc/self/status`.
    static func field(_ name: String, of text: String) -> String? {
        let line = text.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        return line?.dropFirst(name.count + 1).split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    /// How many numbers `0-3,8` lists.
    static func count(ofList list: String) -> Int? {
        var count = 0
        for range in list.split(separator: ",") {
            let ends = range.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, last >= first else { return nil }
            count += last - first + 1
        }
        return count == 0 ? nil : count
    }

    /// The soft limit on a line of `/proc/self/limits`.
    static func limit(_ name: String, of text: String) -> UInt64? {
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
        guard let word = line?.dropFirst(name.count).split(whereSeparator: \.isWhitespace).first else { return nil }
        return word == "unlimited" ? .max : UInt64(word)
    }
}

/// Whether io_uring may be used by this process.
package struct RingReport: Hashable, Sendable {
    /// Why no ring can be made; nil if one can.
    package var setupError: Errno?
    /// Why no buffer, or no file, can be registered; nil if that works or was not tried.
    package var buffersError: Errno?
    package var filesError: Errno?
    /// Whether the kernel knows the operations that a log needs.
    package var supportsWrites = false
    package var hasDeferredTaskRunning = false
    /// The sysctl kernel.io_uring_disabled: 0 for all, 1 for the privileged, 2 for nobody; nil before Linux 6.6.
    package var disabledSetting: Int?
    /// Whether a seccomp filter, as container runtimes set one, watches this process's system calls.
    package var isFiltered = false

    package init() {}

    package var isAvailable: Bool { setupError == nil && supportsWrites }

    static func examine() -> RingReport {
        var probe = cwal_ring_probe()
        unsafe cwal_probe_ring(&probe)
        var report = RingReport()
        func cause(_ error: CInt) -> Errno? { error == 0 ? nil : Errno(rawValue: error) }
        report.setupError = cause(probe.setup_error)
        report.buffersError = cause(probe.buffers_error)
        report.filesError = cause(probe.files_error)
        report.supportsWrites = probe.writes_supported
        report.hasDeferredTaskRunning = probe.deferred_task_running
        report.disabledSetting = SystemText.number("/proc/sys/kernel/io_uring_disabled")
        let status = SystemText.contents("/proc/self/status") ?? ""
        report.isFiltered = MachineReport.field("Seccomp", of: status) == "2"
        return report
    }

    /// Why there is no ring, for people; nil if there is one.
    package var reason: String? {
        switch setupError {
        case nil: supportsWrites ? nil : "the kernel lacks the operations that a log needs"
        case .noFunction?:
            isFiltered
                ? "ENOSYS: the kernel is older than 5.1 or built without it, or a seccomp filter hides it"
                : "ENOSYS: the kernel is older than 5.1 or built without it"
        case .notPermitted? where disabledSetting == 2: "EPERM: the sysctl kernel.io_uring_disabled is 2"
        case .notPermitted? where disabledSetting == 1:
            "EPERM: the sysctl kernel.io_uring_disabled is 1, and this process has neither CAP_SYS_ADMIN nor the group "
                + "of kernel.io_uring_group"
        case .notPermitted?:
            isFiltered
                ? "EPERM: a seccomp filter (container runtime) forbids it" : "EPERM: a security module forbids it"
        case let error?: "\(error)"
        }
    }
}
