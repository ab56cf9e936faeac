"""What is done to a log, one function a fault. Each takes a `Workplace` and returns `Totals`."""

import os
import random
import subprocess

from . import disks
from .disks import Skipped
from .writer import CrashLog, ENVIRONMENT, Problem, Totals, kill, moment, wait


class Workplace:
    """A folder of a scenario's own, and where the products are."""

    def __init__(self, products, folder, rounds):
        self.products, self.folder, self.rounds = products, folder, rounds

    def path(self, name):
        return os.path.join(self.folder, name)

    def log(self, root, path="automatic"):
        return CrashLog(self.products, self.folder, root, path)

    def walctl(self, *arguments, **options):
        return subprocess.run(
            [os.path.join(self.products, "walctl"), *arguments], capture_output=True, text=True, env=ENVIRONMENT,
            timeout=120, **options)


def kills(place):
    """SIGKILL at a random moment, twenty times on one log, then on the next, with io_uring and without."""
    totals = Totals()
    for number in range(max(2, place.rounds // 20)):
        path = ("ring", "plain")[number % 2]
        log = place.log(place.path(f"wal-{number}"), path)
        for _ in range(20):
            opened, _, error = log.run(moment(), kill)
            if not opened and "io_uring" in error:
                break
            totals.faults += 1
            log.check(totals)
    return totals


def power_cut(kind):
    def scenario(place):
        totals = Totals()
        image = place.path("image")
        disks.make_image(image, 512)
        loop = disks.LoopDevice(image)
        try:
            disks.make_file_system(kind, loop.device)
            disks.need("xfs_io")
            mount = place.path("mount")
            log = place.log(os.path.join(mount, "wal"))
            for _ in range(place.rounds):
                with disks.mounted(loop.device, mount):

                    def cut(process):
                        disks.run("xfs_io", "-x", "-c", "shutdown", mount)
                        process.wait(60)

                    log.run(moment(5, 300), cut)
                    totals.faults += 1
                with disks.mounted(loop.device, mount):
                    log.check(totals)
        finally:
            loop.detach()
        return totals

    scenario.__doc__ = f"The power of an {kind} goes (its shutdown): what was not synced is gone."
    return scenario


def volatile_cache(place):
    """A disk with a volatile cache dies under the writer: writes that were not flushed are lost, O_DIRECT or not."""
    totals = Totals()
    image = place.path("image")
    disks.make_image(image, 512)
    mount = place.path("mount")
    log = place.log(os.path.join(mount, "wal"))
    for number in range(place.rounds):
        disk = disks.NetworkDisk(place.folder, image, ["cache"], ["cache=writeback"])
        try:
            if number == 0:
                disks.make_file_system("ext4", disk.device)
            with disks.mounted(disk.device, mount):

                def die(process):
                    disk.kill()
                    kill(process)

                log.run(moment(50, 400), die)
                totals.faults += 1
        finally:
            disk.stop()
        disk = disks.NetworkDisk(place.folder, image, [], [])
        try:
            with disks.mounted(disk.device, mount):
                log.check(totals)
        finally:
            disk.stop()
    return totals


def failing_disk(place):
    """A disk that fails some writes with EIO and is slow."""
    totals = Totals()
    image = place.path("image")
    disks.make_image(image, 256)
    mount = place.path("mount")
    log = place.log(os.path.join(mount, "wal"))
    switch = place.path("fail")
    parameters = [
        "error-pwrite=EIO", "error-pwrite-rate=2%", f"error-file={switch}", "rdelay=1ms", "wdelay=1ms",
    ]
    for number in range(place.rounds):
        disk = disks.NetworkDisk(place.folder, image, ["error", "delay"], parameters)
        try:
            if number == 0:
                disks.make_file_system("ext4", disk.device)
            # Without a journal's help a file system that meets EIO would go read-only at once: also a case.
            with disks.mounted(disk.device, mount, "errors=continue"):

                def fail(process):
                    open(switch, "w").close()
                    try:
                        process.wait(random.uniform(0.2, 1.5))
                    except subprocess.TimeoutExpired:
                        kill(process)

                log.run(moment(50, 300), fail)
                totals.faults += 1
        finally:
            if os.path.exists(switch):
                os.unlink(switch)
            disk.stop()
        loop = disks.LoopDevice(image)
        try:
            disks.run("e2fsck", "-fy", loop.device, check=False)
            with disks.mounted(loop.device, mount):
                log.check(totals)
        finally:
            loop.detach()
    return totals


def full_disk(place):
    """No byte free, from open to close: opening, reading, acknowledging and reclaiming still work."""
    totals = Totals()
    image, mount = place.path("image"), place.path("mount")
    # One size of journal files throughout, the smallest that walctl takes: with another size nothing is promised here.
    options = ["--keep", "--file-kib", "1024"]
    for mebibytes in (12, 24, 48):
        disks.make_image(image, mebibytes)
        loop = disks.LoopDevice(image)
        try:
            disks.make_file_system("ext4", loop.device)
            with disks.mounted(loop.device, mount):
                root = os.path.join(mount, "wal")
                log = place.log(root)
                # Until the journal is full, which the writer says and ends.
                opened, status, error = log.run(3000, kill, options=options)
                if not opened or (status != -9 and "journal is full" not in error):
                    raise Problem(f"a full disk: {error or status}")
                totals.faults += 1
                subprocess.run(
                    ["dd", "if=/dev/zero", f"of={mount}/filler", "bs=4096"], capture_output=True, check=False)
                log.check(totals)
                for command in (["verify", root], ["cat", root, "--tenant", "tenant-0"]):
                    result = place.walctl(*command)
                    if result.returncode != 0:
                        raise Problem(f"walctl {command[0]} on a full disk: {result.stderr.strip()[:300]}")
                result = place.walctl(
                    "replay", root, "--to", "-", "--journal-file-mib", "1", "--journal-limit-mib", "256")
                if result.returncode != 0:
                    raise Problem(f"walctl replay on a full disk: {result.stderr.strip()[:300]}")
                # Reclaimed: there is room again.
                opened, status, error = log.run(300, kill, options=options)
                if not opened:
                    raise Problem(f"a log with reclaimed room does not open: {error}")
        finally:
            loop.detach()
    return totals


def read_only(place):
    """A file system that is read-only: reading works, writing fails with one clear line."""
    totals = Totals()
    image, mount = place.path("image"), place.path("mount")
    disks.make_image(image, 128)
    loop = disks.LoopDevice(image)
    try:
        disks.make_file_system("ext4", loop.device)
        root = os.path.join(mount, "wal")
        log = place.log(root)
        with disks.mounted(loop.device, mount):
            log.run(300, kill)

            def remount(process):
                disks.run("mount", "-o", "remount,ro", mount, check=False)
                kill(process)

            log.run(300, remount)
            totals.faults += 1
        with disks.mounted(loop.device, mount, "ro"):
            log.check(totals)
            opened, status, error = log.run(0, wait)
            if opened or status != 3 or "read-only" not in error.lower():
                raise Problem(f"a read-only file system: status {status}, {error}")
            totals.faults += 1
    finally:
        loop.detach()
    return totals


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


# By name: what is run, and rounds in the short form and in the long one.
ALL = {
    "kills": (kills, 200, 2000),
    "power-cut-ext4": (power_cut("ext4"), 8, 100),
    "power-cut-xfs": (power_cut("xfs"), 8, 100),
    "volatile-cache": (volatile_cache, 5, 50),
    "failing-disk": (failing_disk, 5, 50),
    "full-disk": (full_disk, 1, 1),
    "read-only": (read_only, 1, 1),
    "few-descriptors": (few_descriptors, 1, 1),
    "system-call-errors": (system_call_errors, 4, 10),
    "library-errors": (library_errors, 4, 40),
}

__all__ = ["ALL", "Skipped", "Problem", "Workplace"]
