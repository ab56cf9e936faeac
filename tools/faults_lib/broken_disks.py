"""Disks that lose, fail and delay writes, or take none."""

import contextlib
import os
import random
import subprocess

from . import disks
from .writer import Problem, Totals, kill, moment, wait


def volatile_cache(kind):
    def scenario(place):
        totals = Totals()
        image, mount = place.path("image"), place.path("mount")
        disks.make_image(image, 512)
        log = place.log(os.path.join(mount, "wal"))
        for number in range(place.rounds):
            with disks.network_disk(place.folder, image, ["cache"], ["cache=writeback"]) as disk:
                if number == 0:
                    disks.make_file_system(kind, disk.device)
                with disks.mounted(disk.device, mount, must=number > 0):

                    def die(process):
                        disk.kill()
                        kill(process)

                    log.run(moment(50, 400), die)
                    totals.faults += 1
            with disks.network_disk(place.folder, image, [], []) as disk, disks.mounted(
                    disk.device, mount, must=True):
                log.check(totals)
        return totals

    scenario.__doc__ = (
        f"A disk with a volatile cache dies under {kind} and the writer: what was not flushed is lost, O_DIRECT or not.")
    return scenario


def failing_disk(kind):
    # ext4 would go read-only at the first error: it is told to go on, and put right afterwards. xfs ends itself when
    # its journal cannot be written, and goes on from there when it is mounted.
    options = "errors=continue" if kind == "ext4" else None

    def scenario(place):
        totals = Totals()
        image, mount, switch = place.path("image"), place.path("mount"), place.path("fail")
        disks.make_image(image, 256 if kind == "ext4" else 320)
        log = place.log(os.path.join(mount, "wal"))
        parameters = [
            "error-pwrite=EIO", "error-pwrite-rate=2%", f"error-file={switch}", "rdelay=1ms", "wdelay=1ms",
        ]
        for number in range(place.rounds):
            with disks.network_disk(place.folder, image, ["error", "delay"], parameters) as disk:
                if number == 0:
                    disks.make_file_system(kind, disk.device)
                with disks.mounted(disk.device, mount, options, must=number > 0):

                    def fail(process):
                        open(switch, "w").close()
                        try:
                            process.wait(random.uniform(0.2, 1.5))
                        except subprocess.TimeoutExpired:
                            kill(process)

                    try:
                        log.run(moment(50, 300), fail)
                        totals.faults += 1
                    finally:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(switch)
            with disks.loop_device(image) as device:
                if kind == "ext4":
                    disks.run("e2fsck", "-fy", device, check=False)
                with disks.mounted(device, mount, must=True):
                    log.check(totals)
        return totals

    scenario.__doc__ = f"A disk below {kind} that fails some writes with EIO and is slow."
    return scenario


def read_only(place):
    """A file system that is read-only: reading works, writing fails with one clear line."""
    totals = Totals()
    image, mount = place.path("image"), place.path("mount")
    disks.make_image(image, 128)
    with disks.loop_device(image) as device:
        disks.make_file_system("ext4", device)
        root = os.path.join(mount, "wal")
        log = place.log(root)
        with disks.mounted(device, mount):
            log.run(300, kill)

            def remount(process):
                disks.run("mount", "-o", "remount,ro", mount, check=False)
                kill(process)

            log.run(300, remount)
            totals.faults += 1
        with disks.mounted(device, mount, "ro", must=True):
            log.check(totals)
            opened, status, error = log.run(0, wait)
            if opened or status != 3 or "read-only" not in error.lower():
                raise Problem(f"a read-only file system: status {status}, {error}")
            totals.faults += 1
    return totals
