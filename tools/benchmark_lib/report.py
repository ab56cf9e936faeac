"""Tables: ratios first, absolute figures second. The same rows go to results.md and, in short, to the terminal."""
import os
import sys

from . import device, targets, workloads


def number(value):
    """Three significant digits, with separators where they help."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def with_range(spread, scale=1):
    """`median (minimum to maximum)`; the range only where there is one."""
    if spread is None:
        return "–"
    median, low, high = (number(spread[name] * scale) for name in ("median", "minimum", "maximum"))
    return median if low == high else f"{median} ({low} to {high})"


def table(header, rows):
    """Markdown, padded so that it can be read as it is."""
    widths = [max(len(str(row[column])) for row in [header, *rows]) for column in range(len(header))]
    lines = ["| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |"
             for row in [header, *rows]]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def goal(row):
    if not row["sense"]:
        return "–"
    limit = row["limit"]
    return f"{row['sense']} {limit:,.0f}" if limit >= 100 else f"{row['sense']} {limit:g}"


def verdict(row):
    return {True: "yes", False: "no", None: "–"}[row["isReached"]]


def ratios(judged, drivers):
    header = ["workload", "what", "unit", "must reach", *drivers, *(["reached"] if workloads.OURS in drivers else [])]
    rows = []
    for row in judged:
        cells = [with_range(row["values"].get(driver)) for driver in drivers]
        cells += [verdict(row)] if workloads.OURS in drivers else []
        rows.append([row["workload"], row["what"], row["unit"], goal(row), *cells])
    return table(header, rows)


def against_peers(repetitions, drivers):
    """How many times the best peer's rate ours is, workload by workload."""
    peers = [driver for driver in drivers if driver != workloads.OURS]
    if workloads.OURS not in drivers or not peers:
        return ""
    rows = []

    def rate(measured, key, driver):
        if key == "R1":
            return targets.Repetition(measured, driver).scan_rate("payloadBytes")
        return targets.Repetition(measured, driver).rate(key)

    for key in ("W1", "W2", "W3", "W4", "M1", "R1"):
        medians = {}
        for driver in drivers:
            spread = targets.over_repetitions(repetitions, lambda measured: rate(measured, key, driver))
            if spread:
                medians[driver] = spread["median"]
        rivals = {driver: median for driver, median in medians.items() if driver != workloads.OURS}
        if workloads.OURS in medians and rivals:
            best = max(rivals, key=rivals.get)
            ratio = targets.over_repetitions(
                repetitions, lambda measured: rate(measured, key, workloads.OURS) / rate(measured, key, best))
            rows.append([key, best, with_range(ratio)])
    return table(["workload", "best peer by rate", "telemetry-wal ÷ best peer"], rows) if rows else ""


def device_table(repetitions):
    rows = []
    for job in device.JOBS:
        def spread(value):
            return targets.over_repetitions(repetitions, lambda measured: value(measured["device"][job.key]))
        if spread(lambda result: 1) is None:
            continue
        rows.append([
            job.title,
            *[with_range(spread(lambda result: result["latency"][name] / 1000)) for name in ("p50", "p99", "p999")],
            with_range(spread(lambda result: result["operationsPerSecond"])),
            with_range(spread(lambda result: result["bytesPerSecond"] / (1 << 20))),
        ])
    return table(["fio, O_DIRECT, writes with O_DSYNC", "p50 µs", "p99 µs", "p99.9 µs", "a second", "MiB/s"], rows)


def append_table(repetitions, drivers):
    rows = []
    for workload in workloads.WORKLOADS:
        for driver in drivers:
            def spread(value):
                return targets.over_repetitions(
                    repetitions, lambda measured: value(targets.Repetition(measured, driver)))
            if spread(lambda r: r.rate(workload.key)) is None:
                continue
            rows.append([
                workload.key, driver,
                *[with_range(spread(lambda r: r.latency(workload.key, name) / 1000))
                  for name in ("p50", "p99", "p999", "max")],
                with_range(spread(lambda r: r.rate(workload.key))),
                with_range(spread(lambda r: r.bytes_rate(workload.key) / (1 << 20))),
                with_range(spread(lambda r: r.per_payload(workload.key, "writtenBytes"))),
            ])
    return table(
        ["workload", "driver", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "rec/s", "payload MiB/s",
         "written ÷ payload"], rows)


def scan_table(repetitions, drivers):
    rows = []
    for driver in drivers:
        def spread(value):
            return targets.over_repetitions(repetitions, lambda measured: value(measured["scans"][driver]))
        if spread(lambda scan: scan["seconds"]) is None:
            continue
        rows.append([
            driver, with_range(spread(lambda scan: scan["payloadBytes"] / (1 << 20))),
            with_range(spread(lambda scan: scan["seconds"])),
            with_range(spread(lambda scan: scan["payloadBytes"] / scan["seconds"] / (1 << 20))),
            with_range(spread(lambda scan: scan["diskBytes"] / scan["seconds"] / (1 << 20))),
        ])
    return table(["R1, driver", "payload MiB", "seconds", "payload MiB/s", "disk MiB/s"], rows) if rows else ""


