"""A disk that is full at every point of a compaction, of which the course in `injections` is too short to have any."""

import concurrent.futures
import json
import os
import random
import shutil
import signal
import subprocess

from . import disks
from .command_log import CommandLog
from .injections import calls, strace
from .writer import ENVIRONMENT, Problem, Totals, tells_full


def no_space_at_every_call(place):
    """`walctl compact` with ENOSPC from every single call that can find a disk full, from the first directory of a
    segment on, or from that call and all later ones like it, as chance has it; the long form: both. A tenant's first
    segment, and one with which others are merged. Nothing is lost, and when there is room the rest is moved."""
    disks.need("strace")
    totals = Totals()
    origin = CommandLog(place, place.path("wal-origin"), ("merged", "new"))
    origin.many_segments(("merged",))
    origin.append()
    found, made = calls(
        place, counted := origin.copy(place.path("wal-counted")), lambda prefix: compact(place, counted, prefix),
        since="/tenants/")
    points = [(f"{call}:error=ENOSPC:when={when}{and_later}", made if call == "openat" else [])
              for call, when in found for and_later in random.sample(("", "+"), place.rounds)]
    # Each waits for the disk a part of the time.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for part in pool.map(lambda point: inject(place, origin, *point), points):
            totals.add(part)
    return totals


def inject(place, origin, injection, names):
    """A compaction with one injection, of a copy of a log; then one without."""
    totals = Totals()
    log, trace = origin.copy(place.path(f"wal-{injection}")), place.path(f"trace-{injection}")
    confined = [word for name in names for word in ("-P", log.root + name)]
    prefix = strace(injection.split(":")[0], "-e", f"inject={injection}", *confined)
    prefix[prefix.index("/dev/null")] = trace
    status, error = compact(place, log, prefix)
    with open(trace, encoding="utf-8", errors="replace") as text:
        totals.faults += "(INJECTED)" in text.read()
    # 1: some files were not compacted or segments not merged, which is told and tried again later.
    if status not in (0, 1) and (status != 3 or not tells_full(error)):
        raise Problem(f"{injection}: status {status}, {error.strip()[-300:]}")
    log.check(totals)
    segments = json.loads(log.run("compact", "--format", "json"))["segments"]
    if segments != 2:
        raise Problem(f"{injection}: {segments} segments of two tenants, when there is room again")
    log.check(totals)
    shutil.rmtree(log.root)
    return totals


def compact(place, log, prefix):
    # A tracer's death alone lets what it traces go on: both go.
    process = subprocess.Popen(
        [*prefix, os.path.join(place.products, "walctl"), *log.arguments(["compact"])], text=True, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, error = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Problem("walctl compact did not end within 120 s") from None
    return process.returncode, error
