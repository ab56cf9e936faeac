#!/usr/bin/env python3
"""Measures telemetry-wal beside the device and its peers. Called by tools/benchmark, which installs and builds."""
import datetime
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

from benchmark_lib import arguments, corpus, drivers, machine, processes, report, targets, workloads
from benchmark_lib.runner import Runner

# The logs of five drivers for R1, the file of fio, and one log of bulk appends that is being measured.
FREE_BYTES_NEEDED = 16 << 30


def complain(message):
    print(f"benchmark: {message}", file=sys.stderr)


def unusable(directory):
    """Why nothing can be measured in this directory, or nothing."""
    if not directory.is_dir():
        return f"{directory} is not a directory"
    kind = machine.mount(directory)["fstype"]
    if kind in machine.MEMORY_FILE_SYSTEMS:
        return f"{directory} is on {kind}, which is memory and not a device; choose another with --directory"
    if shutil.disk_usage(directory).free < FREE_BYTES_NEEDED:
        return f"{directory} has less than {FREE_BYTES_NEEDED >> 30} GiB free; choose another with --directory"
    return None


def measure(settings, folder):
    drivers_at_work = drivers.Drivers(
        settings.build_folder.resolve(), settings.walbench, folder,
        corpus.prepare(settings.build_folder.resolve()), settings.io)
    description = machine.describe(folder)
    runner = Runner(settings, drivers_at_work, folder, processes.Progress)
    runner.run()
    description["driverVersions"] = versions(runner)
    return {
        "machine": description,
        "command": shlex.join(["tools/benchmark", *shown_arguments()]),
        "settings": {
            "seconds": settings.seconds, "repetitions": settings.repetitions, "families": settings.families,
            "drivers": settings.drivers, "sweepSeconds": settings.sweep_seconds, "io": settings.io,
        },
        "targets": targets.judge(runner.repetitions, settings.drivers, runner.expected),
        "repetitions": runner.repetitions,
        "sweeps": runner.sweeps,
        "failures": runner.failures,
    }


def versions(runner):
    found = {}
    for measured in runner.repetitions:
        for results in [*measured["appends"].values(), measured["scans"]]:
            for driver, result in results.items():
                found[driver] = str(result.get("version", ""))
    return found


def shown_arguments():
    """What the user gave, without what tools/benchmark added in front of it."""
    words = sys.argv[1:]
    return words[words.index("--") + 1:] if "--" in words else words


def write_results(results, output):
    # Here and not above: --help and the choice of drivers must work before matplotlib is installed.
    from benchmark_lib import plots

    output.mkdir(parents=True, exist_ok=True)
    results["hasLatencyPlot"] = plots.draw(results, output)
    (output / "results.json").write_text(json.dumps(results, indent=1))
    (output / "results.md").write_text(report.markdown(results))


def main():
    settings = arguments.parse([word for word in sys.argv[1:] if word != "--"])
    if settings.print_drivers:
        print(" ".join(settings.drivers))
        return 0
    reason = unusable(settings.directory)
    if reason:
        complain(reason)
        return 3
    processes.stop_on_signals()
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    output = settings.output or settings.build_folder / f"results-{stamp}"
    with processes.workspace(settings.directory) as folder:
        results = measure(settings, folder)
    write_results(results, output)
    report.print_summary(results)
    print(f"results: {output}/results.md, results.json and plots")
    if results["failures"]:
        return 3
    missed = [row for row in results["targets"] if row["isReached"] is False]
    return 1 if settings.check and missed else 0


try:
    sys.exit(main())
except KeyboardInterrupt:
    complain("stopped; nothing is left behind")
    sys.exit(130)
except processes.ProgramFailed as failure:
    complain(failure)
    sys.exit(3)
except (OSError, subprocess.CalledProcessError) as failure:
    complain(f"{failure}")
    sys.exit(3)
