"""System calls that fail: injected into the writer, or for want of descriptors."""

import collections
import concurrent.futures
import os
import re
import shutil

from . import disks
from .writer import Problem, Totals, kill, tells_full, wait


def few_descriptors(place):
    """Too few file descriptors, at every count from 3 on: a clear error or a working log, and nothing is lost."""
    totals = Totals()
    disks.need("prlimit")
    log = place.log(place.path("wal"))
    log.run(200, kill)
    for count in range(3, 24):
        opened, status, error = log.run(50, kill, prefix=["prlimit", f"--nofile={count}:{count}"])
        totals.faults += 1
        # Below some number not even the program starts: the loader needs them, too.
        if not opened and status == 3 and "too many open files" not in error.lower():
            raise Problem(f"{count} descriptors: status {status}, {error}")
        log.check(totals)
    return totals


def system_call_errors(place):
    """strace puts errors, short writes and kills into the writer's system calls, on the plain path."""
    disks.need("strace")
    totals = Totals()
    log = place.log(place.path("wal"), "plain")
    log.run(100, kill)
    injections = []
    for when in (1, 2, 3, 5, 8, 13, 21):
        injections += [
            f"pwritev2:error=EIO:when={when}", f"pwritev2:error=ENOSPC:when={when}+3",
            f"pwritev2:signal=KILL:when={when}", f"fdatasync:error=EIO:when={when}", f"fsync:error=EIO:when={when}",
            f"fsync:signal=KILL:when={when}", f"rename:signal=KILL:when={when}", f"pread64:error=EIO:when={when}",
            f"pwrite64:error=EIO:when={when}", f"pwritev2:delay_enter=200000:when={when}",
        ]
    for injection in injections[: max(10, place.rounds * 7)]:
        call = injection.split(":")[0]
        log.run(
            60, kill, prefix=["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                              f"inject={injection}"])
        totals.faults += 1
        log.check(totals)
    # The names on the way to the log are synced at each opening: a device that fails at it is told, not passed over.
    parent = os.path.dirname(log.root)
    opened, status, error = log.run(
        0, wait, prefix=["strace", "-f", "-qq", "-o", "/dev/null", "-P", parent, "-e", "inject=fsync:error=EIO"])
    totals.faults += 1
    if opened or status != 3 or parent not in error:
        raise Problem(f"a directory above the log that cannot be synced is passed over: status {status}, {error}")
    log.check(totals)
    return totals


def library_errors(place):
    """libfiu makes calls of the C library fail at random, on the plain path."""
    disks.need("fiu-run")
    totals = Totals()
    log = place.log(place.path("wal"), "plain")
    log.run(100, kill)
    points = [
        ("posix/io/rw/pwrite", 28), ("posix/io/rw/pread", 5), ("posix/io/sync/fdatasync", 5),
        ("posix/io/sync/fsync", 5), ("posix/io/oc/open", 24), ("posix/io/dir/rename", 5),
    ]
    for _ in range(max(1, place.rounds // 4)):
        for point, error in points:
            spell = f"enable_random name={point},probability=0.05,failinfo={error}"
            log.run(100, kill, prefix=["fiu-run", "-x", "-c", spell])
            totals.faults += 1
            log.check(totals)
    return totals


# The calls that can find a disk full.
SPACE_CALLS = ("openat", "mkdir", "fallocate", "pwrite64", "pwritev2", "rename", "fsync", "fdatasync")
COURSE = ["--file-kib", "256", "--rounds", "5"]


def no_space_at_every_call(place):
    """A log's whole course on the plain path, with ENOSPC from every single call that can find a disk full, and from
    that call and all later ones like it: of a new log, and of one that is opened again."""
    disks.need("strace")
    totals = Totals()
    old = place.log(place.path("wal-old"), "plain")
    old.course(*COURSE)
    points = []
    for origin in (None, old):
        found, made = calls_of_course(place, origin)
        points += [
            (origin, f"{call}:error=ENOSPC:when={when}{and_later}", made if call == "openat" else [])
            for call, when in found for and_later in ("", "+")
        ]
    # Each waits for the disk most of the time.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for part in pool.map(lambda point: inject_no_space(place, *point), points):
            totals.add(part)
    return totals


def inject_no_space(place, origin, injection, names):
    """One course with one injection, on a new log or a copy of `origin`; then the log is read and goes on. `names`:
    the log's files that it is confined to, if any."""
    totals = Totals()
    log = place.log(place.path(f"wal-{'old' if origin else 'new'}-{injection}"), "plain")
    if origin:
        log.copy(origin)
    confined = [word for name in names for word in ("-P", log.root + name)]
    prefix = strace(injection.split(":")[0], "-e", f"inject={injection}", *confined)
    lines, status, error = log.course(*COURSE, prefix=prefix)
    totals.faults += 1
    # A program that cannot be loaded is no fault of the log's.
    if "error while loading shared libraries" not in error:
        if status != 0 and (status != 3 or not tells_full(error)):
            raise Problem(f"{injection}: status {status}, {error}")
        if origin or any(line.startswith("a ") for line in lines):
            log.check(totals)
            _, status, error = log.drain(*COURSE[:2])
            if status != 0:
                raise Problem(f"{injection}: the log does not go on: status {status}, {error}")
            log.check(totals)
    shutil.rmtree(log.root, ignore_errors=True)
    return totals


def strace(call, *options):
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}", *options]


def calls_of_course(place, origin):
    """`calls` of a course, on a new log or a copy of `origin`."""
    log = place.log(place.path("wal-counted"), "plain")
    if origin:
        log.copy(origin)

    def run(prefix):
        _, status, error = log.course(*COURSE, prefix=prefix)
        return status, error

    return calls(place, log, run)


def calls(place, log, run, since=""):
    """Each call of what `run(prefix)` does to a log that can find a disk full, with its number among those of its name
    in its thread, which is what an injection counts; and the names below the root of the files that it makes, to which
    `openat` is confined: the threads of Swift's libraries open files of their own, and some trap when they cannot.
    `since`: only from the first that makes something below such a name on. Removes the log."""
    trace = place.path("trace")
    command = strace(",".join(SPACE_CALLS))
    command[command.index("/dev/null")] = trace
    status, error = run(command)
    if status != 0:
        raise disks.Skipped(f"strace: {error}")
    shutil.rmtree(log.root)
    with open(trace, encoding="utf-8", errors="replace") as text:
        lines = [match for match in (re.match(r"(\d+) +(\w+)\((.*)", line) for line in text) if match]
    opened = re.compile(r'AT_FDCWD, "' + re.escape(log.root) + r'([^"]*)"')
    made = {opened.match(line[3])[1] for line in lines
            if line[2] == "openat" and "O_CREAT" in line[3] and opened.match(line[3])}
    counts, points, begun = collections.Counter(), set(), not since
    for line in lines:
        if line[2] == "openat" and not (opened.match(line[3]) and opened.match(line[3])[1] in made):
            continue
        counts[line.group(1, 2)] += 1
        makes = line[2] == "mkdir" or "O_CREAT" in line[3]
        begun = begun or (makes and log.root + since in line[3])
        if begun and (line[2] != "openat" or makes):
            points.add((line[2], counts[line.group(1, 2)]))
    return sorted(points), sorted(made)
