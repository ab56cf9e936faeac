import SystemPackage

extension DiagnosisRules {
    /// From here on a flush is slower than those of any SSD with capacitors, nanoseconds.
    private static var slowFlush: UInt64 { 2_000_000 }
    /// From here on the slowest appends are felt by a service that waits for them, nanoseconds.
    private static var slowTail: UInt64 { 20_000_000 }
    /// Open files of a journal at its limit, of exporters, and some to spare.
    private static var neededOpenFiles: UInt64 { 512 }

    mutating func judgeLatencies() {
        guard let recycled = measurements[.recycled] else {
            conclude(.notMeasured, .info, "nothing was measured: the speed of memory says nothing about a log")
            return
        }
        let p50 = readableTime(nanoseconds: recycled.p50)
        let p99 = readableTime(nanoseconds: recycled.p99)
        conclude(
            .expectation, .info,
            "expect an append to take \(p50) (p50) and \(p99) (p99), and \(Int(recycled.rate)) commits a second one at "
                + "a time; appends that wait together share a commit")
        if let cost = measurements.flushCost, max(cost, measurements[.flush]?.p50 ?? 0) > Self.slowFlush {
            let slower = max(cost, measurements[.flush]?.p50 ?? 0)
            conclude(
                .slowFlush, .warning,
                "a flush takes \(readableTime(nanoseconds: slower)): each append waits for one",
                advice: "use a device with power-loss protection (enterprise SSD); or batch appends, so that many "
                    + "share a flush")
        }
        if recycled.p99 > Self.slowTail, recycled.p99 > 5 * recycled.p50 {
            conclude(
                .slowTail, .warning,
                "one in a hundred appends takes \(p99) or more, and the median \(p50): the device is shared, "
                    + "throttled, or busy with itself",
                advice: "look for other load (iostat -x 1) and for the limits of a cloud volume; give the log a device "
                    + "of its own")
        }
        judgePreallocation(recycled)
        if measurements.log?.hasWriter == true {
            conclude(
                .livingWriter, .info,
                "the log has a living writer: its load is in the figures, and the probe's load was in its appends",
                advice: "for the device's own figures, run doctor while the writer is idle")
        }
    }

    private mutating func judgePreallocation(_ recycled: LatencySummary) {
        guard let unwritten = measurements[.unwritten], recycled.p50 > 0 else { return }
        let hundredths = unwritten.p50 * 100 / recycled.p50
        let times = "\(hundredths / 100).\(hundredths % 100 / 10)\(hundredths % 10)"
        let figures =
            "\(readableTime(nanoseconds: unwritten.p50)) into unwritten extents, "
            + "\(readableTime(nanoseconds: recycled.p50)) into recycled ones"
        if hundredths >= 105 {
            conclude(
                .preallocation, .info,
                "the journal's zeroed and recycled files pay: an append takes \(figures), \(times) times as long "
                    + "without them")
        } else {
            conclude(.preallocation, .info, "zeroed and recycled files make no difference here: \(figures)")
        }
    }

    mutating func judgeMachine() {
        let ring = measurements.ring
        if let reason = ring.reason {
            conclude(
                .noRing, .info, "io_uring is not available (\(reason)); the log writes by plain system calls",
                advice: Self.ringAdvice(ring))
        } else if ring.buffersError != nil || ring.filesError != nil {
            let causes = [
                ring.buffersError.map { "buffers: \($0)" }, ring.filesError.map { "files: \($0)" },
            ]
            conclude(
                .ringWithoutRegistration, .info,
                "io_uring is there, but registering fails (\(causes.compactMap { $0 }.joined(separator: "; "))); each "
                    + "write costs a little more",
                advice: ring.buffersError == .noMemory ? "raise the limit on locked memory (ulimit -l)" : nil)
        }
        let machine = measurements.machine
        if let clock = machine.clockSource, ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"].contains(clock) {
            conclude(
                .slowClock, .warning,
                "the clock source is \(clock): each reading of the time, several an append, costs a microsecond or "
                    + "more",
                advice: "find out why the kernel gave up tsc (dmesg | grep -i tsc); on a virtual machine use kvm-clock")
        }
        if let limit = machine.openFilesLimit, limit < Self.neededOpenFiles {
            conclude(
                .fewOpenFiles, .warning,
                "the process may open \(limit) files; a journal at its default limit has 128, and exporters need more",
                advice: "ulimit -n 4096, or LimitNOFILE= in the service's unit")
        }
    }

    private static func ringAdvice(_ ring: RingReport) -> String? {
        switch ring.setupError {
        case .notPermitted? where (ring.disabledSetting ?? 0) > 0: "sysctl kernel.io_uring_disabled=0, if policy allows"
        case .notPermitted? where ring.isFiltered, .noFunction? where ring.isFiltered:
            "allow io_uring in the container's seccomp profile"
        case .noFunction?: "a kernel from 5.6 on"
        case .noMemory?: "raise the limit on locked memory (ulimit -l)"
        default: nil
        }
    }
}
