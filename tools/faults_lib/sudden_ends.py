"""The writer's end, or the file system's, at a random moment."""

import os

from . import disks
from .writer import Totals, kill, moment


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
        image, mount = place.path("image"), place.path("mount")
        disks.make_image(image, 512)
        with disks.loop_device(image) as device:
            disks.make_file_system(kind, device)
            disks.need("xfs_io")
            log = place.log(os.path.join(mount, "wal"))
            for number in range(place.rounds):
                with disks.mounted(device, mount, must=number > 0):

                    def cut(process):
                        disks.run("xfs_io", "-x", "-c", "shutdown", mount)
                        process.wait(600)

                    log.run(moment(5, 300), cut)
                    totals.faults += 1
                with disks.mounted(device, mount, must=True):
                    log.check(totals)
        return totals

    scenario.__doc__ = f"The power of an {kind} goes (its shutdown): what was not synced is gone."
    return scenario
