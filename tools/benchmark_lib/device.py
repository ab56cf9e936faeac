"""The device's own limits, measured by fio beside the drivers: same file system, O_DIRECT, written extents."""
import json
import os
import pathlib
from dataclasses import dataclass

from . import processes

# Long enough that a measurement of 1 MiB writes does not go round often.
FILE_SIZE = 1 << 30


@dataclass(frozen=True)
class Job:
    key: str
    title: str
    direction: str
    block: str
    depth: int
    families: tuple
    # Runs on the processor that lone writers run on.
    is_pinned: bool = False
    # A smoke run leaves out what no ratio needs.
    is_quick: bool = True


JOBS = (
    Job("4k", "write 4 KiB, one in flight", "write", "4k", 1, ("W1", "W1a"), is_pinned=True),
    Job("32k", "write 32 KiB, one in flight", "write", "32k", 1, ("W2", "W2b")),
    Job("32k-pinned", "write 32 KiB, one in flight, pinned", "write", "32k", 1, ("W3",), is_pinned=True),
    Job("36k", "write 36 KiB, one in flight", "write", "36k", 1, ("W3",), is_pinned=True, is_quick=False),
    Job("32k-2", "write 32 KiB, 2 in flight", "write", "32k", 2, ("W2", "W2b", "W3"), is_quick=False),
    Job("32k-4", "write 32 KiB, 4 in flight", "write", "32k", 4, ("W2", "W2b", "W3"), is_quick=False),
    Job("1m", "write 1 MiB, one in flight", "write", "1m", 1, ("W4",)),
    Job("read-1m", "read 1 MiB, one in flight", "read", "1m", 1, ("R1",)),
    Job("read-1m-4", "read 1 MiB, 4 in flight", "read", "1m", 4, ("R1",)),
)


def prefill(file):
    """Writes the file once: the first write to an extent costs more than all later ones."""
    return processes.run(
        ["fio", "--name=prefill", f"--filename={file}", f"--size={FILE_SIZE}", "--rw=write", "--bs=1m", "--direct=1",
         "--ioengine=psync", "--end_fsync=1", "--thread"], timeout=300)


def command(job, file, seconds, ramp):
    """The fio command of a job. `--sync=dsync` makes a write return when it is durable."""
    # One in flight needs no queue: a plain system call is the faster way, and what a lone appender does.
    engine = "psync" if job.depth == 1 else "io_uring"
    durable = ["--sync=dsync", "--overwrite=1"] if job.direction == "write" else []
    return [
        "fio", f"--name={job.key}", f"--filename={file}", f"--size={FILE_SIZE}", f"--rw={job.direction}",
        f"--bs={job.block}", f"--ioengine={engine}", f"--iodepth={job.depth}", "--direct=1", *durable, "--thread",
        "--time_based", f"--runtime={int(seconds * 1000)}ms", f"--ramp_time={int(ramp * 1000)}ms",
        "--output-format=json+",
    ]


def nearest_processor(file):
    """The processor on which a lone writer waits shortest for the device."""
    found = {}
    for processor in sorted(os.sched_getaffinity(0)):
        found[processor] = measure(JOBS[0], file, 0.7, 0.2, processor)["latency"]["p50"]
    return min(found, key=found.get)


def measure(job, file, seconds, ramp, processor=None):
    words = processes.pinned(command(job, pathlib.Path(file), seconds, ramp), processor if job.is_pinned else None)
    output, other_cores = processes.run(words, timeout=seconds + 60)
    # fio prints its warnings before the JSON.
    part = json.loads(output[output.index("{"):])["jobs"][0][job.direction]
    latency = part["clat_ns"]
    percentile = latency["percentile"]
    return {
        "job": job.key, "operationsPerSecond": part["iops"], "bytesPerSecond": part["bw_bytes"],
        "latency": {
            "p50": percentile["50.000000"], "p90": percentile["90.000000"], "p99": percentile["99.000000"],
            "p999": percentile["99.900000"], "max": latency["max"],
        },
        "histogram": sorted([int(bound), count] for bound, count in latency["bins"].items()),
        "otherCores": other_cores, "command": " ".join(words),
    }
