import WALStorage

/// `doctor`'s answer for people: the verdict, what was found, what was measured, what it means.
extension DoctorView {
    func print() {
        Swift.print("\(root): \(verdict)")
        if probedDirectory != root { Swift.print("probed in \(probedDirectory)") }
        Swift.print()
        var facts = Table(headers: ["what", "is"])
        facts.rows = fileSystem.rows + (device?.rows ?? [["device", "unknown"]]) + machine.rows
        facts.print()
        // Each table ends in an empty line.
        if !latencies.isEmpty {
            var table = Table(
                headers: ["operation", "count", "p50 µs", "p99 µs", "p99.9 µs", "a second", "speed"],
                numeric: Set(1..<7))
            table.rows = latencies.map(\.row)
            table.print()
            if let flushCostMicroseconds {
                Swift.print("of a durable write over recycled extents, the flush is \(whole(flushCostMicroseconds)) µs")
                Swift.print()
            }
        }
        for conclusion in conclusions {
            let mark =
                conclusion.severity == "info"
                ? conclusion.severity : Terminal.coloured(conclusion.severity, good: false)
            Swift.print("\(mark): \(conclusion.what): \(conclusion.why)")
            if let advice = conclusion.advice { Swift.print("    change: \(advice)") }
        }
    }

    private var verdict: String {
        let refused = conclusions.contains { $0.severity == "refusal" }
        let warned = conclusions.contains { $0.severity == "warning" }
        let word = refused ? "no place for a log" : warned ? "works, with warnings" : "fine"
        let durable =
            switch durability {
            case "powerLoss": "what is acknowledged survives a power loss"
            case "processCrash": "what is acknowledged survives the end of the process, not a power loss"
            default: "whether what is acknowledged survives a power loss cannot be seen from here"
            }
        let speed = expected.map {
            "; expect \(whole($0.p50Microseconds)) µs an append (p99 \(whole($0.p99Microseconds)) µs), "
                + "\(whole($0.commitsPerSecond)) commits a second"
        }
        return Terminal.coloured(word, good: !refused && !warned) + "; " + durable + (speed ?? "")
    }
}

private func whole(_ number: Double) -> String { "\(Int(number.rounded()))" }

private func yesOrNo(_ flag: Bool?) -> String { flag.map { $0 ? "yes" : "no" } ?? "unknown" }

/// What is known of a row, with commas; nil where nothing is.
private func joined(_ parts: String?...) -> String { parts.compactMap { $0 }.joined(separator: ", ") }

extension FileSystemView {
    fileprivate var rows: [[String]] {
        let alignment = memoryAlignment.flatMap { memory in
            offsetAlignment.map { "memory \(memory) B, offset \($0) B" }
        }
        let access = joined(yesOrNo(hasDirectIO), hasDirectIO == false ? nil : alignment ?? "alignment unknown")
        let below = (upper ?? []).map { ["below it", joined($0.type, $0.source, $0.mountPoint)] }
        return [
            ["file system", joined(type, source.map { "\($0) on \(mountPoint ?? "?")" })],
            ["mount options", options.isEmpty ? "unknown" : options.joined(separator: ",")],
            ["space", "\(readable(bytes: availableBytes)) free of \(readable(bytes: totalBytes))"],
            ["direct I/O", access],
        ] + below
    }
}

extension BlockDeviceView {
    fileprivate var rows: [[String]] { rows(title: "device") }

    private func rows(title: String) -> [[String]] {
        let size = logicalBlockSize.map { "blocks \($0) B (physical \(physicalBlockSize ?? $0) B)" }
        let rotates = isRotational.map { $0 ? "rotates" : "does not rotate" }
        return [
            [
                title,
                joined(
                    "\(name) (\(number))", kind == "disk" ? nil : joined(kind, detail),
                    isDirect.map { $0 ? "direct" : "through the page cache" },
                    partitionOf.map { "partition of \($0)" }, model, driver,
                    // Only real disks know whether they rotate.
                    isVirtual ? "virtual" : kind == "disk" ? rotates : nil),
            ],
            [
                "  its queue",
                joined(
                    "write cache: \(writeCache ?? "unknown")", "FUA: \(yesOrNo(hasForceUnitAccess))", size,
                    scheduler.map { "scheduler \($0)" }),
            ],
        ] + underlying.flatMap { $0.rows(title: "made of") }
    }
}

extension MachineView {
    fileprivate var rows: [[String]] {
        let ring = ioUring
        let missing = [
            ring.registersBuffers ? nil : "no registered buffers", ring.registersFiles ? nil : "no registered files",
        ]
        let registered = missing.allSatisfy { $0 == nil } ? "registered buffers and files" : nil
        let rings =
            ring.isAvailable ? joined("yes", registered, missing[0], missing[1]) : "no: \(ring.reason ?? "")"
        return [
            ["io_uring", rings],
            [
                "machine",
                joined(
                    kernel.map { "Linux \($0)" }, cores.map { $0 == 1 ? "1 core" : "\($0) cores" },
                    clockSource.map { "clock \($0)" }, openFilesLimit.map { "\($0) open files" },
                    lockedMemoryLimitBytes.map { "\(readable(bytes: $0)) of locked memory" }),
            ],
        ]
    }
}

extension LatencyView {
    fileprivate var row: [String] {
        let size = readable(bytes: UInt64(bytes))
        let title =
            switch ProbedOperation(rawValue: operation) {
            case .unwritten?: "durable write, \(size), unwritten extents"
            case .written?: "durable write, \(size), first overwrite"
            case .recycled?: "durable write, \(size), recycled"
            case .recycledLarge?: "durable write, \(size), recycled"
            case .plain?: "plain write, \(size)"
            case .idleFlush?: "flush, nothing written"
            case .flush?: "flush, after a plain write"
            case .sequentialWrite?: "durable write, \(size), in sequence"
            case .sequentialRead?: "read, \(size), in sequence"
            case nil: operation
            }
        return [
            title, "\(count)", whole(p50Microseconds), whole(p99Microseconds), whole(p999Microseconds),
            whole(operationsPerSecond), bytesPerSecond.map { readable(bytes: UInt64($0)) + "/s" } ?? "-",
        ]
    }
}