def micro_table(repetitions):
    values = {}
    for measured in repetitions:
        for result in measured.get("micro", {}).get("results", []):
            values.setdefault((result["name"], result["unit"]), []).append(result["value"])
    rows = [[name, with_range(targets.spread(found)), unit] for (name, unit), found in values.items()]
    return table(["micro benchmark", "value", "unit"], rows) if rows else ""


def sweep_table(sweep, lines):
    points = sorted({row["point"] for rows in lines.values() for row in rows})
    scale, unit = (1 / (1 << 20), "payload MiB/s") if sweep.key == "record-size" else (1, "rec/s")
    counter = "payloadBytes" if sweep.key == "record-size" else "records"
    rows = []
    for point in points:
        cells = []
        for found in lines.values():
            row = next((row for row in found if row["point"] == point), None)
            cells.append(number(row[counter] / row["seconds"] * scale) if row else "–")
        rows.append([f"{point:,}", *cells])
    return table([f"{sweep.key.replace('-', ' ')} ({unit})", *lines], rows)


def machine_list(machine):
    disk, file_system = machine["blockDevice"], machine["fileSystem"]
    drivers = ", ".join(f"{name} {version}" for name, version in machine["driverVersions"].items())
    tools = ", ".join(version for version in machine["versions"].values() if version)
    return "\n".join([
        f"- {machine['date']}, commit {machine['commit']}",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memoryGibibytes']} GiB; {machine['kernel']}, "
        f"{machine['distribution']}",
        f"- {file_system['fstype']} ({file_system['options']}) on {file_system['source']}: "
        + ", ".join(f"{name} {value}" for name, value in disk.items() if name != "name"),
        f"- {drivers}", f"- {tools}",
        f"- load average before the start: {machine['loadAverageAtStart']:.1f}",
    ])


# Kernel threads that write pages back are "others" too; they need less than this.
DISTURBED_CORES = 0.3


def measurements(results):
    """Every single measurement of a run."""
    for measured in results["repetitions"]:
        yield from measured["device"].values()
        yield from measured["scans"].values()
        for found in measured["appends"].values():
            yield from found.values()
    for lines in results["sweeps"].values():
        for rows in lines.values():
            yield from rows


def notes(results):
    found = []
    load = results["machine"]["loadAverageAtStart"]
    if load > 0.3 * results["machine"]["cores"]:
        found.append(f"The machine was not idle before the start (load average {load:.1f}).")
    everything = list(measurements(results))
    disturbed = sum(one["otherCores"] > DISTURBED_CORES for one in everything)
    if disturbed:
        found.append(
            f"{disturbed} of {len(everything)} measurements were disturbed by other programs (more than "
            f"{DISTURBED_CORES} cores busy): do not trust these figures.")
    if any(not one.get("isCold", True) for one in everything):
        found.append("R1 was not cold: only root can drop the page cache.")
    ours = workloads.OURS in results["settings"]["drivers"]
    lost = [f"{row['workload']} {row['what']}" for row in results["targets"]
            if ours and not row["values"].get(workloads.OURS)]
    if lost:
        found.append(f"Not measured for {workloads.OURS}: {'; '.join(lost)}.")
    return found + [f"Failed: {failure}" for failure in results["failures"]]


def how_often(repetitions):
    if repetitions == 1:
        return "One repetition"
    return f"Medians of {repetitions} interleaved repetitions (lowest to highest)"


def markdown(results):
    repetitions, drivers, settings = results["repetitions"], results["settings"]["drivers"], results["settings"]
    parts = [
        "# Benchmark results",
        f"{how_often(settings['repetitions'])}, {settings['seconds']:g} s a measurement; {workloads.RECORD_SIZE} B "
        "records; every append durable. Ratios are computed within a repetition. "
        "Ideal: 64 records a commit of 32 KiB, one commit after the other at fio's rate.",
        "\n".join(f"- {note}" for note in notes(results)),
        "## Ratios", ratios(results["targets"], drivers), against_peers(repetitions, drivers),
        "## The device", device_table(repetitions) if any(m["device"] for m in repetitions) else "",
        "## Appends", append_table(repetitions, drivers),
        "## Reading", scan_table(repetitions, drivers),
        "## Parts", micro_table(repetitions),
        *[part for sweep in workloads.SWEEPS if sweep.key in results["sweeps"]
          for part in (f"## {sweep.title}", sweep_table(sweep, results["sweeps"][sweep.key]),
                       f"![{sweep.title}]({sweep.key}.svg)")],
        "## Latency of W1\n\n![Latency of W1](latency-w1.svg)" if results["hasLatencyPlot"] else "",
        "## Machine", machine_list(results["machine"]),
        "## Commands", f"```sh\n{results['command']}\n```", "Each measurement's own command is in results.json.",
    ]
    # A heading with nothing below it says nothing.
    kept = []
    for index, part in enumerate(parts):
        following = parts[index + 1] if index + 1 < len(parts) else ""
        if part and not (part.startswith("## ") and "\n" not in part and not following):
            kept.append(part)
    return "\n\n".join(kept) + "\n"


def print_summary(results):
    """The ratios of ours, or of the peers where ours was not run, for the terminal."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = ratios(results["targets"], results["settings"]["drivers"])
    if coloured:
        text = text.replace("| yes ", "| \x1b[32myes\x1b[0m ").replace("| no ", "| \x1b[31mno\x1b[0m ")
    print(text)
    for note in notes(results):
        print(note)
